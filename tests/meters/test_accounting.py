"""Joules against closed-form integrals, and every fault either right or refused."""

from dataclasses import replace
from fractions import Fraction

import pytest

from slm_energy.meters.accounting import account, summarise, total
from slm_energy.record import EnergyFigure, Series, Source, Window
from slm_energy.testing.waveform import Waveform, constant

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


def test_wraps_are_counted_in_the_pedigree():
    figure = serve(counted(BUSY, times(), first_uj=MODULUS - 100_000_000))
    assert figure.pedigree["wraps"] == 1


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
    assert "may hide a wrap" in refused(serve(readings))


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
    assert refused(serve(readings)) == "no reading succeeded: EIO"


@pytest.mark.parametrize("known", [True, False])
def test_a_reset_is_no_wrap(known):
    source = COUNTER if known else replace(COUNTER, max_power_w=None)
    before = counted(constant(50), times(until_ns=3 * S), source, first_uj=90_000_000_000)
    after = counted(constant(50), times(until_ns=5 * S), source)
    readings = series(source, times(), before.raw + after.raw)
    assert "it was reset or misread" in refused(serve(readings))


def test_a_jump_is_misread():
    readings = change(counted(constant(50), times()), 30, 200_000_000_000)
    assert "jumped from" in refused(serve(readings))


def test_a_counter_without_modulus_may_not_go_back():
    source = replace(COUNTER, modulus=None, max_power_w=None)
    readings = change(counted(constant(50), times(), source), 30, 1)
    assert "went back" in refused(serve(readings))


def test_a_reset_outside_the_window_does_not_matter():
    readings = change(counted(constant(50), times()), 2, 200_000_000_000)
    assert serve(readings).joules == pytest.approx(50 * WINDOW.duration_s)


def test_a_frozen_counter_is_refused():
    readings = series(COUNTER, times(), [7_000_000 for _ in times()])
    assert "stood still for 1 s" in refused(serve(readings))


def test_a_counter_that_freezes_half_way_is_refused():
    raw = counted(constant(50), times()).raw
    stuck = [min(value, raw[35]) for value in raw]
    assert "stood still" in refused(serve(series(COUNTER, times(), stuck)))


def test_a_window_too_short_for_the_counter_is_not_zero():
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = times(10 * MS)
    raw = [constant(50).energy_pj(t // (100 * MS) * 100 * MS) // 10**6 for t in at]
    window = Window(name="serve", start_ns=S + 20 * MS, end_ns=S + 60 * MS)
    assert "did not move" in refused(serve(series(source, at, raw), window))


def test_the_sampler_started_too_late():
    assert "started too late" in refused(serve(counted(constant(50), times()[11:])))


def test_the_sampler_stopped_early():
    assert "stopped early" in refused(serve(counted(constant(50), times(until_ns=6 * S))))


def test_a_reading_too_soon_after_the_end_may_not_know_the_end():
    source = replace(COUNTER, update_period_ns=100 * MS)
    readings = counted(constant(50), times(until_ns=WINDOW.end_ns + 90 * MS), source)
    assert "stopped early" in refused(serve(readings))


def test_a_stopped_sampler_is_refused():
    at = [t for t in times() if not 2 * S < t < 4 * S]
    assert "nothing was read for 2 s" in refused(serve(counted(constant(50), at)))


def test_an_empty_window_is_refused():
    window = Window(name="serve", start_ns=S, end_ns=S)
    assert refused(serve(counted(constant(50), times()), window)) == "the window is empty"


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


def test_a_ramp_is_exact_with_interpolated_edges():
    readings = series(POWER, times(), [t // MS for t in times()])
    figure = serve(readings)
    start_s, end_s = WINDOW.start_ns / S, WINDOW.end_ns / S
    assert figure.joules == pytest.approx((end_s**2 - start_s**2) / 2, rel=1e-12)


def test_the_interval_of_power_contains_the_gain_of_the_sensor():
    figure = serve(powered(constant(70), times()))
    assert figure.low_j == pytest.approx(0.95 * figure.joules)
    assert figure.high_j == pytest.approx(1.05 * figure.joules)


def test_the_interval_of_power_contains_a_step_at_the_edge():
    step = Waveform(steps=((WINDOW.start_ns, 60_000), (100 * S, 300_000)))
    figure = serve(powered(step, times()))
    assert figure.low_j <= step.joules(WINDOW.start_ns, WINDOW.end_ns) <= figure.high_j


def test_a_slow_sensor_has_a_wider_interval():
    slow = replace(POWER, update_period_ns=S)
    assert serve(powered(BUSY, times(), slow)).high_j > serve(powered(BUSY, times())).high_j


def test_a_gap_in_power_is_refused():
    readings = powered(constant(70), times())
    for row in range(20, 35):
        readings = change(readings, row, None)
    assert "no power is known for 1.6 s" in refused(serve(readings))


def test_power_needs_readings_on_both_sides():
    assert "too late" in refused(serve(powered(constant(70), times()[11:])))
    assert "stopped early" in refused(serve(powered(constant(70), times(until_ns=6 * S))))


def test_power_needs_two_readings_inside():
    window = Window(name="serve", start_ns=S, end_ns=S + 50 * MS)
    assert "fewer than two" in refused(serve(powered(constant(70), times()), window))


def test_power_of_zero_is_no_figure():
    assert "0 W throughout" in refused(serve(powered(constant(0), times())))


def test_more_power_than_the_device_can_draw_is_a_failed_reading():
    source = replace(POWER, max_power_w=400.0)
    figure = serve(change(powered(constant(70), times(), source), 30, 10**9))
    assert figure.joules == pytest.approx(70 * WINDOW.duration_s)


# --- total ------------------------------------------------------------------------------------


def figure(source_id, joules, kind="counter", summed=True, window="serve", reasons=()):
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
    )


def test_the_total_adds_figures_and_intervals():
    all_of_it = total([figure("package", 10.0), figure("gpu", 20.0, kind="power")])
    assert (all_of_it.low_j, all_of_it.joules, all_of_it.high_j) == (28.0, 30.0, 34.0)
    assert all_of_it.kind == "power"
    assert all_of_it.pedigree["sources"] == ["package", "gpu"]
    assert not all_of_it.summed


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
    with pytest.raises(ValueError, match="one window"):
        total([figure("a", 1.0), figure("b", 1.0, window="baseline")])


# --- gauges -----------------------------------------------------------------------------------


def test_a_gauge_has_mean_and_extremes_of_the_readings_inside():
    readings = series(GAUGE, [0, 2 * S, 3 * S, 4 * S, 7 * S], [900.0, 10.0, None, 30.0, 900.0])
    gauge = summarise(readings, WINDOW)
    assert (gauge.mean, gauge.minimum, gauge.maximum, gauge.readings) == (20.0, 10.0, 30.0, 2)


def test_a_gauge_without_readings_is_unknown():
    assert summarise(series(GAUGE, [0], [900.0]), WINDOW) is None


def test_a_gauge_has_no_joules():
    with pytest.raises(ValueError, match="is a gauge"):
        serve(series(GAUGE, times(), [1 for _ in times()]))
