"""A baseline as a sample of the long run."""

import random
from dataclasses import replace

import pytest

from slm_energy.derive.energy.steadiness import unsteadiness_j
from slm_energy.testing.waveform import constant, stairs
from tests.derive.energy.conftest import (
    COUNTER,
    MS,
    POWER,
    S,
    counted,
    powered,
    series,
    serve,
    span,
    times,
)

BASELINE = span(2 * S, 12 * S)
AT = times(until_ns=14 * S)
T_975 = {10: 2.262, 8: 2.365, 4: 3.182}
"""Quantiles of Student's t for so many blocks, from a printed table."""


def bursty(rng, burst_s, rest_s):
    """30 W, and 80 W in bursts; and the mean in the long run."""
    time_ns, levels, burst = -5 * S, [], rng.random() < burst_s / (burst_s + rest_s)
    while time_ns < 15 * S:
        levels.append((time_ns, 80_000 if burst else 30_000))
        time_ns += 1 + round(rng.expovariate(1 / (burst_s if burst else rest_s)) * S)
        burst = not burst
    return stairs(levels), (80 * burst_s + 30 * rest_s) / (burst_s + rest_s)


@pytest.mark.parametrize(("burst_s", "rest_s"), [(0.05, 0.45), (0.1, 1.0), (0.3, 1.5)])
def test_the_long_run_is_inside_for_bursty_idle(burst_s, rest_s):
    inside, inside_without = 0, 0
    for seed in range(40):
        curve, mean_w = bursty(random.Random(seed), burst_s, rest_s)
        readings = counted(curve, AT)
        figure = serve(readings, BASELINE)
        below_j, above_j = unsteadiness_j([readings], BASELINE, max_gap_ns=S)
        truth_j = mean_w * BASELINE.duration_s
        inside += figure.low_j - below_j <= truth_j <= figure.high_j + above_j
        inside_without += figure.low_j <= truth_j <= figure.high_j
    assert inside >= 36  # 96 to 99 %: benchmarks/coverage.py --baseline
    assert inside_without <= 12


def test_steady_idle_is_known_well():
    below_j, above_j = unsteadiness_j([counted(constant(30), AT)], BASELINE, max_gap_ns=S)
    assert below_j == pytest.approx(0, abs=0.3)
    assert above_j == pytest.approx(0, abs=0.5)


def test_sources_are_added_before_their_blocks_are_compared():
    # What one draws more, the other draws less: the sum is steady.
    turns = [(t * S, 20_000 + t % 2 * 40_000) for t in range(15)]
    one, other = (
        counted(stairs(levels), AT) for levels in (turns, [(t, 80_000 - w) for t, w in turns])
    )
    alone_j, _ = unsteadiness_j([one], BASELINE, max_gap_ns=S)
    both_j, _ = unsteadiness_j([one, other], BASELINE, max_gap_ns=S)
    assert both_j < alone_j / 10


def test_power_has_blocks_too():
    curve, _ = bursty(random.Random(1), 0.3, 1.5)
    by_counter, _ = unsteadiness_j([counted(curve, AT)], BASELINE, max_gap_ns=S)
    by_power, _ = unsteadiness_j([powered(curve, AT, POWER)], BASELINE, max_gap_ns=S)
    assert by_power == pytest.approx(by_counter, rel=0.2)


@pytest.mark.parametrize("step_ns", [1300 * MS, 5 * S])
def test_few_readings_cannot_tell(step_ns):
    assert (
        unsteadiness_j([counted(constant(30), times(step_ns, 14 * S))], BASELINE, max_gap_ns=9 * S)
        is None
    )


def test_no_sources_cannot_tell():
    assert unsteadiness_j([], BASELINE, max_gap_ns=S) is None


def test_a_block_that_is_unknown_leaves_it_unknown():
    readings = counted(constant(30), [t for t in AT if not 5 * S < t < 7 * S])
    assert unsteadiness_j([readings], BASELINE, max_gap_ns=S) is None


@pytest.mark.parametrize(("seconds", "blocks"), [(10, 10), (1.6, 8), (0.8, 4)])
def test_the_spread_of_equal_blocks_is_that_of_the_whole(seconds, blocks):
    # Blocks of 3 J and 5 J in turn.
    length_ns = round(seconds * S) // blocks
    turns = [(n * length_ns + 2 * S, (3, 5)[n % 2] * 10**12 // length_ns) for n in range(blocks)]
    curve = stairs([(0, turns[0][1]), *turns])
    at = [2 * S + n * 100 * MS for n in range(-8, 120)]
    window = span(2 * S, 2 * S + blocks * length_ns)
    found = unsteadiness_j([counted(curve, at)], window, max_gap_ns=S)
    deviation_j = (blocks / (blocks - 1)) ** 0.5
    half_j = T_975[blocks] * deviation_j * blocks**0.5
    assert found == pytest.approx((half_j, half_j + 2 * 2), rel=0.02)


@pytest.mark.parametrize(("seconds", "known"), [(0.9, True), (0.75, False)])
def test_four_blocks_of_two_readings_are_enough(seconds, known):
    window = span(2 * S, 2 * S + round(seconds * S))
    found = unsteadiness_j([counted(constant(30), AT)], window, max_gap_ns=S)
    assert (found is not None) == known


@pytest.mark.parametrize("quality", [{"update_period_ns": S}, {"averaging_ns": S}])
def test_a_sensor_that_is_slow_has_longer_blocks(quality):
    readings = powered(constant(30), AT, replace(POWER, **quality))
    assert unsteadiness_j([readings], span(2 * S, 9 * S), max_gap_ns=S) is None
    assert unsteadiness_j([readings], span(2 * S, 10 * S), max_gap_ns=S) is not None


def test_readings_of_a_late_sensor_are_looked_for_later():
    lag = replace(COUNTER, lag_ns=3 * S, lag_error_ns=500 * MS)
    curve = stairs([(0, 30_000), (5 * S, 60_000), (7 * S, 30_000)])
    prompt = counted(curve, times(until_ns=20 * S))
    late = series(lag, [t + 3 * S for t in prompt.before_ns], prompt.raw)
    found = [unsteadiness_j([each], BASELINE, max_gap_ns=S) for each in (prompt, late)]
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_a_block_of_a_part_time_counter_may_be_short():
    part_time = replace(COUNTER, update_period_ns=100 * MS, averaging_ns=25 * MS)
    readings = counted(constant(30), times(50 * MS, 14 * S), part_time)
    below_j, _ = unsteadiness_j([readings], span(2 * S, 4 * S), max_gap_ns=S)
    assert below_j == pytest.approx(0, abs=1)
