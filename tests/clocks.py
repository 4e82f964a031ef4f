"""Clocks of a machine that is suspended, or whose wall clock is set, at a moment of a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from slm_energy.clocks import read_clocks
from slm_energy.record import ClockAnchor


class FakeClocks:
    """The real clocks, shifted.

    Args:
        suspended_s: time for which the machine was suspended before the first, second, ... reading;
            afterwards it was not suspended again.
        set_s: how far the wall clock was set before the first, second, ... reading.
    """

    def __init__(
        self, *, suspended_s: tuple[float, ...] = (), set_s: tuple[float, ...] = ()
    ) -> None:
        self._suspended, self._set = _sums(suspended_s), _sums(set_s)

    def __call__(self) -> ClockAnchor:
        now, suspended_ns = read_clocks(), next(self._suspended)
        assert now.boot_ns is not None
        return dataclasses.replace(
            now,
            boot_ns=now.boot_ns + suspended_ns,
            unix_ns=now.unix_ns + suspended_ns + next(self._set),
        )


def _sums(parts_s: tuple[float, ...]) -> Iterator[int]:
    total_ns = 0
    for part_s in parts_s:
        total_ns += round(part_s * 1e9)
        yield total_ns
    while True:
        yield total_ns
