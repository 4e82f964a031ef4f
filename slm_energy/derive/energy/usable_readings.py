"""Which readings of a source count for a window, and why some do not. Pure.

`counters.py` and `power.py` turn them into joules, `accounting.py` puts both together.
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
"""No machine draws more: the limit where a source gives none."""

_MARGIN_PCT = 10
"""A publication may come this much later than the update period says."""

RAW_PER_WATT = {"mW": 1000, "W": 1}


class Fault(enum.StrEnum):
    """Why joules cannot be known; a reason opens with one of these."""

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
    """As reasons say it."""
    return f"{time_ns / SECOND_NS:.3g} s"


class UnknownJoules(Exception):
    """The joules cannot be known; the text says why."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """The usable readings of a source: columns of equal length, in order of time.

    Attributes:
        source: where they come from.
        row: which row of the series each one is.
        dropped: the rows of the series that are no usable reading.
        before_ns: just before each reading; never before the end of the one before.
        raw: the value, as a whole number of `per_joule` or of microwatts.
        after_ns: just after each reading.
    """

    source: Source
    row: list[int]
    dropped: list[int]
    before_ns: list[int]
    raw: list[int]
    after_ns: list[int]

    @property
    def stale_ns(self) -> int:
        """How old a counter's value may be when it is read: its update period and a margin.

        An estimate is computed at the moment of reading. Where no update period is known, 0: then
        only a value that changed is known to be newer than the reading before it.
        """
        counts = self.source.kind != "estimate"
        return (self.source.update_period_ns or 0) * (100 + _MARGIN_PCT) // 100 if counts else 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """What was found, in joules.

    Attributes:
        low_j: lower end of the interval.
        best_j: the figure.
        high_j: upper end of the interval.
        start_j: full width of what is unknown at the window's start.
        end_j: the same at its end.
        estimator: how the figure was found.
        details: more for the pedigree.
        flags: what a reader should know.
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
    """Successful readings that can be true: in range, and each later than all before it."""
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
    """All stamps are in order and no two readings have the same: the usual case, quickly told."""
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
    """The largest raw value that can be true."""
    if source.modulus is not None:
        return source.modulus - 1
    if source.kind == "power":
        return (source.max_power_w or MOST_BELIEVED_W) * RAW_PER_WATT[source.unit]
    return sys.float_info.max


def failures(series: Series, readings: Readings, window: Window) -> list[str]:
    """What went wrong with each row inside the window that is not among the usable readings."""
    return [
        series.errors.get(str(row)) or f"impossible value {series.raw[row]!r}, or stamped twice"
        for row in readings.dropped
        if window.start_ns <= series.before_ns[row] <= window.end_ns
    ]


def refuse_clock_step(series: Series, window: Window) -> None:
    """Stamps that go back make the time they go back over ambiguous.

    Raises:
        UnknownJoules: the window has a part in that time.
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
    """The last reading before the window, and the first that knows all of it.

    A counter read at t tells the energy at some moment between t - staleness and t; and at a moment
    after the reading before it if that showed another value. So only a reading some time after the
    end is sure to contain the whole window. Power needs a reading after the end.

    Raises:
        UnknownJoules: the readings do not reach around the window.
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
    """A sampler that did not even try to read was stopped or starved: what else did it miss?

    Raises:
        UnknownJoules: between two tries lie more than `limit_ns`.
    """
    tries = slice(rows[0], rows[-1] + 1)
    before, after = series.before_ns[tries], series.after_ns[tries]
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

    `coverage` is the share of the window that lies between readings at most `limit_ns` apart.
    """
    ends, starts = readings.after_ns[first:last], readings.before_ns[first + 1 : last + 1]
    holes = list(map(operator.sub, starts, ends))
    wide = [place for place, length in enumerate(holes) if length > limit_ns]
    lost = sum(
        max(0, min(starts[place], window.end_ns) - max(ends[place], window.start_ns))
        for place in wide
    )
    return {
        "readings": last - first + 1,
        "gaps": len(wide),
        "largest_gap_s": max(holes) / SECOND_NS,
        "coverage": 1 - lost / (window.end_ns - window.start_ns),
    }
