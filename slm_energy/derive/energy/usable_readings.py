"""Select the readings of a source that count for a window. Pure.

`counters.py` and `power.py` convert them to joules; `accounting.py` combines all three.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
import operator
import sys
from collections.abc import Sequence

from slm_energy.record import Series, Source, Window
from slm_energy.serialization import Json

SECOND_NS = 10**9

MOST_BELIEVED_W = 1_000_000
"""No machine draws more: the limit if a source states none."""

_MARGIN_PCT = 10
"""A publication may be late by this share of the update period."""

RAW_PER_WATT = {"uW": 10**6, "mW": 1000, "W": 1}


class Fault(enum.StrEnum):
    """Why joules cannot be known; every reason starts with one of these."""

    WINDOW = "empty window"
    UNREAD = "unread"
    LATE = "sampling began too late"
    EARLY = "sampling ended too early"
    CLOCK = "clock step"
    STALL = "sampler stalled"
    GAP = "gap"
    WRAPS = "several wraps"
    BACKWARD = "backward"
    RESET = "reset"
    JUMP = "jump"
    FROZEN = "frozen"
    SHORT = "window too short"
    ZERO = "no power"


def seconds(time_ns: int) -> str:
    """Format a duration for a reason."""
    return f"{time_ns / SECOND_NS:.3g} s"


def part_time(source: Source) -> bool:
    """Whether a sensor observes a part of each update period only, and is blind in the rest."""
    return 0 < source.averaging_ns < (source.update_period_ns or 0)


class UnknownJoules(Exception):
    """The joules cannot be known; the text says why."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """The usable readings of a source: columns of equal length, in order of time.

    Attributes:
        source: the source of the readings.
        row: row of the series, of each reading.
        dropped: rows of the series that are not usable readings.
        before_ns: time just before each reading; never before the end of the previous one.
        raw: value, as an integer in the counter's unit or in microwatts.
        after_ns: time just after each reading.
    """

    source: Source
    row: list[int]
    dropped: list[int]
    before_ns: list[int]
    raw: list[int]
    after_ns: list[int]

    @property
    def stale_ns(self) -> int:
        """Maximum age of a counter's value when it is read: its update period and a margin.

        0 for an estimate, which is computed when it is read, and if the update period is unknown:
        then only a changed value is known to be newer than the previous reading.
        """
        counts = self.source.kind != "estimate"
        return (self.source.update_period_ns or 0) * (100 + _MARGIN_PCT) // 100 if counts else 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """Energy of a window, in joules.

    Attributes:
        low_j: lower end of the interval.
        best_j: best figure.
        high_j: upper end of the interval.
        start_j: full width of the uncertainty at the window's start.
        end_j: the same at its end.
        estimator: method of estimation.
        details: further entries of the pedigree.
        flags: warnings for the reader.
    """

    low_j: float
    best_j: float
    high_j: float
    start_j: float
    end_j: float
    estimator: str
    details: dict[str, Json]
    flags: tuple[str, ...] = ()


def usable(series: Series) -> Readings:
    """Select successful and plausible readings: in range, and each later than all before it."""
    source = series.source
    most = _most(source)
    good = [raw is not None and 0 <= raw <= most for raw in series.raw]
    if not _in_order(series):
        good = list(map(operator.and_, good, _later(series)))
    raws = [raw for raw in itertools.compress(series.raw, good) if raw is not None]
    if source.kind == "power":
        microwatts = 10**6 // RAW_PER_WATT[source.unit]
        whole = list(map(round, map(operator.mul, raws, itertools.repeat(microwatts))))
    else:
        whole = list(map(int, raws))
    return Readings(
        source=source,
        row=list(itertools.compress(range(len(good)), good)),
        dropped=[row for row, kept in enumerate(good) if not kept],
        before_ns=list(itertools.compress(series.before_ns, good)),
        raw=whole,
        after_ns=list(itertools.compress(series.after_ns, good)),
    )


def _in_order(series: Series) -> bool:
    """Whether all stamps are in order and distinct: a fast check for the usual case."""
    before, after = series.before_ns, series.after_ns
    return (
        all(map(operator.le, before, after))
        and all(map(operator.le, after, before[1:]))
        and all(map(operator.lt, after, after[1:]))
    )


def _later(series: Series) -> list[bool]:
    """For each row, whether its reading came later than all before it."""
    began = min(series.before_ns) - 1
    latest = itertools.accumulate(series.after_ns, max, initial=began)
    return [
        done <= before <= after and done < after
        for before, after, done in zip(series.before_ns, series.after_ns, latest, strict=False)
    ]


def _most(source: Source) -> float:
    """The largest plausible raw value."""
    if source.modulus is not None:
        return source.modulus - 1
    if source.kind == "power":
        return (source.max_power_w or MOST_BELIEVED_W) * RAW_PER_WATT[source.unit]
    return sys.float_info.max


def failures(series: Series, readings: Readings, window: Window) -> list[str]:
    """The error of each row inside the window that is not a usable reading."""
    return [
        series.errors.get(str(row)) or f"impossible value {series.raw[row]!r}, or stamped twice"
        for row in readings.dropped
        if window.start_ns <= series.before_ns[row] <= window.end_ns
    ]


def refuse_clock_step(series: Series, window: Window) -> None:
    """Refuse time stamps that go back: the time that they repeat is ambiguous.

    Raises:
        UnknownJoules: the window overlaps that time.
    """
    if _in_order(series):
        return
    latest = itertools.accumulate(series.before_ns, max)
    for before, after, last in zip(series.before_ns, series.after_ns, latest, strict=True):
        if (after < before or before < last) and (
            min(before, after) <= window.end_ns and window.start_ns <= last
        ):
            back = seconds(last - min(before, after))
            raise UnknownJoules(Fault.CLOCK, f"time stamps went back by {back}")


def bracket(series: Series, readings: Readings, window: Window) -> tuple[int, int]:
    """Indices of the last reading before the window and of the first that covers all of it.

    A counter read at t shows the energy at some moment between t - staleness and t; if the value
    changed, also at a moment after the previous reading. So only a reading some time after the end
    is sure to contain the whole window. Power needs a reading after the end.

    Raises:
        UnknownJoules: the readings do not enclose the window.
    """
    if window.end_ns <= window.start_ns:
        raise UnknownJoules(Fault.WINDOW, "it ends before it begins")
    if not readings.row:
        error = next(iter(series.errors.values()), "there was none")
        raise UnknownJoules(Fault.UNREAD, f"no reading succeeded: {error}")
    first = bisect.bisect_right(readings.after_ns, window.start_ns) - 1
    if first < 0:
        raise UnknownJoules(Fault.LATE, "no good reading before the window")
    stale_ns = 0 if readings.source.kind == "power" else readings.stale_ns
    before, raw = readings.before_ns, readings.raw
    for last in range(bisect.bisect_left(before, window.end_ns), len(before)):
        renewed = raw[last] != raw[last - 1] and before[last - 1] >= window.end_ns
        if renewed or before[last] - stale_ns >= window.end_ns:
            return first, last
    raise UnknownJoules(Fault.EARLY, "no good reading that is sure to know the window's end")


def refuse_stall(series: Series, rows: Sequence[int], limit_ns: int) -> None:
    """Refuse a pause without read attempts: the sampler was stopped or starved.

    Raises:
        UnknownJoules: more than `limit_ns` passed between two attempts.
    """
    attempts = slice(rows[0], rows[-1] + 1)
    before, after = series.before_ns[attempts], series.after_ns[attempts]
    pause_ns = max(map(operator.sub, before[1:], after), default=0)
    if pause_ns > limit_ns:
        raise UnknownJoules(
            Fault.STALL,
            f"nothing was read for {seconds(pause_ns)}: the sampler was stopped or starved, or"
            f" measurement.period_s and max_gap_s ({seconds(limit_ns)}) do not fit",
        )


def describe(
    readings: Readings, first: int, last: int, window: Window, limit_ns: int
) -> dict[str, Json]:
    """Pedigree of the readings that bracket a window.

    `coverage` is the share of the window between readings at most `limit_ns` apart.
    """
    ends, starts = readings.after_ns[first:last], readings.before_ns[first + 1 : last + 1]
    pauses = list(map(operator.sub, starts, ends))
    gaps = [index for index, length in enumerate(pauses) if length > limit_ns]
    lost = sum(
        max(0, min(starts[index], window.end_ns) - max(ends[index], window.start_ns))
        for index in gaps
    )
    return {
        "readings": last - first + 1,
        "gaps": len(gaps),
        "largest_gap_s": max(pauses) / SECOND_NS,
        "coverage": 1 - lost / (window.end_ns - window.start_ns),
    }
