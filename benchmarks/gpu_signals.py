"""What a recorded GPU sensor tells about itself: when it ticks, how late it is, what it leaves out.

Pure functions of a trace; `gpu_campaign.py` records and prints.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import statistics
from collections.abc import Sequence

from slm_energy.derive.energy.accounting import account
from slm_energy.record import Series, Window

_LATE = 1.5
_SETTLED_NS = 500_000_000
"""A step of the load is fitted without this much after it: clocks and sensor settle."""
_LONGEST_GAP_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ticks:
    """Times between two updates of a sensor.

    Attributes:
        count: how many there are.
        median_ms: their median.
        late_pct: share of them longer than 1.5 medians, in percent.
        longest_ms: the longest.
    """

    count: int
    median_ms: float
    late_pct: float
    longest_ms: float


def ticks(series: Series, window: Window) -> Ticks | None:
    """Times between changes of a value within a window; None where it changed less than 3 times."""
    points = [
        (time_ns, raw)
        for time_ns, raw in zip(series.before_ns, series.raw, strict=True)
        if raw is not None and window.start_ns <= time_ns <= window.end_ns
    ]
    changes = [later[0] for one, later in itertools.pairwise(points) if later[1] != one[1]]
    pauses_ms = [(later - one) / 1e6 for one, later in itertools.pairwise(changes)]
    if len(pauses_ms) < 2:
        return None
    median_ms = statistics.median(pauses_ms)
    late = sum(pause > _LATE * median_ms for pause in pauses_ms)
    return Ticks(
        count=len(pauses_ms),
        median_ms=median_ms,
        late_pct=100 * late / len(pauses_ms),
        longest_ms=max(pauses_ms),
    )


def counter_delay_ms(counter: Series, before: Window, after: Window) -> float | None:
    """How long after a step of the load a counter's slope changes.

    Straight lines through the counter's updates before and after the step meet when it saw the
    step. The time in which the power itself rises is included.

    Args:
        counter: its readings.
        before: steady load until the step.
        after: steady load from the step on.

    Returns:
        Milliseconds after `after.start_ns`; None where a line has fewer than 3 updates or both
        have the same slope.
    """
    updates = _updates(counter)
    lines = [
        _line([p for p in updates if start_ns <= p[0] <= end_ns], after.start_ns)
        for start_ns, end_ns in (
            (before.start_ns + _SETTLED_NS, before.end_ns),
            (after.start_ns + _SETTLED_NS, after.end_ns),
        )
    ]
    first, second = lines
    if first is None or second is None or first[1] == second[1]:
        return None
    return (first[0] - second[0]) / (second[1] - first[1]) / 1e6


def power_delay_ms(power: Series, before: Window, after: Window) -> float | None:
    """How long after a step of the load a power reading has made half of the step.

    Averaging over w delays it by w/2.

    Returns:
        Milliseconds after `after.start_ns`; None where the power does not step.
    """
    levels = [
        _mean(power, window.start_ns + _SETTLED_NS, window.end_ns) for window in (before, after)
    ]
    low, high = levels
    if low is None or high is None or low == high:
        return None
    half, rises = (low + high) / 2, high > low
    for time_ns, raw in zip(power.before_ns, power.raw, strict=True):
        inside = after.start_ns <= time_ns <= after.end_ns
        if inside and raw is not None and (raw >= half if rises else raw <= half):
            return (time_ns - after.start_ns) / 1e6
    return None


def counter_to_power(counter: Series, power: Series, window: Window) -> float | None:
    """Joules of the counter over joules of integrated power; None where one is unknown."""
    joules = [
        account(series, window, max_gap_ns=_LONGEST_GAP_NS).joules for series in (counter, power)
    ]
    if not all(joules):
        return None
    return (joules[0] or 0) / (joules[1] or 1)


def _updates(series: Series) -> list[tuple[int, float]]:
    """Middle of the two readings between which the value changed, and the new value."""
    found = list[tuple[int, float]]()
    rows = zip(series.before_ns, series.raw, strict=True)
    for (one_ns, one), (other_ns, other) in itertools.pairwise(rows):
        if one is not None and other is not None and one != other:
            found.append(((one_ns + other_ns) // 2, float(other)))
    return found


def _line(points: Sequence[tuple[int, float]], origin_ns: int) -> tuple[float, float] | None:
    """Intercept at `origin_ns` and slope per ns of the least-squares line; None below 3 points."""
    if len(points) < 3:
        return None
    slope, intercept = statistics.linear_regression(
        [time_ns - origin_ns for time_ns, _ in points], [value for _, value in points]
    )
    return intercept, slope


def _mean(series: Series, start_ns: int, end_ns: int) -> float | None:
    begin = bisect.bisect_left(series.before_ns, start_ns)
    end = bisect.bisect_right(series.before_ns, end_ns)
    values = [raw for raw in series.raw[begin:end] if raw is not None]
    return statistics.fmean(values) if values else None
