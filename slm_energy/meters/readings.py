"""Which readings of a source count for a window: the ground `accounting.py` stands on. Pure."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from slm_energy.plain import Json
from slm_energy.record import Series, Source, Window


class UnknownJoules(Exception):
    """The joules cannot be known; the text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One successful reading: a value of some moment between two time stamps."""

    before_ns: int
    after_ns: int
    raw: int | float

    @property
    def middle_ns(self) -> Fraction:
        """The best guess of that moment."""
        return Fraction(self.before_ns + self.after_ns, 2)


def successful(series: Series) -> list[Reading]:
    """The rows that have a value."""
    columns = zip(series.before_ns, series.raw, series.after_ns, strict=True)
    return [
        Reading(before_ns=before, after_ns=after, raw=raw)
        for before, raw, after in columns
        if raw is not None
    ]


def usable(series: Series) -> list[Reading]:
    """Successful readings that can be true: in range, and each later than the one before."""
    kept = list[Reading]()
    for reading in successful(series):
        in_order = reading.before_ns <= reading.after_ns and (
            not kept or kept[-1].after_ns <= reading.before_ns
        )
        if in_order and _possible(series.source, reading.raw):
            kept.append(reading)
    return kept


def _possible(source: Source, raw: int | float) -> bool:
    if not math.isfinite(raw) or raw < 0:
        return False
    if source.modulus is not None and raw >= source.modulus:
        return False
    too_much = source.kind == "power" and source.max_power_w is not None
    return not (too_much and raw > (source.max_power_w or 0) * 1000)


def failures(series: Series, readings: Sequence[Reading], window: Window) -> list[str]:
    """What went wrong with each row inside the window that is not among the usable readings."""
    good = {reading.before_ns for reading in readings}
    return [
        series.errors.get(str(row), f"impossible value {series.raw[row]!r}")
        for row, before in enumerate(series.before_ns)
        if window.start_ns <= before <= window.end_ns and before not in good
    ]


def stale_ns(source: Source) -> int:
    """How old a counter's value may be when it is read: up to one update period.

    An estimate is computed at the moment of reading.
    """
    return (source.update_period_ns or 0) if source.kind == "counter" else 0


def bracket(series: Series, readings: Sequence[Reading], window: Window) -> Sequence[Reading]:
    """The readings from the last before the window to the first that knows all of it.

    A counter read at t tells the energy at some moment between t - update period and t, so only
    a reading one update period after the end is sure to contain the whole window.

    Raises:
        UnknownJoules: the readings do not reach around the window.
    """
    if window.end_ns <= window.start_ns:
        raise UnknownJoules("the window is empty")
    if not readings:
        error = next(iter(series.errors.values()), "there are none")
        raise UnknownJoules(f"no reading succeeded: {error}")
    first = bisect.bisect_right(readings, window.start_ns, key=lambda r: r.after_ns) - 1
    late = window.end_ns + stale_ns(series.source)
    last = bisect.bisect_left(readings, late, key=lambda r: r.before_ns)
    if first < 0:
        raise UnknownJoules("no good reading before the window: the sampler started too late")
    if last == len(readings):
        raise UnknownJoules("no good reading after the window: the sampler stopped early")
    return readings[first : last + 1]


def describe(span: Sequence[Reading], window: Window, limit_ns: int) -> dict[str, Json]:
    """Pedigree of the readings that bracket a window.

    `coverage` is the share of the window that lies between readings at most `limit_ns` apart.
    """
    holes = [(one.after_ns, other.before_ns) for one, other in pairwise(span)]
    wide = [(start, end) for start, end in holes if end - start > limit_ns]
    lost = sum(max(0, min(end, window.end_ns) - max(start, window.start_ns)) for start, end in wide)
    return {
        "readings": len(span),
        "gaps": len(wide),
        "largest_gap_s": max(end - start for start, end in holes) / 1e9,
        "coverage": 1 - lost / (window.end_ns - window.start_ns),
    }


def refuse_stall(series: Series, span: Sequence[Reading], limit_ns: int) -> None:
    """A sampler that did not even try to read was stopped or starved: what else did it miss?

    Raises:
        UnknownJoules: two tries are further apart than `limit_ns`.
    """
    first = bisect.bisect_left(series.before_ns, span[0].before_ns)
    last = bisect.bisect_right(series.before_ns, span[-1].before_ns)
    for one, other in pairwise(series.before_ns[first:last]):
        if other - one > limit_ns:
            pause_s = (other - one) / 1e9
            raise UnknownJoules(
                f"nothing was read for {pause_s:.3g} s: the sampler was stopped or starved, or"
                f" measurement.period_s and max_gap_s ({limit_ns / 1e9:.3g} s) do not fit"
            )


def value_at(span: Sequence[Reading], values: Sequence[Fraction], time_ns: int) -> Fraction:
    """Value at a moment within `span`, linear between the readings around it."""
    middles = [reading.middle_ns for reading in span]
    right = bisect.bisect_left(middles, time_ns, lo=1, hi=len(span) - 1)
    share = (time_ns - middles[right - 1]) / (middles[right] - middles[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])
