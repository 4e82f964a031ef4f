"""How much a counter had counted at a moment between its publications. Pure.

A reading shows what the counter last published. When that was is known to lie in an interval: not
longer ago than the value can be stale, not before an earlier reading that showed another value, not
after the reading itself. Between two publications the counter is silent, and the energy at the
moment in question must be inferred:

- certain bounds: energy only grows, and by no more than the device's greatest power;
- the practical interval also takes power near the moment to be between a quarter of the least and
  three times the greatest mean power seen there between two publications;
- the best figure takes power to have changed once between two publications, from what it was in the
  interval before to what it is in the one after. The counted energy says when. That is exact for
  steady power and for idle-load-idle wherever the window ends between two ticks, and it never
  falls. Where no such moment exists, it is a straight line.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

NEAR = 3
"""How many publications on each side tell the power near an edge."""

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
        value: what was published.
        quantum: the step that it is rounded down to.
        below_ns: a moment at which energy was still less than `value`, because the counter showed
            less; None if none is known. It tells more than `quantum` where that is coarse.
    """

    earliest_ns: int
    latest_ns: int
    value: int
    quantum: int = 1
    below_ns: int | None = None

    @property
    def twice_ns(self) -> int:
        """Twice the middle of both: the best guess of the moment, as a whole number."""
        return self.earliest_ns + self.latest_ns


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """Energy at a moment, in the counter's unit: best figure, and intervals that contain it."""

    low: Fraction
    best: Fraction
    high: Fraction
    certain_low: Fraction
    certain_high: Fraction


def edge(seen: Sequence[Publication], time_ns: int, most: Fraction | None) -> Edge:
    """Energy at a moment.

    Args:
        seen: publications around it, in order of time; the first is surely over by then, the last
            surely comes later or at that moment.
        time_ns: the moment.
        most: power that the device cannot exceed, in the counter's unit per ns; None if unknown.
    """
    best = best_at(seen, time_ns)
    certain_low, certain_high = bounds_at(seen, time_ns, Fraction(0), most)
    least_seen, most_seen = _powers(seen)
    ceiling = _MOST * most_seen if most is None else min(_MOST * most_seen, most)
    low, high = bounds_at(seen, time_ns, _LEAST * least_seen, ceiling)
    # A device that exceeds its greatest power turns bounds around.
    return Edge(
        low=min(low, best, high),
        best=best,
        high=max(low, best, high),
        certain_low=min(certain_low, best, certain_high),
        certain_high=max(certain_low, best, certain_high),
    )


def best_at(seen: Sequence[Publication], time_ns: int) -> Fraction:
    """The best figure, between the values published before and after; it never falls with time."""
    twice = [each.twice_ns for each in seen]
    left = bisect.bisect_right(twice, 2 * time_ns, hi=len(seen) - 1) - 1
    begin, end = seen[left], seen[left + 1]
    since, width = 2 * time_ns - twice[left], twice[left + 1] - twice[left]
    rise = end.value - begin.value
    if 0 < left < len(seen) - 2:
        power_before = _power(seen[left - 1], begin)
        power_after = _power(end, seen[left + 2])
        if min(power_before, power_after) * width < rise < max(power_before, power_after) * width:
            change = (rise - power_after * width) / (power_before - power_after)
            if since <= change:
                return begin.value + power_before * since
            return end.value - power_after * (width - since)
    return begin.value + Fraction(rise * since, width)


def bounds_at(
    seen: Sequence[Publication], time_ns: int, least: Fraction, most: Fraction | None
) -> tuple[Fraction, Fraction]:
    """Bounds on the energy at a moment if power is never below `least` nor above `most`."""
    low, high = [], []
    for each in seen:
        since = time_ns - each.latest_ns
        if since >= 0:
            low.append(each.value + least * since)
        elif most is not None:
            low.append(each.value + most * since)
        tops = [(each.value + each.quantum, each.earliest_ns)]
        tops += [] if each.below_ns is None else [(each.value, each.below_ns)]
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


def _powers(seen: Sequence[Publication]) -> tuple[Fraction, Fraction]:
    """Least and greatest mean power between publications, per ns; the least cautiously so."""
    least = [
        Fraction(other.value - one.value, other.latest_ns - one.earliest_ns)
        for one, other in pairwise(seen)
    ]
    return min(least), max(2 * _power(one, other) for one, other in pairwise(seen))
