"""A sensor that shows energy some time after it was used."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.accounting import shortest_window_s
from slm_energy.derive.energy.latency import longest_latency_ns, shifted, united
from slm_energy.derive.energy.usable_readings import Energy, Fault
from slm_energy.record import Calibration, Fitted
from tests.derive.energy.conftest import (
    COUNTER,
    MS,
    POWER,
    S,
    counted,
    idle_load_idle,
    powered,
    refused,
    series,
    serve,
    span,
    times,
)

WINDOW = span(2 * S, 6 * S)
LOAD = idle_load_idle(WINDOW)
TRUTH_J = 4 * 300.0
AT = times(10 * MS)


def late(readings, late_ns):
    """What the same sensor shows if it is later."""
    at = readings.before_ns
    return series(readings.source, [t + late_ns for t in at], readings.raw)


def seen(late_ns, **source):
    return late(counted(LOAD, AT, replace(COUNTER, **source)), late_ns)


@pytest.mark.parametrize("late_ms", [25, 40, 62, 87, 100])
def test_the_interval_holds_the_truth_wherever_the_latency_is_within_its_bounds(late_ms):
    figure = serve(seen(late_ms * MS, lag_ns=50 * MS, lag_error_ns=50 * MS), WINDOW)
    assert figure.low_j <= TRUTH_J <= figure.high_j
    # At most 240 W over the 100 ms that the latency may be, and what the edges leave open.
    assert figure.high_j - figure.low_j < 240 * 0.1 + 12
    assert (figure.pedigree["latency_low_s"], figure.pedigree["latency_high_s"]) == (0, 0.1)
    assert figure.pedigree["latency_j"] > 0


def test_without_a_latency_the_energy_at_the_edge_is_missed():
    figure = serve(seen(62 * MS), WINDOW)
    assert figure.high_j < TRUTH_J - 14
    assert "latency_j" not in figure.pedigree


def test_a_known_latency_is_corrected():
    figure = serve(seen(62 * MS, lag_ns=62 * MS), WINDOW)
    assert figure.joules == pytest.approx(TRUTH_J, rel=1e-3)
    assert figure.high_j - figure.low_j < 3


def test_steady_power_has_the_same_energy_however_late():
    steady = idle_load_idle(WINDOW, idle_mw=300_000)
    prompt = serve(counted(steady, AT), WINDOW)
    source = replace(COUNTER, lag_ns=50 * MS, lag_error_ns=50 * MS)
    figure = serve(late(counted(steady, AT, source), 70 * MS), WINDOW)
    assert figure.joules == pytest.approx(prompt.joules)
    assert figure.high_j - figure.low_j < 3 * (prompt.high_j - prompt.low_j)


def test_power_is_shifted_likewise():
    source = replace(POWER, lag_ns=500 * MS, lag_error_ns=500 * MS)
    for late_ms in (0, 300, 1000):
        figure = serve(late(powered(LOAD, AT, source), late_ms * MS), WINDOW)
        assert figure.low_j <= TRUTH_J <= figure.high_j


def test_readings_must_go_on_for_as_long_as_the_sensor_may_be_late():
    source = replace(COUNTER, lag_ns=S, lag_error_ns=S)
    readings = counted(LOAD, times(10 * MS, until_ns=7 * S), source)
    assert refused(serve(readings, WINDOW)).startswith(Fault.EARLY)


def test_a_calibrated_latency_comes_before_that_of_the_class():
    one = Fitted(low=1.0, best=1.0, high=1.0)
    lag = Fitted(low=0.058, best=0.062, high=0.066)
    calibration = Calibration(
        reference="wall/energy",
        unix_ns=1,
        gain=one,
        offset_w=Fitted(low=0, best=0, high=0),
        lag_s=lag,
    )
    source = {"lag_ns": 50 * MS, "lag_error_ns": 50 * MS, "calibration": calibration}
    figure = serve(seen(62 * MS, **source), WINDOW)
    assert figure.joules == pytest.approx(TRUTH_J, rel=1e-3)
    assert figure.low_j <= TRUTH_J <= figure.high_j
    assert figure.pedigree["latency_high_s"] == 0.066


def test_a_window_is_long_enough_for_what_is_not_known_of_the_latency():
    source = replace(COUNTER, update_period_ns=20 * MS, lag_ns=50 * MS, lag_error_ns=50 * MS)
    assert shortest_window_s(source, 0.01) == pytest.approx(2 + 5)


def lagging(lag_ms, error_ms, **more):
    return replace(COUNTER, lag_ns=lag_ms * MS, lag_error_ns=error_ms * MS, **more)


@pytest.mark.parametrize(
    ("source", "shifts_ms"),
    [
        (lagging(0, 0), [0]),
        (lagging(62, 0), [62]),
        (lagging(50, 50), [50, 0, 12.5, 25, 37.5, 62.5, 75, 87.5, 100]),
        (lagging(3, 2), [3, 1, 2, 4, 5]),  # no finer than 1 ms
        (lagging(300, 40), [300, 260, 270, 280, 290, 310, 320, 330, 340]),
    ],
)
def test_windows_are_spread_over_all_latencies_the_best_one_first(source, shifts_ms):
    found = shifted(source, WINDOW)
    assert [(each.start_ns - WINDOW.start_ns) / MS for each in found] == shifts_ms
    assert {(each.name, each.duration_s) for each in found} == {("serve", 4.0)}


def test_the_longest_latency_is_what_a_recording_waits_for():
    assert longest_latency_ns(lagging(50, 50)) == 100 * MS
    assert longest_latency_ns(lagging(0, 0)) == 0
    assert longest_latency_ns(lagging(-20, 5)) == 0


def energy(low_j, best_j, high_j):
    return Energy(
        low_j=low_j,
        best_j=best_j,
        high_j=high_j,
        start_j=1.0,
        end_j=2.0,
        estimator="counter",
        details={"wraps": 1, "certain_low_j": low_j - 1.0, "certain_high_j": high_j + 1.0},
    )


def test_energies_are_united_with_what_may_be_between_them():
    found = united(
        lagging(50, 50),
        [energy(99, 100, 101), energy(89, 90, 91), energy(95, 96, 97), energy(102, 104, 105)],
    )
    # Neighbours differ by at most 8 J: half of it may be between two.
    assert (found.low_j, found.best_j, found.high_j) == (89 - 4, 100, 105 + 4)
    assert (found.start_j, found.end_j, found.estimator) == (1.0, 2.0, "counter")
    assert found.details == {
        "wraps": 1,
        "certain_low_j": 88,
        "certain_high_j": 106,
        "latency_low_s": 0.0,
        "latency_high_s": 0.1,
        "latency_j": 24 - 2,
    }


def test_no_united_energy_begins_below_zero():
    assert united(lagging(50, 50), [energy(1, 5, 6), energy(0.5, 1, 2), energy(3, 9, 9)]).low_j == 0


def test_a_sensor_without_latency_keeps_its_energy():
    only = energy(99, 100, 101)
    assert united(lagging(0, 0), [only]) is only
    corrected = united(lagging(62, 0), [only])
    assert corrected.details["latency_low_s"] == 0.062
    assert (corrected.low_j, corrected.high_j) == (99, 101)
