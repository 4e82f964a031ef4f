"""Infer a counter's energy at a moment between its publications. Pure.

A reading shows the value that the counter last published. The time of that publication is known
within an interval: not longer ago than the value can be stale, not before an earlier reading that
showed another value, not after the reading itself. Between two publications the energy must be
inferred:

- certain bounds: energy only grows, at no more than the device's maximum power;
- the practical interval also assumes power near the moment to be between a quarter of the lowest
  and three times the highest mean power seen there between two publications;
- the best figure assumes that power changed once between two publications, from that of the
  interval before to that of the interval after. The counted energy determines when. That is exact
  for steady power and for idle-load-idle wherever the window ends between two ticks, and it never
  falls. If no such moment exists, it is a straight line.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

NEAR = 3
"""Number of publications on each side that determine the power near an edge."""

_LEAST = Fraction(1, 4)
_MOST = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A value that a counter published at a moment between two others.

    The counter rounds down: energy at that moment is at least `value` and less than `value` +
    `quantum`.

    Attributes:
        earliest_ns: not before this moment.
        latest_ns: not after this moment.
        value: published value.
        quantum: step to which it is rounded down.
        below_ns: a moment at which energy was still less than `value`, because the counter showed
            less; None if none is known. A tighter bound than a coarse `quantum`.
    """

    earliest_ns: int
    latest_ns: int
    value: int
    quantum: int = 1
    below_ns: int | None = None

    @property
    def twice_ns(self) -> int:
        """Twice the midpoint of both, an integer: the best guess of the moment."""
        return self.earliest_ns + self.latest_ns


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """Energy at a moment, in the counter's unit: best figure, and intervals that contain it."""

    low: Fraction
    best: Fraction
    high: Fraction
    certain_low: Fraction
    certain_high: Fraction


def edge(publications: Sequence[Publication], time_ns: int, most: Fraction | None) -> Edge:
    """Energy at a moment.

    Args:
        publications: those around the moment, in order of time; the first is certainly before it,
            the last certainly at or after it.
        time_ns: the moment.
        most: maximum power of the device, in the counter's unit per ns; None if unknown.
    """
    best = best_at(publications, time_ns)
    certain_low, certain_high = bounds_at(publications, time_ns, Fraction(0), most)
    lowest, highest = _powers(publications)
    ceiling = _MOST * highest if most is None else min(_MOST * highest, most)
    low, high = bounds_at(publications, time_ns, _LEAST * lowest, ceiling)
    # If a device exceeds its stated maximum power, the bounds may be in reverse order.
    return Edge(
        low=min(low, best, high),
        best=best,
        high=max(low, best, high),
        certain_low=min(certain_low, best, certain_high),
        certain_high=max(certain_low, best, certain_high),
    )


def best_at(publications: Sequence[Publication], time_ns: int) -> Fraction:
    """Best figure, between the values published before and after; it never falls with time."""
    twice = [publication.twice_ns for publication in publications]
    left = bisect.bisect_right(twice, 2 * time_ns, hi=len(publications) - 1) - 1
    begin, end = publications[left], publications[left + 1]
    since, width = 2 * time_ns - twice[left], twice[left + 1] - twice[left]
    rise = end.value - begin.value
    if 0 < left < len(publications) - 2:
        power_before = _power(publications[left - 1], begin)
        power_after = _power(end, publications[left + 2])
        if min(power_before, power_after) * width < rise < max(power_before, power_after) * width:
            change = (rise - power_after * width) / (power_before - power_after)
            if since <= change:
                return begin.value + power_before * since
            return end.value - power_after * (width - since)
    return begin.value + Fraction(rise * since, width)


def bounds_at(
    publications: Sequence[Publication], time_ns: int, least: Fraction, most: Fraction | None
) -> tuple[Fraction, Fraction]:
    """Bounds on the energy at a moment if power is never below `least` nor above `most`."""
    low, high = [], []
    for shown in publications:
        since = time_ns - shown.latest_ns
        if since >= 0:
            low.append(shown.value + least * since)
        elif most is not None:
            low.append(shown.value + most * since)
        tops = [(shown.value + shown.quantum, shown.earliest_ns)]
        tops += [] if shown.below_ns is None else [(shown.value, shown.below_ns)]
        for top, at_ns in tops:
            until = at_ns - time_ns
            if until >= 0:
                high.append(top - least * until)
            elif most is not None:
                high.append(top - most * until)
    return max(low), min(high)


def _power(one: Publication, other: Publication) -> Fraction:
    """Mean power between two publications, per half nanosecond."""
    return Fraction(other.value - one.value, other.twice_ns - one.twice_ns)


def _powers(publications: Sequence[Publication]) -> tuple[Fraction, Fraction]:
    """Lowest and highest mean power between publications, per ns; the lowest is conservative."""
    lowest = [
        Fraction(other.value - one.value, other.latest_ns - one.earliest_ns)
        for one, other in pairwise(publications)
    ]
    return min(lowest), max(2 * _power(one, other) for one, other in pairwise(publications))
