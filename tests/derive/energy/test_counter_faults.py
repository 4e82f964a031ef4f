"""A counter that is misread, wraps unseen, resets, jumps or freezes: right, or refused."""

import random
from dataclasses import replace

import pytest

from slm_energy.derive.energy.usable_readings import Fault
from slm_energy.testing.waveform import constant
from tests.derive.energy.conftest import (
    COUNTER,
    MODULUS,
    MS,
    SLOW,
    WINDOW,
    S,
    change,
    counted,
    refused,
    series,
    serve,
    span,
    times,
)


def test_a_failed_reading_is_bridged_and_flagged():
    readings = change(counted(constant(50), times()), 30, None, "EACCES")
    figure = serve(readings)
    assert figure.joules == serve(counted(constant(50), times())).joules
    assert figure.flags == ("failed readings, bridged: 1; the first: EACCES",)
    assert figure.pedigree["failed"] == 1


def test_failures_for_long_are_bridged_as_long_as_no_wrap_can_hide():
    readings = counted(constant(50), times())
    for row in range(20, 50):
        readings = change(readings, row, None)
    figure = serve(readings)
    assert figure.joules == pytest.approx(50 * WINDOW.duration_s)
    assert figure.pedigree["gaps"] == 1
    assert figure.pedigree["coverage"] == pytest.approx(1 - 3.1 / WINDOW.duration_s)


def test_a_gap_that_may_hide_a_wrap_is_refused():
    source = replace(COUNTER, modulus=10_000_000_000)
    readings = counted(constant(50), times(), source)
    for row in range(20, 50):
        readings = change(readings, row, None)
    reason = refused(serve(readings))
    assert reason == "several wraps: a pause of 3.1 s may hide a wrap of the counter"


@pytest.mark.parametrize("value", [-5, MODULUS, float("nan")])
def test_an_impossible_value_is_a_failed_reading(value):
    figure = serve(change(counted(constant(50), times()), 30, value))
    assert figure.joules == pytest.approx(50 * WINDOW.duration_s)
    assert figure.pedigree["failed"] == 1


def test_all_readings_failed():
    readings = series(COUNTER, times(), [None for _ in times()], {"0": "EIO"})
    assert refused(serve(readings)) == "unread: no reading succeeded: EIO"


def test_no_readings_at_all():
    assert refused(serve(series(COUNTER, [], []))).startswith(Fault.UNREAD)


@pytest.mark.parametrize("known", [True, False])
def test_a_reset_is_no_wrap(known):
    source = COUNTER if known else replace(COUNTER, max_power_w=None)
    before = counted(constant(50), times(until_ns=3 * S), source, first_uj=90_000_000_000)
    after = counted(constant(50), times(until_ns=5 * S), source)
    readings = series(source, times(), before.raw + after.raw)
    reason = refused(serve(readings))
    assert reason == "reset: the counter went from 90145000000 to 0 uJ within 0.1 s"


@pytest.mark.parametrize("row", [11, 30, 60, 61])
def test_a_jump_is_misread(row):
    raw = counted(constant(50), times()).raw
    jumped = [*raw[:row], *(value + 100_000_000_000 for value in raw[row:])]
    assert refused(serve(series(COUNTER, times(), jumped))).startswith(Fault.JUMP)


def test_a_counter_without_modulus_may_not_go_back():
    source = replace(COUNTER, modulus=None, max_power_w=None)
    readings = change(counted(constant(50), times(), source), 30, 1)
    assert refused(serve(readings)).startswith(Fault.RESET)
    readings = change(counted(constant(50), times(), source), 30, 140_000_000)
    assert refused(serve(readings)).startswith(Fault.BACKWARD)


def test_a_reset_outside_the_window_does_not_matter():
    readings = change(counted(constant(50), times()), 2, 200_000_000_000)
    assert serve(readings).joules == pytest.approx(50 * WINDOW.duration_s)


def test_a_frozen_counter_is_refused():
    readings = series(COUNTER, times(), [7_000_000 for _ in times()])
    assert refused(serve(readings)) == (
        "frozen: the counter was stuck for 1 s or longer; it stayed at 7000000 uJ for 7.9 s, all"
        " the trial: measurement.leave_out=[rapl/0] leaves it out of the sum"
    )


def test_a_counter_that_freezes_half_way_is_refused():
    raw = counted(constant(50), times()).raw
    stuck = [min(value, raw[35]) for value in raw]
    assert refused(serve(series(COUNTER, times(), stuck))).startswith(Fault.FROZEN)


def test_the_sampler_started_too_late():
    assert refused(serve(counted(constant(50), times()[11:]))).startswith(Fault.LATE)


def test_the_sampler_stopped_early():
    readings = counted(constant(50), times(until_ns=6 * S))
    assert refused(serve(readings)).startswith(Fault.EARLY)


def test_a_stopped_sampler_is_refused():
    at = [t for t in times() if not 2 * S < t < 4 * S]
    reason = refused(serve(counted(constant(50), at)))
    assert reason.startswith("sampler stalled: nothing was read for 2 s")
    assert "max_gap_s (1 s)" in reason


@pytest.mark.parametrize(
    ("watts", "fault"), [(1999, None), (2021, None), (2023, Fault.JUMP), (4000, Fault.JUMP)]
)
def test_no_more_is_counted_than_the_device_can_draw(watts, fault):
    # In 100 ms and the 1.1 ms that a value may be stale.
    raw = list(counted(constant(50), times()).raw)
    more = watts * 100_000 - 5_000_000
    figure = serve(series(COUNTER, times(), raw[:30] + [value + more for value in raw[30:]]))
    assert (fault is None) == (figure.joules is not None)
    assert fault is None or refused(figure).startswith(fault)


@pytest.mark.parametrize(("watts", "known"), [(1_000_000, True), (1_012_000, False)])
def test_no_machine_draws_a_megawatt(watts, known):
    # In 100 ms and the 1.1 ms that a value may be stale.
    source = replace(COUNTER, modulus=None, max_power_w=None)
    raw = list(counted(constant(50), times(), source).raw)
    raw[30:] = [value + watts * 100_000 for value in raw[30:]]
    figure = serve(series(source, times(), raw))
    assert known == (figure.joules is not None)
    assert known or refused(figure).startswith(Fault.JUMP)


def test_half_a_round_takes_the_longest_pause_and_the_time_that_a_value_may_be_stale():
    # 500 J in 1 s and 110 ms: no more than 275 J in 500 ms and 110 ms.
    source = replace(COUNTER, modulus=1_000_000_000, max_power_w=None, update_period_ns=100 * MS)
    at = times(500 * MS)
    for step_j, known in ((274, True), (276, False)):
        raw = [t // (500 * MS) * step_j * 10**6 % 10**9 for t in at]
        figure = serve(series(source, at, raw), span(S, 6 * S))
        assert known == (figure.joules is not None)
    assert refused(figure).startswith(Fault.JUMP)


def test_half_a_round_within_the_longest_pause_is_past_belief():
    source = replace(COUNTER, modulus=1_000_000_000, max_power_w=None)
    at = [0, 500 * MS, 1000 * MS, 1500 * MS, 2000 * MS, 2500 * MS, 3000 * MS]
    window = span(600 * MS, 2300 * MS)
    slow, fast = ([t * watts // 1000 % 10**9 for t in at] for watts in (400, 600))
    assert serve(series(source, at, slow), window).pedigree["wraps"] == 1
    assert refused(serve(series(source, at, fast), window)).startswith(Fault.JUMP)


def test_a_counter_may_stand_still_for_ten_periods_but_not_for_longer():
    source = replace(SLOW, update_period_ns=200 * MS)
    at = times(50 * MS, until_ns=12 * S)
    for stands_ms, known in ((1950, True), (2000, False)):
        still = range(3 * S, 3 * S + stands_ms * MS + 1)
        raw = [50 * (3 * S if t in still else t) // MS for t in at]
        figure = serve(series(source, at, raw), span(S, 9 * S))
        assert known == (figure.joules is not None)
    assert refused(figure) == "frozen: the counter was stuck for 2 s or longer"


@pytest.mark.parametrize(("stands_s", "known"), [(11, True), (12, False)])
def test_a_counter_of_coarse_steps_may_stand_still_for_ten_of_them(stands_s, known):
    # 10 J every second for 101 s, less those in which it stands: 1.12 s or 1.13 s for each step.
    source = replace(COUNTER, resolution=10_000_000)
    at = range(1000 * S, 1110 * S, S)
    raw = [10 * 10**6 * (t - min(max(t, 50), 50 + stands_s) + 50) for t in range(110)]
    figure = serve(series(source, at, raw), span(1003 * S, 1103 * S))
    assert known == (figure.joules is not None)
    assert known or refused(figure).startswith("frozen: the counter was stuck for 11.")


def test_a_counter_of_few_steps_is_frozen_after_a_second_where_no_resolution_is_known():
    source = replace(SLOW, update_period_ns=None)
    raw = [min(t, 3 * S) // (200 * MS) for t in times()]
    assert "for 1 s or longer" in refused(serve(series(source, times(), raw)))


def test_a_counter_stands_still_by_the_clock_and_not_by_the_count_of_readings():
    at = [*times(500 * MS, until_ns=3 * S), *times()[30:]]
    raw = [50 * (3 * S if 3 * S <= t <= 3900 * MS else t) // 1000 for t in at]
    assert serve(series(COUNTER, at, raw)).joules == pytest.approx(50 * WINDOW.duration_s)


def test_a_counter_may_stop_after_the_window():
    stands = [*times(until_ns=6200 * MS), *range(7100 * MS, 9 * S, 100 * MS)]
    raw = [50 * min(t, 6100 * MS) // 1000 for t in stands]
    figure = serve(series(COUNTER, stands, raw), span(S, 6 * S))
    assert figure.low_j <= 250 <= figure.high_j


@pytest.mark.parametrize(("pause_s", "known"), [(3, True), (3.2, False)])
def test_a_slow_counter_may_be_left_alone_for_three_of_its_periods(pause_s, known):
    source = replace(SLOW, update_period_ns=S)
    at = [t for t in times(until_ns=20 * S) if not 9 * S < t < (9 + pause_s) * S]
    raw = [t // S * 50_000 for t in at]
    assert known == (serve(series(source, at, raw), span(5 * S, 15 * S)).joules is not None)


@pytest.mark.parametrize(("failed", "known"), [(24, True), (25, False)])
def test_a_pause_may_hide_no_wrap_as_long_as_half_a_round_takes(failed, known):
    # Half a round is 5000 J, which take 2.5 s.
    source = replace(COUNTER, modulus=10_000_000_000, update_period_ns=0)
    readings = counted(constant(50), times(), source)
    for row in range(20, 20 + failed - 1):
        readings = change(readings, row, None)
    assert known == (serve(readings).joules is not None)


@pytest.mark.parametrize(
    ("share", "fault"), [(0.4, Fault.RESET), (0.5, Fault.RESET), (0.6, Fault.BACKWARD)]
)
def test_a_counter_that_falls_to_half_or_below_began_again(share, fault):
    source = replace(COUNTER, modulus=None)
    raw = list(counted(constant(50), times(), source).raw)
    raw[30:] = [round(share * raw[29])] * 50
    assert refused(serve(series(source, times(), raw))).startswith(fault)


def test_a_reset_just_before_the_window_does_not_matter():
    for row in (7, 8):
        readings = change(counted(constant(50), times()), row, 200_000_000_000)
        assert serve(readings).joules == pytest.approx(50 * WINDOW.duration_s)


def test_the_first_and_the_last_reading_of_all_vouch_for_their_neighbours():
    # One reading lies before those around the window, at 0.1 s and 6.1 s, and one after them.
    source = replace(COUNTER, modulus=None)
    at = times(until_ns=6300 * MS)
    raw = counted(constant(50), at, source).raw
    for wrong in ([raw[1] + 1, *raw[1:]], [*raw[:-1], raw[-2] - 1]):
        figure = serve(series(source, at, wrong), span(150 * MS, 6050 * MS))
        assert refused(figure).startswith(Fault.BACKWARD)


@pytest.mark.parametrize("row", [10, 61])
def test_the_outer_readings_may_be_misread_too(row):
    source = replace(COUNTER, modulus=None)
    readings = counted(constant(50), times(), source)
    window = span(S, 6050 * MS)
    wrong = readings.raw[row - 2] - 1 if row == 10 else readings.raw[row + 1] + 1
    assert refused(serve(change(readings, row, wrong), window)).startswith(Fault.BACKWARD)


def test_a_counter_is_frozen_by_its_own_readings_and_not_by_earlier_ones():
    at = [*range(0, S, 10 * MS), *range(S, 8 * S, 100 * MS)]
    raw = [50 * min(t, 3 * S) // 1000 for t in at]
    assert "for 1 s or longer" in refused(serve(series(COUNTER, at, raw)))


def late(rng, *, period_ns, share, late_ns, watts):
    """Readings 1 ms apart of a counter, some of whose publications come late."""
    at = range(0, 8 * S, MS)
    published = [
        tick + (late_ns if rng.random() < share else 0) for tick in range(0, 8 * S, period_ns)
    ]
    raw, shown = [], 0
    for t in at:
        while published and published[0] <= t:
            # A late value carries all energy until it is shown.
            shown = max(shown, watts * published.pop(0) // 10**6)
        raw.append(shown)
    return at, raw


@pytest.mark.parametrize(
    ("period_ns", "share", "late_ns", "load"),
    [(20 * MS, 0.01, 60 * MS, 0.95), (100 * MS, 0.03, 300 * MS, 0.75)],
)
def test_a_late_publication_near_the_power_limit_is_no_jump(period_ns, share, late_ns, load):
    source = replace(SLOW, update_period_ns=period_ns, max_power_w=400.0)
    watts = round(400 * load)
    late_windows = 0
    for seed in range(40):
        rng = random.Random(seed)
        at, raw = late(rng, period_ns=period_ns, share=share, late_ns=late_ns, watts=watts)
        figure = serve(series(source, at, raw))
        truth_j = watts * WINDOW.duration_s
        assert figure.joules == pytest.approx(truth_j, rel=0.02)
        assert figure.low_j <= truth_j <= figure.high_j
        late_windows += max(map(int.__sub__, raw[1:], raw)) > watts * period_ns * 1.5 // 10**6
    assert late_windows > 20


@pytest.mark.parametrize("more_j", [20, 200])
def test_a_jump_is_refused_right_after_a_late_publication_too(more_j):
    source = replace(SLOW, update_period_ns=20 * MS, max_power_w=400.0)
    at, raw = late(random.Random(0), period_ns=20 * MS, share=0.01, late_ns=60 * MS, watts=380)
    steps = list(map(int.__sub__, raw[1:], raw))
    row = max(range(2000, 6000), key=steps.__getitem__) + 1
    for begin in (row, row + 30):  # it carries more than its pause allows, or comes later
        jumped = [*raw[:begin], *(value + 1000 * more_j for value in raw[begin:])]
        assert refused(serve(series(source, at, jumped))).startswith(Fault.JUMP)
