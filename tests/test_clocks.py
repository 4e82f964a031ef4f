"""All clocks at one instant, and what two instants say."""

import time

import pytest

from slm_energy.clocks import read_clocks
from slm_energy.record import ClockAnchor
from tests.clocks import FakeClocks

S = 10**9


def test_the_clocks_are_read_within_microseconds_of_each_other():
    before = time.monotonic_ns(), time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    read = read_clocks()
    after = time.monotonic_ns(), time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for earlier, now, later in zip(
        before, (read.monotonic_ns, read.unix_ns, read.boot_ns), after, strict=True
    ):
        assert earlier <= now <= later


def test_on_a_machine_that_is_awake_the_clocks_run_alike():
    first = read_clocks()
    time.sleep(0.02)
    last = read_clocks()
    assert abs(last.suspended_ns(first)) < 10_000_000
    assert abs(last.wall_step_ns(first)) < 10_000_000


def test_suspension_is_what_only_the_boot_clock_counts():
    first = ClockAnchor(monotonic_ns=0, unix_ns=1000 * S, boot_ns=5 * S)
    last = ClockAnchor(monotonic_ns=3 * S, unix_ns=1063 * S, boot_ns=68 * S)
    assert last.suspended_ns(first) == 60 * S
    assert last.wall_step_ns(first) == 0


def test_a_system_without_that_clock_does_not_know():
    first = ClockAnchor(monotonic_ns=0, unix_ns=1000 * S)
    last = ClockAnchor(monotonic_ns=3 * S, unix_ns=1003 * S, boot_ns=68 * S)
    assert last.suspended_ns(first) is None
    assert last.wall_step_ns(first) == 0


@pytest.mark.parametrize("step_s", [86_400, -86_400, 0.5])
def test_a_step_of_the_wall_clock_is_seen_beside_a_suspension(step_s):
    clocks = FakeClocks(suspended_s=(0, 60), set_s=(0, step_s))
    first, last = clocks(), clocks()
    assert last.suspended_ns(first) == pytest.approx(60 * S, abs=1e7)
    assert last.wall_step_ns(first) == pytest.approx(step_s * S, abs=1e7)
