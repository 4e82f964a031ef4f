"""Counters that show nothing for a while: the window they need, and what is said without it."""

import dataclasses
import random
import re

import pytest

from slm_energy.derive.energy.accounting import account, shortest_window_s
from slm_energy.derive.energy.coarse import next_step_s, too_coarse
from slm_energy.record import Source, Window
from slm_energy.testing.scenes import Scene, record
from slm_energy.testing.waveform import constant

S, WH = 10**9, 3_600_000
PLUG = Source(
    id="wall/energy",
    kind="counter",
    domain="wall",
    unit="mJ",
    update_period_ns=S,
    resolution=WH,
    quantum=WH,
    max_power_w=20_000.0,
    summed=True,
)


def recorded(step_mj, watts, seconds, seed=0):
    """A plug at constant power, and a window at any moment between two of its steps."""
    chance = random.Random(seed)
    start_ns = 100 * S + chance.randrange(100 * S)
    window = Window(name="serve", start_ns=start_ns, end_ns=start_ns + round(seconds * S))
    source = dataclasses.replace(PLUG, quantum=step_mj, resolution=step_mj)
    scene = Scene(
        name="plug",
        source=source,
        waveform=constant(watts),
        window=window,
        step_ns=S,
        cost_ns=30_000_000,
        first_raw=chance.randrange(10**9),
    )
    return record(scene, spare=18)


def error_of(recording):
    """Half of the interval's width relative to the truth, which must be inside."""
    figure = account(recording.series, recording.window, max_gap_ns=3 * S)
    assert figure.low_j <= recording.truth_j <= figure.high_j
    return (figure.high_j - figure.low_j) / 2 / recording.truth_j


@pytest.mark.parametrize(("step_mj", "watts"), [(WH, 300), (60_000, 60), (3600, 60)])
def test_a_window_of_the_stated_length_is_as_accurate_as_it_was_asked_for(step_mj, watts):
    plug = dataclasses.replace(PLUG, quantum=step_mj, idle_w=float(watts))
    seconds = shortest_window_s(plug, 0.01)
    for seed in range(10):
        assert error_of(recorded(step_mj, watts, seconds, seed)) <= 0.01


def test_a_hundred_seconds_are_not_enough_for_watt_hours():
    """What the update period of 1 s alone would say."""
    assert max(error_of(recorded(WH, 300, 100, seed)) for seed in range(10)) > 0.15


def test_steps_of_a_watt_hour_take_hours_at_idle_power():
    assert shortest_window_s(dataclasses.replace(PLUG, idle_w=60.0), 0.01) == pytest.approx(12_300)


def test_without_the_power_the_window_is_unknown():
    assert shortest_window_s(PLUG, 0.01) is None


def test_a_figure_from_too_short_a_window_names_the_step_and_the_window_it_takes():
    recording = recorded(WH, 300, 100)
    figure = account(recording.series, recording.window, max_gap_ns=3 * S)
    assert figure.pedigree["step_j"] == 3600
    text = too_coarse(figure, recording.window, 0.01)
    assert text.startswith("wall/energy counts in steps of 3,600 J: the window of 100 s is known")
    needed_s = float(text.rpartition("measurement.serve_s=")[2])
    assert needed_s == pytest.approx(2400, rel=0.03)


def test_a_figure_from_a_window_that_is_long_enough_needs_no_word():
    recording = recorded(60_000, 60, 500)
    figure = account(recording.series, recording.window, max_gap_ns=3 * S)
    assert too_coarse(figure, recording.window, 0.01) is None


def test_the_step_is_that_of_the_values_whatever_the_first_answer_looked_like():
    recording = recorded(WH, 300, 200)
    misled = dataclasses.replace(recording.series.source, quantum=1, resolution=1)
    series = dataclasses.replace(recording.series, source=misled)
    right = account(recording.series, recording.window, max_gap_ns=3 * S)
    assert account(series, recording.window, max_gap_ns=3 * S) == right


def test_a_window_without_a_step_is_refused_with_the_step():
    recordings = [recorded(WH, 60, 100, seed) for seed in range(10)]
    reasons = [
        reason
        for recording in recordings
        for reason in account(recording.series, recording.window, max_gap_ns=3 * S).reasons
    ]
    assert len(reasons) >= 3
    for reason in reasons:
        needed_s, watts = re.search(
            r"steps of 3,600 J: .*_s=(\d+) gives 1 % at (\S+) W", reason
        ).groups()
        assert float(needed_s) * float(watts) == pytest.approx(2 * 3600 / 0.01, rel=0.01)


def test_a_counter_that_never_moved_says_so():
    recording = recorded(WH, 60, 20, seed=1)
    source = dataclasses.replace(PLUG, idle_w=60.0)
    raw = (7 * WH,) * len(recording.series.raw)
    still = dataclasses.replace(recording.series, source=source, raw=raw)
    (reason,) = account(still, recording.window, max_gap_ns=3 * S).reasons
    assert "it stayed at 25200000 mJ for" in reason
    assert reason.endswith(
        "; it counts in steps of 3,600 J: measurement.serve_s=12000 gives 1 % at 60 W"
    )


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"idle_w": 60.0}, 90.0),
        ({"idle_w": 1.0}, 600.0),
        ({"idle_w": None}, 0.0),
        ({"idle_w": 60.0, "summed": False}, 0.0),
        ({"idle_w": 60.0, "quantum": 1}, 0.0),
    ],
)
def test_after_a_window_it_is_read_until_it_has_shown_another_step(changes, seconds):
    assert next_step_s(dataclasses.replace(PLUG, **changes)) == seconds
