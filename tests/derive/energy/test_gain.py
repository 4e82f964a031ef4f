"""The interval with sensor gain."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.accounting import total
from slm_energy.derive.energy.gain import with_gain
from slm_energy.derive.energy.usable_readings import Energy
from slm_energy.record import Calibration, Fitted
from slm_energy.testing.waveform import constant
from tests.derive.energy.conftest import COUNTER, WINDOW, counted, serve, times

SECONDS = WINDOW.duration_s


def shown(watts, **source):
    return serve(counted(constant(watts), times(), replace(COUNTER, **source)))


def calibrated(gain, offset_w):
    return Calibration(
        reference="wall/energy",
        unix_ns=7,
        gain=Fitted(low=gain - 0.01, best=gain, high=gain + 0.01),
        offset_w=Fitted(low=offset_w - 1, best=offset_w, high=offset_w + 1),
        lag_s=Fitted(low=0, best=0, high=0),
    )


def test_gain_widens_only_the_second_interval():
    plain, figure = shown(50), shown(50, gain_pct=5.0)
    assert (figure.low_j, figure.joules, figure.high_j) == (plain.low_j, plain.joules, plain.high_j)
    assert figure.low_with_gain_j == pytest.approx(0.95 * figure.low_j)
    assert figure.high_with_gain_j == pytest.approx(1.05 * figure.high_j)
    assert figure.pedigree["gain_pct"] == 5.0


def test_an_unknown_gain_leaves_the_second_interval_unknown():
    assert (shown(50).low_with_gain_j, shown(50).high_with_gain_j) == (None, None)


def test_an_estimate_has_no_sensor():
    figure = shown(50, kind="estimate", modulus=None, gain_pct=5.0)
    assert (figure.low_with_gain_j, figure.high_with_gain_j) == (None, None)


def test_a_calibrated_sensor_has_its_interval_around_the_true_power():
    # 100 W are shown as 1.1 times that and 3 W more.
    figure = shown(113, gain_pct=5.0, calibration=calibrated(1.1, 3.0))
    assert figure.joules == pytest.approx(113 * SECONDS)
    assert figure.pedigree["calibrated_j"] == pytest.approx(100 * SECONDS)
    assert figure.low_with_gain_j < 100 * SECONDS < figure.high_with_gain_j
    assert figure.high_with_gain_j < 104 * SECONDS
    assert figure.pedigree["calibration_reference"] == "wall/energy"


def test_a_total_has_a_second_interval_if_all_parts_have():
    known, unknown = shown(50, gain_pct=5.0), shown(50)
    both = total([known, known])
    assert both.low_with_gain_j == 2 * known.low_with_gain_j
    assert both.high_with_gain_j == 2 * known.high_with_gain_j
    assert total([known, unknown]).low_with_gain_j is None


def energy(low_j, best_j, high_j):
    return Energy(
        low_j=low_j, best_j=best_j, high_j=high_j, start_j=0, end_j=0, estimator="", details={}
    )


def test_the_corners_of_a_calibration_make_the_interval():
    source = replace(COUNTER, calibration=calibrated(1.25, 2.0))
    low_j, high_j, details = with_gain(source, energy(95, 100, 105), 10)
    assert low_j == pytest.approx((95 - 3 * 10) / 1.26)
    assert high_j == pytest.approx((105 - 1 * 10) / 1.24)
    assert details == {
        "calibrated_j": pytest.approx((100 - 2 * 10) / 1.25),
        "calibration_reference": "wall/energy",
        "calibration_unix_ns": 7,
    }


def test_no_calibrated_energy_is_below_zero():
    source = replace(COUNTER, calibration=calibrated(1.25, 20.0))
    assert with_gain(source, energy(95, 100, 105), 10)[:2] == (0, 0)


def test_no_energy_with_gain_is_below_zero():
    source = replace(COUNTER, gain_pct=0.5)
    assert with_gain(source, energy(-1, 100, 200), 10) == (0, pytest.approx(201), {})
