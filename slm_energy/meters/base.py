"""The contract between the sampling process and a meter.

A meter opens sources and offers a channel to read each of them; it never computes joules
(`derive/energy` does). A reading that fails raises `ReadFailed`, and the sampler stores the gap:
missing is never zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from slm_energy.config.groups import MeasurementConfig
from slm_energy.record import Source


class ReadFailed(Exception):
    """One reading failed; the text says how (`EACCES`, `GPU is lost`, ...)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """A source, and how to read it.

    Attributes:
        source: what is read. A meter leaves `summed` alone: `domains.py`, which sees all meters,
            decides what is summed.
        read: reads the source now, in the source's unit; raises `ReadFailed` with the reason.
    """

    source: Source
    read: Callable[[], int | float]


class Meter(Protocol):
    """An open meter with one or more channels, read one at a time."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What it can read; the same channels until it is closed."""

    @property
    def slow(self) -> bool:
        """A reading may take longer than a few milliseconds (a network, a model).

        The sampler then reads this meter in a separate thread, so that it delays no other meter.
        """

    def watch(self, pid: int) -> None:
        """A trial begins; its worker is process `pid`. Meters of the whole machine ignore this."""

    def close(self) -> None:
        """Release handles."""


@runtime_checkable
class Adopts(Protocol):
    """A meter that tells the trial's processes from others. Not called for a slow meter."""

    def adopt(self, pid: int) -> None:
        """Process `pid` and its descendants belong to the running trial too.

        It is a server that the worker uses and did not start. Holds until the next `watch`.
        """


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The result of opening a kind of meter.

    Attributes:
        meter: None when this machine has no such source.
        notes: what is missing or not readable, with the remedy; one line each.
    """

    meter: Meter | None
    notes: tuple[str, ...] = ()


MeterFactory = Callable[[MeasurementConfig], Opened]


def guarded(
    read: Callable[[], int | float],
    failures: type[Exception] | tuple[type[Exception], ...],
    describe: Callable[[Exception], str],
) -> Callable[[], int | float]:
    """Make the read call of a channel from a library's: `failures` become `ReadFailed`."""

    def read_or_fail() -> int | float:
        try:
            return read()
        except failures as error:
            raise ReadFailed(describe(error)) from error

    return read_or_fail
