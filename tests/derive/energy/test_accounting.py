"""Joules against closed-form integrals, and every fault either right or refused."""

import math
import statistics
from dataclasses import replace
from fractions import Fraction

import pytest

from slm_energy.derive.energy.accounting import account, summarise, total
from slm_energy.derive.energy.usable_readings import Fault
from slm_energy.record import EnergyFigure, Series, Source, Window
from slm_energy.testing.waveform import Waveform, constant, stairs

S = 10**9
MS = 10**6
GAP = 1 * S
MODULUS = 262_143_328_851

COUNTER = Source(
    id="rapl/0",
    kind="counter",
    domain="cpu_package",
    unit="uJ",
    modulus=MODULUS,
    update_period_ns=MS,
    max_power_w=2000.0,
    summed=True,
)
POWER = Source(id="nvml/0/power", kind="power", domain="gpu", unit="mW", summed=True)
GAUGE = Source(id="cpu_utilization_percentage", kind="gauge", domain="cpu", unit="pct")
WINDOW = Window(name="serve", start_ns=1 * S + 37 * MS, end_ns=6 * S + 51 * MS)
BUSY = Waveform(steps=((S, 20_000), (2 * S, 80_000), (S // 2, 45_000)))


def times(step_ns=100 * MS, until_ns=8 * S):
    return range(0, until_ns, step_ns)


def counted(waveform, at, source=COUNTER, first_uj=0):
    """Readings of a counter that is always up to date."""
    raw = [first_uj + waveform.energy_pj(t) // 10**6 for t in at]
    return series(source, at, [value % (source.modulus or value + 1) for value in raw])


def series(source, at, raw, errors=None):
    return Series(
        source=source,
        before_ns=tuple(at),
        raw=tuple(raw),
        after_ns=tuple(at),
        errors=errors or {},
    )


def powered(waveform, at, source=POWER):
    return series(source, at, [waveform.power_mw(t) for t in at])


def change(readings, row, raw, error=None):
    values = list(readings.raw)
    values[row] = raw
    return replace(readings, raw=tuple(values), errors={str(row): error} if error else {})


def serve(readings, window=WINDOW):
    return account(readings, window, max_gap_ns=GAP)


def span(start_ns, end_ns):
    return Window(name="serve", start_ns=start_ns, end_ns=end_ns)


def refused(figure):
    assert (figure.joules, figure.low_j, figure.high_j) == (None, None, None)
    (reason,) = figure.reasons
    return reason


# --- counters ---------------------------------------------------------------------------------


def test_a_steady_counter_is_exact_between_readings_too():
    figure = serve(counted(constant(50), times()))
    assert figure.joules == float(Fraction(50) * (WINDOW.end_ns - WINDOW.start_ns) / S)
    assert figure.low_j < figure.joules < figure.high_j
    assert figure.reasons == ()


def test_a_window_on_readings_equals_the_integral():
    window = Window(name="serve", start_ns=1 * S, end_ns=6 * S)
    figure = serve(counted(BUSY, times()), window)
    assert figure.joules == BUSY.joules(window.start_ns, window.end_ns)


@pytest.mark.parametrize("step_ms", [10, 70, 333, 500])
def test_the_interval_contains_the_truth_of_a_busy_load(step_ms):
    figure = serve(counted(BUSY, times(step_ms * MS)))
    assert figure.low_j <= BUSY.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


@pytest.mark.parametrize("period_ms", [20, 100])
@pytest.mark.parametrize("shift_ms", [0, 13, 50, 99])
def test_the_interval_contains_the_truth_of_a_counter_that_lags(period_ms, shift_ms):
    source = replace(COUNTER, update_period_ns=period_ms * MS)
    at = [t + shift_ms * MS for t in times(30 * MS)]
    published = [BUSY.energy_pj(t // (period_ms * MS) * period_ms * MS) // 10**6 for t in at]
    figure = serve(series(source, at, published))
    assert figure.low_j <= BUSY.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


@pytest.mark.parametrize("first_j", [0, 100_000, 262_000, 262_100, 262_142])
def test_the_figure_does_not_depend_on_where_the_counter_wraps(first_j):
    figure = serve(counted(BUSY, times(), first_uj=first_j * 10**6))
    assert figure.joules == serve(counted(BUSY, times())).joules


@pytest.mark.parametrize(("wraps_ms", "wraps"), [(500, 0), (3050, 1), (6150, 0)])
def test_wraps_within_the_window_are_counted_in_the_pedigree(wraps_ms, wraps):
    figure = serve(counted(constant(50), times(), first_uj=MODULUS - wraps_ms * 50_000))
    assert figure.pedigree["wraps"] == wraps


@pytest.mark.parametrize("offset_ns", [0, 1_790_000_000 * S])
def test_time_since_1970_costs_no_precision(offset_ns):
    at = [t + offset_ns for t in times()]
    window = Window(name="serve", start_ns=S + offset_ns, end_ns=6 * S + offset_ns)
    waveform = replace(BUSY, start_ns=offset_ns)
    assert serve(counted(waveform, at), window).joules == BUSY.joules(S, 6 * S)


def test_adjacent_windows_add_up():
    readings = counted(constant(50), times())
    whole, left, right = (
        serve(readings, Window(name="serve", start_ns=a * S, end_ns=b * S))
        for a, b in ((1, 7), (1, 3), (3, 7))
    )
    assert left.joules + right.joules == whole.joules


def test_millijoules_have_the_same_size():
    source = replace(COUNTER, unit="mJ", modulus=None, max_power_w=None)
    figure = serve(series(source, times(), [t * 50 // 10**6 for t in times()]))
    assert figure.joules == pytest.approx(50 * WINDOW.duration_s)


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


def test_failures_at_an_edge_widen_the_interval():
    whole = counted(constant(50), times())
    broken = whole
    for row in range(8, 13):
        broken = change(broken, row, None)
    assert serve(broken).high_j > serve(whole).high_j
    assert serve(broken).low_j < serve(whole).low_j


@pytest.mark.parametrize("value", [-5, MODULUS, float("nan")])
def test_an_impossible_value_is_a_failed_reading(value):
    figure = serve(change(counted(constant(50), times()), 30, value))
    assert figure.joules == pytest.approx(50 * WINDOW.duration_s)
    assert figure.pedigree["failed"] == 1


def test_a_second_reading_of_the_same_moment_is_left_out():
    at = [*times()]
    readings = counted(constant(50), sorted([*at, at[30] - 1]))
    swapped = replace(readings, after_ns=tuple(t + 1 for t in readings.before_ns))
    assert serve(swapped).joules == pytest.approx(50 * WINDOW.duration_s)


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
    assert refused(serve(readings)) == "frozen: the counter stood still for 1 s or longer"


def test_a_counter_that_freezes_half_way_is_refused():
    raw = counted(constant(50), times()).raw
    stuck = [min(value, raw[35]) for value in raw]
    assert refused(serve(series(COUNTER, times(), stuck))).startswith(Fault.FROZEN)


def test_a_window_too_short_for_the_counter_is_not_zero():
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = times(10 * MS)
    raw = [constant(50).energy_pj(t // (100 * MS) * 100 * MS) // 10**6 for t in at]
    window = Window(name="serve", start_ns=S + 20 * MS, end_ns=S + 60 * MS)
    reason = refused(serve(series(source, at, raw), window))
    assert reason.startswith("window too short: 0.04 s, but the counter is renewed every 0.1 s")


def test_the_sampler_started_too_late():
    assert refused(serve(counted(constant(50), times()[11:]))).startswith(Fault.LATE)


def test_the_sampler_stopped_early():
    readings = counted(constant(50), times(until_ns=6 * S))
    assert refused(serve(readings)).startswith(Fault.EARLY)


@pytest.mark.parametrize(("more_ms", "known"), [(100, False), (109, False), (110, True)])
def test_a_reading_too_soon_after_the_end_may_not_know_the_end(more_ms, known):
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = [*times(until_ns=6 * S), WINDOW.end_ns - 1, WINDOW.end_ns + more_ms * MS]
    figure = serve(counted(constant(50), at, source))
    assert known or refused(figure).startswith(Fault.EARLY)
    assert known == (figure.joules is not None)


def test_a_new_value_is_newer_than_the_reading_before_it():
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = [*times(until_ns=6 * S), WINDOW.end_ns, WINDOW.end_ns + 1 * MS]
    assert serve(counted(constant(50), at, source)).joules is not None
    at[-2] -= 1
    assert refused(serve(counted(constant(50), at, source))).startswith(Fault.EARLY)


def test_a_stopped_sampler_is_refused():
    at = [t for t in times() if not 2 * S < t < 4 * S]
    reason = refused(serve(counted(constant(50), at)))
    assert reason.startswith("sampler stalled: nothing was read for 2 s")
    assert "max_gap_s (1 s)" in reason


def test_an_empty_window_is_refused():
    window = Window(name="serve", start_ns=S, end_ns=S)
    reason = refused(serve(counted(constant(50), times()), window))
    assert reason == "empty window: it ends before it begins"


def test_the_pedigree_names_the_source():
    source = replace(COUNTER, device="package-0", path="/sys/energy_uj")
    pedigree = serve(counted(constant(50), times(), source)).pedigree
    assert pedigree["device"] == "package-0"
    assert pedigree["path"] == "/sys/energy_uj"
    assert pedigree["update_period_s"] == 0.001
    assert pedigree["readings"] == 52
    assert pedigree["coverage"] == 1
    assert pedigree["largest_gap_s"] == 0.1


# --- estimates --------------------------------------------------------------------------------


def test_an_estimate_keeps_its_kind_and_says_what_it_is():
    source = replace(COUNTER, kind="estimate", modulus=None, max_power_w=None, summed=False)
    figure = serve(counted(constant(28), times(500 * MS), source))
    assert figure.kind == "estimate"
    assert figure.joules == pytest.approx(28 * WINDOW.duration_s)
    assert "not the model's own error" in figure.flags[0]


# --- power ------------------------------------------------------------------------------------


def test_constant_power_is_exact():
    assert serve(powered(constant(70), times())).joules == 70 * WINDOW.duration_s


def test_a_ramp_is_exact_between_samples():
    figure = serve(series(POWER, times(), [t // MS for t in times()]), span(S, 6 * S))
    assert figure.joules == 17.5


def test_the_interval_of_power_contains_the_gain_of_the_sensor_and_half_a_milliwatt():
    source = replace(POWER, gain_pct=5.0)
    figure = serve(powered(constant(70), times(), source))
    half_j = 0.05 * figure.joules + 0.0005 * WINDOW.duration_s
    assert figure.low_j == pytest.approx(figure.joules - half_j)
    assert figure.high_j == pytest.approx(figure.joules + half_j)


def test_the_interval_of_power_contains_half_a_step_of_the_sensor():
    source = replace(POWER, unit="W", resolution=0.5)
    figure = serve(series(source, times(), [70.5 for _ in times()]))
    assert figure.joules == 70.5 * WINDOW.duration_s
    assert figure.high_j - figure.joules == pytest.approx(0.25 * WINDOW.duration_s)


def test_the_interval_of_power_contains_a_step_at_the_edge():
    step = Waveform(steps=((WINDOW.start_ns, 60_000), (100 * S, 300_000)))
    figure = serve(powered(step, times()))
    assert figure.low_j <= step.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


def test_polls_of_one_publication_are_one_sample():
    source = replace(POWER, update_period_ns=500 * MS)
    raw = [BUSY.power_mw(t // (500 * MS) * 500 * MS) for t in times()]
    assert serve(series(source, times(), raw)).pedigree["samples"] < 15


def test_a_gap_in_power_is_refused():
    readings = powered(constant(70), times())
    for row in range(20, 35):
        readings = change(readings, row, None)
    assert refused(serve(readings)).startswith("gap: no power is known for 1.6 s")


def test_power_needs_readings_on_both_sides():
    late, early = powered(constant(70), times()[11:]), powered(constant(70), times(until_ns=6 * S))
    assert refused(serve(late)).startswith(Fault.LATE)
    assert refused(serve(early)).startswith(Fault.EARLY)


def test_power_needs_two_readings_inside():
    window = Window(name="serve", start_ns=S, end_ns=S + 50 * MS)
    assert "window too short: fewer than two" in refused(
        serve(powered(constant(70), times()), window)
    )


def test_power_of_zero_is_no_figure():
    assert refused(serve(powered(constant(0), times()))) == (
        "no power: the sensor read 0 W, which no device that is on draws"
    )


def test_more_power_than_the_device_can_draw_is_a_failed_reading():
    source = replace(POWER, max_power_w=400.0)
    figure = serve(change(powered(constant(70), times(), source), 30, 10**9))
    assert figure.joules == pytest.approx(70 * WINDOW.duration_s)


# --- counters that tick slowly ----------------------------------------------------------------

SLOW = replace(COUNTER, unit="mJ", modulus=None, update_period_ns=100 * MS, max_power_w=None)


def followed(waveform, window, *, source=SLOW, ticks_after=3, first_ns=S // 2):
    """Readings 1 ms apart around every tick, as the sampler takes them, and one in between."""
    period_ns = source.update_period_ns
    ticks = range(first_ns, window.end_ns + ticks_after * period_ns + 1, period_ns)
    at = [tick + shift for tick in ticks for shift in (-MS // 2, MS // 2, period_ns // 2)]
    raw = [
        waveform.energy_pj((t - first_ns) // period_ns * period_ns + first_ns) // 10**9 for t in at
    ]
    return series(source, at, raw)


def idle_load_idle(window, idle_mw=60_000, load_mw=300_000):
    levels = [(0, idle_mw), (window.start_ns, load_mw), (window.end_ns, idle_mw)]
    return stairs(levels)


@pytest.mark.parametrize("end_ms", range(1500, 1600, 7))
def test_idle_load_idle_has_no_bias_where_the_start_is_aligned(end_ms):
    # 100 ms counter, 1 s window: reading off the last values at both edges is 3.8 % low on average.
    window = span(S // 2 + MS, S + end_ms * MS - S // 2 + MS)
    waveform = idle_load_idle(window)
    truth = waveform.joules(window.start_ns, window.end_ns)
    figure = serve(followed(waveform, window, first_ns=-S // 2), window)
    assert figure.joules == pytest.approx(truth, rel=0.001)
    assert figure.low_j <= truth <= figure.high_j


def test_ten_seconds_are_known_to_two_permille_between_ticks_and_to_one_percent_without():
    aligned = span(S + 500 * MS + MS, 11 * S + 500 * MS + MS)
    figure = serve(followed(constant(200), aligned), aligned)
    assert figure.high_j - figure.low_j <= 0.002 * figure.joules
    half_way = span(S + 500 * MS + MS, 11 * S + 550 * MS)
    figure = serve(followed(constant(200), half_way), half_way)
    assert 0.004 * figure.joules <= figure.high_j - figure.low_j <= 0.01 * figure.joules


def test_the_pedigree_tells_what_is_unknown_at_each_edge():
    window = span(S + 500 * MS + MS, 11 * S + 550 * MS)
    figure = serve(followed(constant(200), window), window)
    pedigree = figure.pedigree
    # The start is 0.5 to 1.5 ms after a tick: power is between 50 W and 600 W there.
    assert pedigree["edge_start_j"] == pytest.approx(0.6 * 1.5 - 0.05 * 0.5 + 0.001, rel=0.02)
    # The end is half way between two ticks that are 20 J apart, and 50 W are certain enough.
    assert pedigree["edge_end_j"] == pytest.approx(20 - 0.05 * 100, rel=0.02)
    edges_j = pedigree["edge_start_j"] + pedigree["edge_end_j"]
    assert figure.high_j - figure.low_j == pytest.approx(edges_j)
    # What is certain without a greatest power is a tick at each edge.
    certain_j = pedigree["certain_high_j"] - pedigree["certain_low_j"]
    assert certain_j == pytest.approx(40, rel=0.01)
    assert pedigree["certain_low_j"] <= figure.low_j <= figure.high_j <= pedigree["certain_high_j"]
    assert pedigree["update_period_measured"] is False
    assert (pedigree["kind"], pedigree["interval"]) == ("counter", "practical")
    assert pedigree["estimator"] == (
        "counter, one change of power between two publications at each edge"
    )


def test_a_greatest_power_narrows_what_is_certain():
    window = span(S + 500 * MS + MS, 11 * S + 500 * MS + MS)
    source = replace(SLOW, max_power_w=800.0)
    pedigree = serve(followed(constant(200), window, source=source), window).pedigree
    certain_j = pedigree["certain_high_j"] - pedigree["certain_low_j"]
    assert certain_j == pytest.approx(2 * (0.8 * 1.5 + 0.001), rel=0.01)


def test_a_counter_of_unknown_period_is_as_stale_as_it_was_seen_to_be():
    source = replace(SLOW, update_period_ns=None)
    window = span(S + 550 * MS, 11 * S + 550 * MS)
    readings = replace(followed(idle_load_idle(window), window), source=source)
    figure = serve(readings, window)
    truth = idle_load_idle(window).joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth <= figure.high_j
    assert figure.joules == pytest.approx(truth, rel=0.001)


def test_a_value_that_stands_at_an_edge_is_older_than_the_update_period_says():
    at = [*times(until_ns=6 * S), *range(6 * S, 8 * S, 10 * MS)]
    raw = list(counted(constant(50), at).raw)
    stale = at.index(6 * S + 40 * MS)
    # Five readings show the value of 40 ms past, until 20 ms after the window's end.
    raw[stale : stale + 6] = [raw[stale]] * 6
    figure = serve(series(COUNTER, at, raw), span(S, 6 * S + 70 * MS))
    assert figure.low_j <= 50 * 5.07 <= figure.high_j


def test_a_value_that_stands_from_the_end_on_tells_nothing_of_the_end():
    at = [*times(until_ns=6 * S), *range(6 * S, 6 * S + 200 * MS, 10 * MS)]
    raw = [min(value, 50 * 6 * 10**6) for value in counted(constant(50), at).raw]
    reason = refused(serve(series(COUNTER, at, raw), span(S, 6 * S + 70 * MS)))
    assert reason == "frozen: the counter stood still at an edge of the window"


def test_perf_counts_in_fractions_of_a_joule():
    source = replace(COUNTER, unit="J/2^32", modulus=None, max_power_w=100.0)
    raw = [50 * 2**32 * t // S for t in times()]
    assert serve(series(source, times(), raw), span(S, 6 * S)).joules == 250.0


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


@pytest.mark.parametrize("first_uj", [0, MODULUS - 5_000_000_000])
def test_a_device_may_draw_all_that_it_can(first_uj):
    source = replace(COUNTER, update_period_ns=0)
    figure = serve(counted(constant(2000), times(), source, first_uj), span(S, 6 * S))
    assert figure.joules == 10_000


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
    assert refused(figure) == "frozen: the counter stood still for 2 s or longer"


@pytest.mark.parametrize(("stands_s", "known"), [(11, True), (12, False)])
def test_a_counter_of_coarse_steps_may_stand_still_for_ten_of_them(stands_s, known):
    # 10 J every second for 101 s, less those in which it stands: 1.12 s or 1.13 s for each step.
    source = replace(COUNTER, resolution=10_000_000)
    at = range(1000 * S, 1110 * S, S)
    raw = [10 * 10**6 * (t - min(max(t, 50), 50 + stands_s) + 50) for t in range(110)]
    figure = serve(series(source, at, raw), span(1003 * S, 1103 * S))
    assert known == (figure.joules is not None)
    assert known or refused(figure).startswith("frozen: the counter stood still for 11.")


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


def test_a_slow_reading_widens_the_interval():
    whole = counted(constant(50), times())
    slow = replace(whole, after_ns=(*whole.after_ns[:10], 1_090 * MS, *whole.after_ns[11:]))
    for readings in (whole, slow):
        figure = serve(readings, span(1_095 * MS, 6 * S))
        assert figure.low_j <= 50 * 4.905 <= figure.high_j
    assert (
        figure.pedigree["edge_start_j"]
        > serve(whole, span(1_095 * MS, 6 * S)).pedigree["edge_start_j"]
    )


def test_stamps_that_go_back_are_a_clock_step():
    whole = counted(constant(50), times())
    back = tuple(t - 2 * S if t >= 4 * S else t for t in whole.before_ns)
    reason = refused(serve(replace(whole, before_ns=back, after_ns=back)))
    assert reason == "clock step: time stamps went back by 1.9 s"


# --- power that lags, averages, repeats ---------------------------------------------------------


def test_an_averaged_value_describes_the_time_before_it():
    source = replace(POWER, averaging_ns=S)
    ramp = series(source, times(), [t // MS for t in times()])
    # A mean over 1 s that grows by 1 W/s is the power of half a second before.
    assert serve(ramp, span(S, 6 * S)).joules == pytest.approx(17.5 + 2.5, abs=0.06)


def test_a_stale_value_describes_a_moment_before_it():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS for t in times()])
    # Each is new, so it was published after the reading before: 50 ms ago on average.
    assert serve(ramp, span(S, 6 * S)).joules == pytest.approx(17.5 + 5 * 0.05, abs=0.006)


def test_the_half_width_of_power_is_noise_and_edges():
    rhythm = [100_000, 300_000]
    readings = series(POWER, times(), [rhythm[t // (100 * MS) % 2] for t in times()])
    figure = serve(readings, span(1050 * MS, 6050 * MS))
    # 49 differences of 200 W over 100 ms; the standard error is the root of half their squares.
    noise_j = 2 * math.sqrt(49 / 2) * 200 * 0.1
    assert figure.pedigree["noise_j"] == pytest.approx(noise_j)
    # At each edge power may have changed by 200 W within the 50 ms that a sample is held.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * 200 * 0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * 200 * 0.05)
    half_j = noise_j + 20 + 0.0005 * 5
    assert figure.high_j - figure.joules == pytest.approx(half_j)
    assert figure.joules - figure.low_j == pytest.approx(half_j)
    assert figure.pedigree["samples"] == 50
    assert figure.pedigree["averaging_s"] == 0
    assert figure.pedigree["gain_pct"] == 0
    assert figure.pedigree["estimator"].startswith("power, trapezoidal")


def test_an_average_smears_a_change_at_an_edge():
    source = replace(POWER, averaging_ns=S, update_period_ns=100 * MS)
    window = span(2 * S, 6 * S)
    waveform = idle_load_idle(window)
    raw = [(waveform.energy_pj(t) - waveform.energy_pj(t - S)) // S for t in times()]
    figure = serve(series(source, times(), raw), window)
    truth = waveform.joules(window.start_ns, window.end_ns)
    assert figure.low_j <= truth <= figure.high_j
    # 240 W over 1 s, of which an eighth is lost and a quarter allowed; and a tenth for what is
    # too fast to be seen, of the 180 W that are shown at the edge.
    assert figure.joules == pytest.approx(truth - 2 * 240 / 8, rel=0.01)
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * (240 / 4 + 18), rel=0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * (240 / 4 + 18), rel=0.05)


def test_a_sensor_that_looks_part_of_the_time_may_be_in_step_with_the_load():
    at = times(100 * MS, until_ns=8 * S + 1)
    raw = [300_000 if t // (800 * MS) % 2 else 100_000 for t in at]
    blind = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    seeing = replace(blind, averaging_ns=100 * MS)
    figures = [serve(series(source, at, raw), span(S, 7 * S)) for source in (blind, seeing)]
    assert figures[0].pedigree["noise_j"] > 2.5 * figures[1].pedigree["noise_j"]


def test_a_sensor_of_moments_is_not_blind():
    at = times(100 * MS, until_ns=8 * S + 1)
    readings = series(POWER, at, [300_000 if t // (800 * MS) % 2 else 100_000 for t in at])
    renewed = replace(readings, source=replace(POWER, update_period_ns=MS))
    noise_j = [serve(each, span(S, 7 * S)).pedigree["noise_j"] for each in (readings, renewed)]
    assert noise_j[1] == pytest.approx(noise_j[0])


def test_few_samples_of_a_sensor_that_looks_part_of_the_time_are_a_batch_each():
    source = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    raw = [70_000 + t // (100 * MS) % 2 * 1000 for t in times()]
    figure = serve(series(source, times(), raw), span(S, S + 150 * MS))
    assert figure.pedigree["samples"] == 2
    # The standard deviation of 70 W and 71 W is 1 W over the root of 2.
    assert figure.pedigree["noise_j"] == pytest.approx(3 * 0.5 * 0.15)


def test_three_standard_errors_of_eight_batches():
    at = [t * 100 * MS for t in range(100)]
    powers = [100_000 + 1000 * ((t // 10) % 2) + t % 2 for t in range(100)]
    source = replace(POWER, averaging_ns=25 * MS, update_period_ns=100 * MS)
    readings = series(source, at, powers)
    begin, end = 912, 8900
    figure = serve(readings, span(begin * MS, end * MS))
    assert figure.pedigree["samples"] == 80
    means_w = [100 + (t % 2) for t in range(8)]
    noise_j = 3 * statistics.stdev(means_w) / math.sqrt(8) * (end - begin) / 1000
    assert figure.pedigree["noise_j"] == pytest.approx(noise_j)


def test_power_that_never_changes_is_flagged():
    assert serve(powered(constant(70), times())).flags == (
        "every sample was 70 W: steady power, or a sensor that hangs",
    )
    few = span(S, S + 850 * MS)
    assert serve(powered(constant(70), times()), few).flags == ()
    assert serve(powered(constant(70), times()), span(S, S + 900 * MS)).flags != ()
    assert serve(powered(BUSY, times())).flags == ()


def test_constant_power_is_sampled_as_often_as_it_is_published():
    source = replace(POWER, update_period_ns=250 * MS)
    assert serve(powered(constant(70), times(), source)).pedigree["samples"] in (12, 13, 17)


# --- limits -----------------------------------------------------------------------------------


def test_a_figure_names_its_source_and_window():
    for figure in (serve(counted(constant(50), times())), serve(series(COUNTER, [], []))):
        named = (figure.source_id, figure.domain, figure.kind, figure.window, figure.summed)
        assert named == ("rapl/0", "cpu_package", "counter", "serve", True)


@pytest.mark.parametrize(("pause_s", "known"), [(3, True), (3.2, False)])
def test_a_slow_counter_may_be_left_alone_for_three_of_its_periods(pause_s, known):
    source = replace(SLOW, update_period_ns=S)
    at = [t for t in times(until_ns=20 * S) if not 9 * S < t < (9 + pause_s) * S]
    raw = [t // S * 50_000 for t in at]
    assert known == (serve(series(source, at, raw), span(5 * S, 15 * S)).joules is not None)


def test_a_pause_before_the_window_does_not_matter():
    at = [t for t in times(until_ns=20 * S) if not 2 * S < t < 9 * S]
    window = span(11 * S, 15 * S)
    assert serve(counted(constant(50), at), window).joules == 200.0
    assert serve(powered(constant(50), at), window).joules == 200.0


def test_a_window_may_be_as_short_as_the_update_period():
    window = span(S + 500 * MS + MS, S + 600 * MS + MS)
    figure = serve(followed(constant(200), window), window)
    assert figure.joules == pytest.approx(20)
    reason = refused(serve(followed(constant(200), window), span(window.start_ns, S + 600 * MS)))
    assert reason == (
        "window too short: 0.099 s, but the counter is renewed every 0.1 s:"
        " raise measurement.serve_s"
    )


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


def test_an_estimate_is_exact_at_its_readings():
    source = replace(
        COUNTER, kind="estimate", modulus=None, update_period_ns=None, max_power_w=None
    )
    figure = serve(counted(BUSY, times(), source), span(S, 6 * S))
    assert figure.joules == BUSY.joules(S, 6 * S)
    assert figure.flags == (
        "a model's estimate: the interval covers sampling, not the model's own error",
    )


def test_three_publications_on_each_side_tell_what_power_may_be():
    # 50 W, but 500 W from 0.7 s to 0.8 s: the third publication before a window at 1 s shows it.
    curve = stairs([(0, 50_000), (700 * MS, 500_000), (800 * MS, 50_000)])
    source = replace(COUNTER, update_period_ns=0)
    near, far = (
        serve(counted(curve, times(), source), span(S + ms * MS + 10 * MS, 6 * S))
        for ms in (-100, 0)
    )
    assert near.pedigree["edge_start_j"] > far.pedigree["edge_start_j"]
    assert far.pedigree["edge_start_j"] == pytest.approx(150 * 0.01 - 12.5 * 0.01, rel=0.01)


def test_one_unit_more_is_a_new_publication():
    # 1 mJ each 100 ms, but 100 mJ before 0.3 s: far from the edge, so that it does not matter.
    source = replace(SLOW, update_period_ns=0)
    raw = [t // (100 * MS) + (100 if t >= 300 * MS else 0) for t in times()]
    figure = serve(series(source, times(), raw), span(S + 10 * MS, 6 * S))
    # Between a quarter of 10 mW and 30 mW for 10 ms, and the 1 mJ that is rounded off.
    assert figure.pedigree["edge_start_j"] == pytest.approx(0.001 + 0.0003 - 0.000025)


def test_what_is_certain_just_before_ticks():
    window = span(S + 598 * MS, 11 * S + 598 * MS)
    source = replace(SLOW, max_power_w=800.0)
    pedigree = serve(followed(constant(200), window, source=source), window).pedigree
    # A tick follows in 1.5 to 2.5 ms: at 800 W it takes at most 2 J to get there.
    assert pedigree["certain_low_j"] == pytest.approx(2000 - 2 - 0.001)
    assert pedigree["certain_high_j"] == pytest.approx(2000 + 2 + 0.001)


def test_a_pause_after_the_bracket_does_not_matter():
    at = [*times(until_ns=6200 * MS), *range(9 * S, 12 * S, 100 * MS)]
    window = span(S, 6050 * MS)
    assert serve(counted(constant(50), at), window).joules == 252.5
    assert serve(powered(constant(50), at), window).joules == 252.5


def test_the_window_may_begin_after_the_first_reading_of_all():
    figure = serve(counted(constant(50), times()), span(50 * MS, 6 * S))
    assert figure.joules == pytest.approx(50 * 5.95)


def test_the_first_readings_of_all_tell_power_too():
    source = replace(COUNTER, update_period_ns=0)
    curve = stairs([(0, 50_000), (130 * MS, 500_000)])
    window = span(120 * MS, 6 * S)
    figure = serve(counted(curve, times(), source), window)
    assert figure.joules == curve.joules(window.start_ns, window.end_ns)
    power = serve(powered(curve, times()), span(50 * MS, 6 * S))
    assert power.pedigree["edge_start_j"] == 0
    power = serve(powered(stairs([(0, 50_000), (30 * MS, 90_000)]), times()), span(50 * MS, 6 * S))
    assert power.pedigree["edge_start_j"] == pytest.approx(2 * 40 * 0.05)


def test_a_longer_stand_makes_values_older():
    # Renewed every 40 ms though said to be renewed every 10 ms: edges are known worse.
    at = times(10 * MS)
    source = replace(COUNTER, update_period_ns=10 * MS)
    every = {ms: [50 * (t // (ms * MS)) * ms * 1000 for t in at] for ms in (10, 40)}
    figures = {ms: serve(series(source, at, every[ms]), span(1005 * MS, 6015 * MS)) for ms in every}
    for figure in figures.values():
        assert figure.low_j <= 50 * 5.01 <= figure.high_j
    assert figures[40].pedigree["edge_end_j"] > 1.5 * figures[10].pedigree["edge_end_j"]


@pytest.mark.parametrize(
    ("stood_ms", "stale_ms"), [(500, 1.1), (2000, 80), (3500, 80), (4500, 1.1)]
)
def test_a_value_near_an_edge_may_be_as_old_as_one_was_seen_to_become(stood_ms, stale_ms):
    # Two more readings show that a value stood for 80 ms. Three publications on each side count.
    at = sorted([*times(500 * MS), (stood_ms + 40) * MS, (stood_ms + 80) * MS])
    raw = [50 * (t // (500 * MS)) * 500_000 for t in at]
    source = replace(COUNTER, modulus=None, max_power_w=None)
    figure = serve(series(source, at, raw), span(2510 * MS, 6510 * MS))
    # 150 W since the value was published at the earliest, a quarter of 50 W since it was read; the
    # least power seen is cautious: 25 J within 500 ms and the time that a value may be stale.
    most_j, least_j = 0.150 * (10 + stale_ms), 25 / (500 + stale_ms) / 4 * 10
    assert figure.pedigree["edge_start_j"] == pytest.approx(most_j - least_j, abs=2e-6)


def test_values_that_stand_until_the_first_new_one_after_the_end():
    at = [*times(until_ns=6 * S), 6010 * MS, 6050 * MS, 6090 * MS, 6130 * MS, 6170 * MS]
    raw = [50 * t // 1000 for t in at[:-5]] + [300_500_000] * 3 + [306_500_000, 308_500_000]
    figure = serve(series(COUNTER, at, raw), span(S, 6020 * MS))
    # It stood for 80 ms, so that a new value is no older than the reading before it, and the
    # value seen at 6.01 s may be as old as 5.93 s: but not older than the reading at 5.9 s.
    assert figure.low_j <= 251 <= figure.high_j
    assert figure.pedigree["edge_end_j"] > 2


def test_power_may_have_a_gap_as_long_as_the_limit():
    readings = powered(constant(70), times())
    for row in range(20, 29):
        readings = change(readings, row, None)
    assert serve(readings).joules == pytest.approx(70 * WINDOW.duration_s)
    assert refused(serve(change(readings, 29, None))).startswith(Fault.GAP)


def test_two_samples_are_enough():
    figure = serve(powered(constant(70), times()), span(S, S + 100 * MS))
    assert figure.joules == pytest.approx(7)


def test_the_outer_samples_inside_are_held():
    raw = [t // MS for t in times()]
    figure = serve(series(POWER, times(), raw), span(1050 * MS, 6050 * MS))
    assert figure.joules == pytest.approx((6**2 - 1.1**2) / 2 + 0.05 * 1.1 + 0.05 * 6)
    # A sample is 100 mW away from its neighbour beyond the edge.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * 0.1 * 0.05)
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * 0.1 * 0.05)


def test_averaging_smears_what_changes_within_its_time_around_an_edge():
    source = replace(POWER, averaging_ns=S)
    ramp = series(source, times(until_ns=12 * S), [t // MS for t in times(until_ns=12 * S)])
    figure = serve(ramp, span(3 * S, 8 * S))
    # 2 W from a second before to a second after, and a tenth of what is shown before the edge.
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * (2 / 4 + 0.34))
    assert figure.pedigree["edge_end_j"] == pytest.approx(2 * (2 / 4 + 0.85))
    assert figure.pedigree["averaging_s"] == 1


def test_very_little_power_is_not_none():
    figure = serve(series(POWER, times(), [1 for _ in times()]), span(S, 6 * S))
    assert figure.joules == 0.005
    assert (figure.low_j, figure.high_j) == (0.0025, 0.0075)


def test_no_interval_of_a_counter_begins_below_zero():
    window = span(S + 550 * MS, S + 650 * MS)
    figure = serve(followed(constant(0.01), window), window)
    assert figure.joules == pytest.approx(0.001)
    assert figure.low_j == figure.pedigree["certain_low_j"] == 0


def test_no_interval_of_power_begins_below_zero():
    readings = series(POWER, times(), [300 if t % (200 * MS) else 1 for t in times()])
    assert serve(readings, span(S, S + 300 * MS)).low_j == 0


@pytest.mark.parametrize(
    ("unit", "raw", "resolution", "half_w"),
    [("mW", 70_000, 100, 0.05), ("mW", 70_000, None, 0.0005), ("W", 70.0, None, 0.0005)],
)
def test_rounding_is_half_a_step(unit, raw, resolution, half_w):
    source = replace(POWER, unit=unit, resolution=resolution)
    figure = serve(series(source, times(), [raw for _ in times()]), span(S, 6 * S))
    assert figure.high_j - figure.joules == pytest.approx(half_w * 5)


def test_a_change_next_to_an_edge_is_smeared_however_short_the_average():
    source = replace(POWER, averaging_ns=20 * MS)
    raw = [100_000 if t < S else 300_000 for t in times()]
    figure = serve(series(source, times(), raw), span(950 * MS, 6 * S))
    # 200 W within the 40 ms to the first sample inside, a quarter of it over 20 ms, and a tenth of
    # the 100 W before the edge.
    half_j = 200 * 0.04 + (200 / 4 + 10) * 0.02
    assert figure.pedigree["edge_start_j"] == pytest.approx(2 * half_j)


def test_the_last_reading_of_all_may_describe_a_moment_inside_the_window():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS for t in times()])
    figure = serve(ramp, span(S, 7890 * MS))
    assert figure.pedigree["samples"] == 69
    assert figure.pedigree["edge_end_j"] == 0


def test_the_first_value_of_all_was_published_before_it_was_read():
    source = replace(POWER, update_period_ns=100 * MS)
    ramp = series(source, times(), [t // MS + 1 for t in times()])
    # The second one was published between both readings.
    assert serve(ramp, span(20 * MS, 1020 * MS)).pedigree["samples"] == 10


def test_an_equal_value_is_new_when_the_last_one_would_be_too_old():
    # Stale after 100 ms and after 99 ms: the reading 100 ms later may, and must, be a new one.
    for period_ns, samples in ((90_909_091, 25), (90_000_000, 50)):
        source = replace(POWER, update_period_ns=period_ns)
        figure = serve(powered(constant(70), times(), source), span(S + MS, 6 * S + MS))
        assert figure.pedigree["samples"] == samples


# --- total ------------------------------------------------------------------------------------


def figure(source_id, joules, kind="counter", summed=True, window="serve", reasons=(), flags=()):
    return EnergyFigure(
        source_id=source_id,
        domain=source_id,
        kind=kind,
        window=window,
        joules=joules,
        low_j=None if joules is None else joules - 1,
        high_j=None if joules is None else joules + 2,
        summed=summed,
        reasons=reasons,
        flags=flags,
    )


def test_the_total_adds_figures_and_intervals():
    all_of_it = total([figure("package", 10.0), figure("gpu", 20.0, kind="power", flags=("hot",))])
    assert (all_of_it.low_j, all_of_it.joules, all_of_it.high_j) == (28.0, 30.0, 34.0)
    assert all_of_it == EnergyFigure(
        source_id="total",
        domain="total",
        kind="power",
        window="serve",
        joules=30.0,
        low_j=28.0,
        high_j=34.0,
        summed=False,
        flags=("gpu: hot",),
        pedigree={"sources": ["package", "gpu"], "domains": ["gpu", "package"]},
    )
    assert total([figure("package", 10.0)]).kind == "counter"


def test_the_total_leaves_out_what_is_not_in_the_cut_and_estimates():
    parts = [
        figure("package", 10.0),
        figure("core", 5.0, summed=False),
        figure("guess", 99.0, kind="estimate"),
    ]
    assert total(parts).joules == 10.0


def test_one_unknown_member_makes_the_total_unknown():
    reason = refused(total([figure("a", 10.0), figure("b", None, reasons=("frozen",))]))
    assert reason == "b: frozen"


def test_there_is_no_total_of_nothing():
    assert total([figure("guess", 99.0, kind="estimate")]) is None


def test_figures_of_two_windows_have_no_total():
    with pytest.raises(ValueError, match=r"^a total is over one window$"):
        total([figure("a", 1.0), figure("b", 1.0, window="baseline")])


# --- gauges -----------------------------------------------------------------------------------


def test_a_gauge_has_mean_and_extremes_of_the_readings_inside():
    readings = series(GAUGE, [0, 2 * S, 3 * S, 4 * S, 7 * S], [900.0, 10.0, None, 30.0, 900.0])
    gauge = summarise(readings, WINDOW)
    assert (gauge.mean, gauge.minimum, gauge.maximum, gauge.readings) == (20.0, 10.0, 30.0, 2)


def test_a_gauge_counts_up_to_both_edges():
    readings = series(GAUGE, [WINDOW.start_ns, WINDOW.end_ns], [10.0, 30.0])
    assert summarise(readings, WINDOW).readings == 2


def test_nothing_joules_are_counted_as_nothing_in_a_total():
    assert total([figure("a", 0.0), figure("b", 1.0)]).joules == 1.0
    assert total([figure("a", 1.0), figure("b", 1.0)]).low_j == 0.0
    assert total([figure("a", -2.0)]).high_j == 0.0


def test_a_gauge_without_readings_is_unknown():
    assert summarise(series(GAUGE, [0], [900.0]), WINDOW) is None


def test_a_gauge_has_no_joules():
    with pytest.raises(ValueError, match="is a gauge"):
        serve(series(GAUGE, times(), [1 for _ in times()]))
