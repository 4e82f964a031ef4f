"""An energy with its two intervals, and what can be computed with it. Pure.

Bounds may be unknown: then the metrics that would hold them are absent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from slm_energy.metric_catalog.definition import bounds, bounds_with_gain
from slm_energy.record import EnergyFigure

Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Joules, or joules per something.

    Attributes:
        best: the figure.
        bounds: its interval; None if it is unknown.
        with_gain: the interval that also covers the gain of the sensors; None if it is unknown.
    """

    best: float
    bounds: Bounds | None
    with_gain: Bounds | None

    @classmethod
    def of(cls, figure: EnergyFigure) -> Interval | None:
        """That of one figure; None if its joules are unknown."""
        if figure.joules is None or figure.low_j is None or figure.high_j is None:
            return None
        with_gain = None
        if figure.low_with_gain_j is not None and figure.high_with_gain_j is not None:
            with_gain = figure.low_with_gain_j, figure.high_with_gain_j
        return cls(best=figure.joules, bounds=(figure.low_j, figure.high_j), with_gain=with_gain)

    @classmethod
    def total(cls, parts: Sequence[Interval]) -> Interval:
        """The sum; intervals add linearly, as the errors of two sources may have one cause."""
        return cls(
            best=math.fsum(part.best for part in parts),
            bounds=_sum([part.bounds for part in parts]),
            with_gain=_sum([part.with_gain for part in parts]),
        )

    def per(self, count: float) -> Interval:
        """Divided by a number that is exact."""
        return Interval(
            best=self.best / count,
            bounds=_per(self.bounds, count),
            with_gain=_per(self.with_gain, count),
        )

    def less(self, other: Interval, ratio: float) -> Interval:
        """This less `ratio` times another of the same sensors.

        The errors of sampling are independent, so the intervals subtract crosswise. Gain is an
        error that both share: what it moves in one it also moves in the other.
        """
        best = self.best - other.best * ratio
        if self.bounds is None or other.bounds is None:
            return Interval(best=best, bounds=None, with_gain=None)
        low = self.bounds[0] - other.bounds[1] * ratio
        high = self.bounds[1] - other.bounds[0] * ratio
        with_gain = None
        if self.with_gain is not None and other.with_gain is not None:
            moved = [
                own - others * ratio for own, others in zip(self._moved, other._moved, strict=True)
            ]
            with_gain = low + min(0.0, *moved), high + max(0.0, *moved)
        return Interval(best=best, bounds=(low, high), with_gain=with_gain)

    def wider(self, below: float, above: float) -> Interval:
        """With both intervals wider by that much at each end."""
        return dataclasses.replace(
            self,
            bounds=self.bounds and (self.bounds[0] - below, self.bounds[1] + above),
            with_gain=self.with_gain and (self.with_gain[0] - below, self.with_gain[1] + above),
        )

    def named(self, name: str) -> dict[str, float]:
        """As metrics: the name, and those of the bounds that are known."""
        values = {name: self.best}
        for names, ends in ((bounds(name), self.bounds), (bounds_with_gain(name), self.with_gain)):
            values |= dict(zip(names, ends or (), strict=False))
        return values

    @property
    def _moved(self) -> tuple[float, float]:
        """By how much the gain moves the lower and the upper end, which are both known."""
        assert self.bounds is not None
        assert self.with_gain is not None
        return self.with_gain[0] - self.bounds[0], self.with_gain[1] - self.bounds[1]


def _sum(each: Sequence[Bounds | None]) -> Bounds | None:
    known = [ends for ends in each if ends is not None]
    if len(known) < len(each):
        return None
    return math.fsum(low for low, _ in known), math.fsum(high for _, high in known)


def _per(ends: Bounds | None, count: float) -> Bounds | None:
    return ends and (ends[0] / count, ends[1] / count)
