"""Joules of counters against closed-form integrals."""

from dataclasses import replace
from fractions import Fraction

import pytest

from slm_energy.record import Window
from slm_energy.testing.waveform import constant
from tests.derive.energy.conftest import (
    BUSY,
    COUNTER,
    MODULUS,
    MS,
    WINDOW,
    S,
    counted,
    followed,
    refused,
    series,
    serve,
    span,
    times,
)


def test_a_steady_counter_is_exact_between_readings_too():
    figure = serve(counted(constant(50), times()))
    assert figure.joules == float(Fraction(50) * (WINDOW.end_ns - WINDOW.start_ns) / S)
    assert figure.low_j < figure.joules < figure.high_j
    assert figure.reasons == ()


def test_a_window_on_readings_equals_the_integral():
    window = Window(name="serve", start_ns=1 * S, end_ns=6 * S)
    figure = serve(counted(BUSY, times()), window)
    assert figure.joules == BUSY.joules(window.start_ns, window.end_ns)


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


def test_perf_counts_in_fractions_of_a_joule():
    source = replace(COUNTER, unit="J/2^32", modulus=None, max_power_w=100.0)
    raw = [50 * 2**32 * t // S for t in times()]
    assert serve(series(source, times(), raw), span(S, 6 * S)).joules == 250.0


@pytest.mark.parametrize("first_uj", [0, MODULUS - 5_000_000_000])
def test_a_device_may_draw_all_that_it_can(first_uj):
    source = replace(COUNTER, update_period_ns=0)
    figure = serve(counted(constant(2000), times(), source, first_uj), span(S, 6 * S))
    assert figure.joules == 10_000


def test_a_window_may_be_as_short_as_the_update_period():
    window = span(S + 500 * MS + MS, S + 600 * MS + MS)
    figure = serve(followed(constant(200), window), window)
    assert figure.joules == pytest.approx(20)
    reason = refused(serve(followed(constant(200), window), span(window.start_ns, S + 600 * MS)))
    assert reason == (
        "window too short: 0.099 s, but the counter is renewed every 0.1 s:"
        " raise measurement.serve_s"
    )


def test_a_window_too_short_for_the_counter_is_not_zero():
    source = replace(COUNTER, update_period_ns=100 * MS)
    at = times(10 * MS)
    raw = [constant(50).energy_pj(t // (100 * MS) * 100 * MS) // 10**6 for t in at]
    window = Window(name="serve", start_ns=S + 20 * MS, end_ns=S + 60 * MS)
    reason = refused(serve(series(source, at, raw), window))
    assert reason.startswith("window too short: 0.04 s, but the counter is renewed every 0.1 s")


def test_the_window_may_begin_after_the_first_reading_of_all():
    figure = serve(counted(constant(50), times()), span(50 * MS, 6 * S))
    assert figure.joules == pytest.approx(50 * 5.95)


def test_a_second_reading_of_the_same_moment_is_left_out():
    at = [*times()]
    readings = counted(constant(50), sorted([*at, at[30] - 1]))
    swapped = replace(readings, after_ns=tuple(t + 1 for t in readings.before_ns))
    assert serve(swapped).joules == pytest.approx(50 * WINDOW.duration_s)
