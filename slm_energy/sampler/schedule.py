"""When a source is read next. Pure: times go in, times come out.

A counter is updated in ticks, and between two ticks its value does not change. One that ticks fast
is read at a jittered period, so that a periodic load is not always sampled at the same phase. One
that ticks slowly is read around its next expected tick, so that the time of the tick is known and
not only that there was one.
"""

from __future__ import annotations

import math

from slm_energy.record import Source

POLL_NS = 1_000_000
"""How closely a tick is looked for."""

_PERIOD_NS = 100_000_000
_SHORTEST_POWER_NS = 20_000_000
_SLOW_TICK_NS = 10_000_000
_TRACK_NS = 100_000_000
"""One tick per this time is looked for: each costs three or four readings, and waking up for them
is most of the sampler's cost. After a mark every tick is looked for."""

_STEPS = 10
"""A tick is looked for in about this many steps, however uncertain its time: it bounds the cost."""


def pause_ns(source: Source, period_s: float | None) -> int:
    """Time between two readings of a source whose ticks are not followed.

    Power that is summed, and not only compared with a counter, is read twice per update, or some
    updates would be missed. Gauges and estimates are read as often as they change.

    Args:
        source: what is read.
        period_s: `measurement.period_s`; None leaves the choice to each source.
    """
    usual = _PERIOD_NS if period_s is None else round(period_s * 1e9)
    if source.kind in ("gauge", "estimate"):
        return max(usual, source.update_period_ns or 0)
    if source.kind == "power" and period_s is None and source.summed and source.update_period_ns:
        return min(usual, max(_SHORTEST_POWER_NS, source.update_period_ns // 2))
    return usual


def tracker_for(source: Source, period_s: float | None) -> TickTracker | None:
    """The tracker of a summed counter that ticks slowly; others are read periodically: None."""
    slow = source.kind == "counter" and (source.update_period_ns or 0) >= _SLOW_TICK_NS
    if period_s is not None or not slow or not source.summed:
        return None
    return TickTracker(source.update_period_ns or 0)


class TickTracker:
    """Predicts the ticks of one counter from those that were observed.

    The last tick is known to be in an interval: after the last reading of the old value, before
    the first of the new one. The next is looked for around that interval one period later, or
    several periods for a counter that ticks more often than 20 times a second. Period and margin
    follow what is seen, so that a period that is slightly off, or a tick that comes late or was
    missed, costs some readings and no more.

    Args:
        period_ns: update period of the counter, as far as known.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = float(period_ns)
        self._stride = max(1, _TRACK_NS // period_ns)
        self._ahead = self._stride
        self._last: tuple[int, int | float] | None = None
        self._tick: tuple[float, float] | None = None
        self._spread_ns = 0.0
        self._closely = False

    def follow(self, now_ns: int) -> None:
        """From now on every tick is wanted, and at once."""
        self._closely = True
        if self._tick is not None:
            self._ahead = max(1, math.ceil((now_ns - self._tick[1]) / self._period_ns))

    def relax(self) -> None:
        """From now on an occasional tick is enough."""
        if self._closely:
            self._closely, self._ahead = False, self._stride

    def saw(self, before_ns: int, raw: int | float, after_ns: int) -> None:
        """Learn from a reading that succeeded."""
        last, self._last = self._last, (before_ns, raw)
        if last is None or raw == last[1]:
            return
        tick = (float(last[0]), float(after_ns))
        if tick[1] - tick[0] >= self._period_ns:
            # There may have been several ticks: the last is known no better than predicted.
            # If there was one, it came before the search began: look earlier.
            if tick[1] - tick[0] < 1.5 * self._period_ns:
                self._spread_ns = 2 * max(self._spread_ns, POLL_NS / 2)
            return
        if self._tick is not None:
            self._learn(self._tick, tick)
        self._tick, self._ahead = tick, 1 if self._closely else self._stride

    def next_ns(self, now_ns: int) -> int:
        """When to read next."""
        search_ns = POLL_NS if self._closely else max(POLL_NS, self._period_ns / _STEPS)
        if self._tick is None:
            return round(now_ns + search_ns)
        margin = max(POLL_NS / 2, min(2 * self._spread_ns, self._period_ns / 4))
        ahead = self._ahead * self._period_ns
        first, latest = self._tick[0] + ahead - margin, self._tick[1] + ahead + margin
        if now_ns < first:
            return math.ceil(first)
        if now_ns > latest or self._closely:
            return round(now_ns + search_ns)
        return round(now_ns + max(POLL_NS, (latest - first) / _STEPS))

    def _learn(self, old: tuple[float, float], new: tuple[float, float]) -> None:
        width = old[1] - old[0] + new[1] - new[0]
        apart = (sum(new) - sum(old)) / 2
        ticks = round(apart / self._period_ns)
        if width < self._period_ns / 4 and ticks > 0:
            error = apart - ticks * self._period_ns
            self._period_ns += error / ticks / 8
            self._spread_ns += (abs(error) - self._spread_ns) / 4
