"""The curve that drives the fakes has an exact integral."""

import pytest

from slm_energy.testing.waveform import Waveform, constant

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
