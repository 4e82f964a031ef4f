"""The curve that drives the fakes has an exact integral."""

import math

import pytest

from slm_energy.testing.waveform import Polyline, Sine, Waveform, constant, stairs

SAW = Waveform(steps=((10, 1), (20, 5)), start_ns=100)


@pytest.mark.parametrize(("time_ns", "power_mw"), [(100, 1), (109, 1), (110, 5), (130, 1), (99, 5)])
def test_power_repeats(time_ns, power_mw):
    assert SAW.power_mw(time_ns) == power_mw


@pytest.mark.parametrize("time_ns", [40, 100, 105, 110, 117, 130, 1000])
def test_energy_is_the_sum_of_power(time_ns):
    summed = sum(SAW.power_mw(t) for t in range(time_ns, 1000))
    assert SAW.energy_pj(1000) - SAW.energy_pj(time_ns) == summed


def test_joules_of_constant_power():
    assert constant(50).joules(3 * 10**9, 5 * 10**9) == 100.0


RAMP = Polyline(times_ns=(100, 110, 110, 130), powers_mw=(4, 24, 2, 2))


@pytest.mark.parametrize(
    ("time_ns", "power_mw"), [(0, 4), (100, 4), (105, 14), (109, 22), (110, 2), (130, 2), (999, 2)]
)
def test_a_polyline_goes_straight_and_jumps(time_ns, power_mw):
    assert RAMP.power_mw(time_ns) == power_mw


@pytest.mark.parametrize(
    ("time_ns", "energy_pj"),
    [(90, -40), (100, 0), (105, 45), (110, 140), (120, 160), (130, 180), (140, 200)],
)
def test_a_polyline_has_the_area_under_it(time_ns, energy_pj):
    assert RAMP.energy_pj(time_ns) == energy_pj


def test_stairs_jump_at_their_times():
    curve = stairs([(10, 1), (20, 5), (40, 3)])
    assert [curve.power_mw(t) for t in (0, 10, 19, 20, 39, 40, 99)] == [1, 1, 1, 5, 5, 3, 3]
    assert curve.energy_pj(50) - curve.energy_pj(0) == 20 * 1 + 20 * 5 + 10 * 3


SWING = Sine(mean_mw=1000, swing_mw=500, period_ns=4_000_000, start_ns=7)


@pytest.mark.parametrize(("quarter", "power_mw"), [(0, 1000), (1, 1500), (2, 1000), (3, 500)])
def test_a_sine_swings_around_its_mean(quarter, power_mw):
    assert SWING.power_mw(7 + quarter * 1_000_000) == power_mw


def test_the_energy_of_a_sine_is_the_area_under_it():
    period = SWING.period_ns
    assert SWING.energy_pj(7 + 3 * period) == 3 * 1000 * period
    assert SWING.energy_pj(7 - period) == -1000 * period
    half = SWING.energy_pj(7 + period // 2)
    assert half == pytest.approx(1000 * period / 2 + 500 * period / math.pi)
