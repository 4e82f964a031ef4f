"""The clocks of this machine, read at one instant."""

from __future__ import annotations

import time
from collections.abc import Callable

from slm_energy.record import ClockAnchor

ReadClocks = Callable[[], ClockAnchor]

_ATTEMPTS = 3


def read_clocks() -> ClockAnchor:
    """Read all clocks.

    A process can be interrupted between two of them. So they are read several times, and the
    attempt that took the least time counts.
    """
    return min((_attempt() for _ in range(_ATTEMPTS)), key=lambda attempt: attempt[0])[1]


def _attempt() -> tuple[int, ClockAnchor]:
    """Duration in ns of reading all clocks, and their values in its middle."""
    before_ns = time.monotonic_ns()
    boot_ns = _boot_ns()
    unix_ns = time.time_ns()
    after_ns = time.monotonic_ns()
    middle_ns = (before_ns + after_ns) // 2
    return after_ns - before_ns, ClockAnchor(
        monotonic_ns=middle_ns, unix_ns=unix_ns, boot_ns=boot_ns
    )


def _boot_ns() -> int | None:
    """Linux has this clock; None on systems without it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime_ns(clock)
