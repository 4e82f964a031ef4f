"""A channel of a meter as the sampling process reads it: numbered, and one row for each reading."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from slm_energy.meters.base import Meter, ReadFailed
from slm_energy.record import Source
from slm_energy.serialization import Json


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NumberedChannel:
    """One source of an open meter.

    Attributes:
        number: stands for the source in the file of samples.
        meter: the meter that it belongs to.
        source: the meter's, with measured update period and `summed` set.
        read: reads it now, in its unit; raises `ReadFailed`.
    """

    number: int
    meter: Meter
    source: Source
    read: Callable[[], int | float]

    def row(self) -> list[Json]:
        """Read once.

        Returns:
            [number, before_ns, raw, after_ns]; when the reading fails, raw is None and its error
            stands at the end.
        """
        before_ns = time.monotonic_ns()
        try:
            raw = self.read()
        except ReadFailed as failure:
            return [self.number, before_ns, None, time.monotonic_ns(), str(failure)]
        return [self.number, before_ns, raw, time.monotonic_ns()]
