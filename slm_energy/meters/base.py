"""The contract between the sampling process and a meter.

A meter opens sources and reads them; it never computes joules (`accounting.py` does). A reading
that fails raises `ReadFailed`, and the sampler stores the gap: missing is never zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from slm_energy.config.groups import MeasurementConfig
from slm_energy.record import Source


class ReadFailed(Exception):
    """One reading failed; the text says how (`EACCES`, `GPU is lost`, ...)."""


class Meter(Protocol):
    """An open meter with one or more sources, read one after the other."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it can read, in the order of `read`.

        Which of them are `summed` is not the meter's to say: `domains.py` sees all meters.
        """

    @property
    def slow(self) -> bool:
        """A reading may take longer than a few milliseconds (a network, a model).

        The sampler then reads this meter in a thread of its own, so that it delays no other.
        """

    def watch(self, pid: int) -> None:
        """A trial begins; its worker is process `pid`. Meters of the whole machine ignore this."""

    def read(self, index: int) -> int | float:
        """Read one source now, in its unit.

        Raises:
            ReadFailed: with the reason.
        """

    def close(self) -> None:
        """Release handles."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """A source, and the call that reads it."""

    source: Source
    read: Callable[[], int | float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """What opening a kind of meter gave.

    Attributes:
        meter: None when this machine has no such source.
        notes: what was not found or not readable, with the remedy; one line each.
    """

    meter: Meter | None
    notes: tuple[str, ...] = ()


MeterFactory = Callable[[MeasurementConfig], Opened]
