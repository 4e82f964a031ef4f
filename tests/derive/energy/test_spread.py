"""Counters that see part of the time, or add noise."""

import random
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest

from slm_energy.derive.energy.usable_readings import Fault
from slm_energy.testing.waveform import Waveform, constant
from tests.derive.energy.conftest import MS, SLOW, S, counted, refused, series, serve, span

PERIOD_NS = 100 * MS
PART_TIME = replace(SLOW, averaging_ns=25 * MS)
TICKS = range(0, 14 * S, PERIOD_NS)
SPAN = span(2 * S, 12 * S)


def observed(waveform, source=PART_TIME):
    """Readings around each tick of a counter that takes 25 ms for all of 100 ms."""
    steps = [
        (waveform.energy_pj(tick) - waveform.energy_pj(tick - 25 * MS)) * 4 // 10**9
        for tick in TICKS
    ]
    values = list(accumulate(steps, initial=0))
    at = [tick + shift for tick in TICKS for shift in (-MS, MS)]
    raw = [value for pair in pairwise(values) for value in pair]
    return series(source, at, raw)


def test_steady_power_is_known_from_a_part_of_the_time():
    figure = serve(observed(constant(200)), SPAN)
    assert figure.joules == pytest.approx(2000, rel=0.002)
    assert figure.pedigree["part_time_j"] == pytest.approx(0, abs=0.1)
    assert figure.pedigree["observed_share"] == 0.25
    assert "certain_low_j" not in figure.pedigree
    assert figure.flags[0].startswith("the sensor observes 25 % of the time")


@pytest.mark.parametrize("cycle_ms", [23, 70, 90, 103, 133, 270])
def test_the_interval_is_as_wide_as_the_spread_of_what_was_seen(cycle_ms):
    load = Waveform(steps=((cycle_ms * MS // 2, 300_000), (cycle_ms * MS // 2, 60_000)))
    truth_j = load.joules(SPAN.start_ns, SPAN.end_ns)
    figure = serve(observed(load), SPAN)
    assert figure.low_j <= truth_j <= figure.high_j
    assert figure.pedigree["part_time_j"] > 0
    # The same readings, taken for those of a sensor that sees everything, are too certain.
    blind = serve(observed(load, SLOW), SPAN)
    assert blind.high_j - blind.low_j < figure.high_j - figure.low_j


def test_a_period_cut_by_an_edge_may_be_observed_on_either_side_of_it():
    load = Waveform(steps=((2 * S, 60_000), (10 * S, 300_000), (100 * S, 60_000)))
    for shift_ms in (0, 20, 50, 80):
        window = span(2 * S + shift_ms * MS, 12 * S - shift_ms * MS)
        figure = serve(observed(load), window)
        truth_j = load.joules(window.start_ns, window.end_ns)
        assert figure.low_j <= truth_j <= figure.high_j


def test_a_part_time_sensor_needs_some_periods():
    reason = refused(serve(observed(constant(200)), span(2050 * MS, 2350 * MS)))
    assert reason.startswith(f"{Fault.SHORT}: the sensor observes 0.025 s of each 0.1 s")


def test_a_noisy_counter_has_an_interval_for_its_noise():
    source = replace(SLOW, update_period_ns=10 * MS, max_power_w=2000.0, step_noise_pct=50.0)
    inside, rng = 0, random.Random(3)
    for _ in range(40):
        steps = [500 * rng.uniform(0.5, 1.5) for _ in range(1400)]  # 50 W
        raw = [round(value) for value in accumulate(steps)]
        figure = serve(series(source, range(0, 14 * S, 10 * MS), raw), SPAN)
        inside += figure.low_j <= 500 <= figure.high_j
    assert inside >= 38
    # Three standard errors of 1000 steps, each off by up to a half.
    assert figure.pedigree["filter_j"] == pytest.approx(
        3 * 0.5 / 3**0.5 * figure.joules / 1000**0.5
    )
    assert "filter_j" not in serve(counted(constant(50), range(0, 14 * S, 10 * MS))).pedigree
