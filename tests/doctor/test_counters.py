"""Counters of the total that do not move, or wrap at an unknown value."""

import dataclasses

import pytest

from slm_energy.doctor.counters import counters
from slm_energy.record import Source

PACKAGE = Source(
    id="rapl/intel-rapl:0",
    kind="counter",
    domain="cpu_package",
    unit="uJ",
    modulus=10**9,
    update_period_ns=10**6,
    update_period_measured=True,
    resolution=61,
    summed=True,
)
STILL = dataclasses.replace(
    PACKAGE, id="rapl/intel-rapl:0:0", update_period_measured=False, resolution=None
)
ENDLESS = dataclasses.replace(PACKAGE, id="rapl/intel-rapl:1", modulus=None)
PERF = dataclasses.replace(PACKAGE, id="perf/energy-pkg/package-0", modulus=None)
WALL = dataclasses.replace(STILL, id="wall/energy", domain="wall")


def test_counters_that_move_and_wrap_where_they_say():
    assert counters([PACKAGE, PERF]).verdict == "ok"


def test_a_counter_of_the_total_that_does_not_move_fails_with_the_key():
    found = counters([PACKAGE, STILL])
    assert found.verdict == "fail"
    assert found.detail.startswith("rapl/intel-rapl:0:0 did not move")
    assert found.remedy.startswith("measurement.leave_out=[rapl/intel-rapl:0:0] leaves it out")


def test_a_counter_beside_the_total_may_stand_still():
    assert counters([PACKAGE, dataclasses.replace(STILL, summed=False)]).verdict == "ok"


def test_a_zone_that_may_wrap_anywhere_warns():
    found = counters([PACKAGE, ENDLESS])
    assert found.verdict == "warn"
    assert "rapl/intel-rapl:1 may wrap at an unknown value (max_energy_range_uj)" in found.detail


@pytest.mark.parametrize("sources", [[], [WALL]], ids=["none", "a slow one"])
def test_without_a_quick_counter_there_is_nothing_to_check(sources):
    assert counters(sources).verdict == "not applicable"
