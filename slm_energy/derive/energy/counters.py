"""Energy of a cumulative source: the count between a window's two edges. Pure.

Integers in the counter's own unit; fractions only at the two edges (`window_edges.py`).
"""

from __future__ import annotations

import bisect
import itertools
import operator
from fractions import Fraction

from slm_energy.derive.energy.unobserved import Increment, filtered, observed_in_part
from slm_energy.derive.energy.usable_readings import (
    MOST_BELIEVED_W,
    Energy,
    Fault,
    Readings,
    UnknownJoules,
    part_time,
    seconds,
)
from slm_energy.derive.energy.window_edges import NEAR, Edge, Publication, edge
from slm_energy.record import UNITS_PER_JOULE, Window

_FROZEN_NS = 1_000_000_000
_FROZEN_PERIODS = 10


def count(readings: Readings, first: int, last: int, window: Window, limit_ns: int) -> Energy:
    """Energy counted within a window.

    Args:
        readings: of a counter or an estimate.
        first: index of the last reading before the window.
        last: index of the first reading that covers all of it.
        window: the span to account.
        limit_ns: the longest pause that cannot hide a wrap if the maximum power is unknown.

    Raises:
        UnknownJoules: the counter behaved impossibly, or the window is too short for it.
    """
    period_ns = readings.source.update_period_ns or 0
    length_ns = window.end_ns - window.start_ns
    if readings.source.kind == "counter" and length_ns < period_ns:
        raise UnknownJoules(
            Fault.SHORT,
            f"{seconds(length_ns)}, but the counter is renewed every {seconds(period_ns)}:"
            " raise measurement.serve_s",
        )
    counter = _Counter(readings, limit_ns)
    steps = counter.steps(first, last)
    counter.refuse_frozen(first, steps)
    counter.vouch(first, last)
    start, _ = counter.edge(window.start_ns)
    end, at = counter.edge(window.end_ns)
    between = sum(steps[: at - first])
    energy = _energy(readings, start, end, between, counter.wraps(first, last))
    if part_time(readings.source):
        increments = counter.increments(*counter.around(first, last))
        return observed_in_part(energy, readings.source, increments, window)
    if readings.source.step_noise_pct:
        return filtered(energy, readings.source, window)
    return energy


def _energy(readings: Readings, start: Edge, end: Edge, between: int, wraps: int) -> Energy:
    unit = UNITS_PER_JOULE[readings.source.unit]
    certain_low = max(Fraction(0), between + end.certain_low - start.certain_high)
    return Energy(
        low_j=float(max(Fraction(0), between + end.low - start.high) / unit),
        best_j=float((between + end.best - start.best) / unit),
        high_j=float((between + end.high - start.low) / unit),
        start_j=float((start.high - start.low) / unit),
        end_j=float((end.high - end.low) / unit),
        estimator="counter, one change of power between two publications at each edge",
        details={
            "wraps": wraps,
            "certain_low_j": float(certain_low / unit),
            "certain_high_j": float((between + end.certain_high - start.certain_low) / unit),
        },
    )


class _Counter:
    """Readings of a counter and its limits: when it wraps, how fast its device can draw energy."""

    def __init__(self, readings: Readings, limit_ns: int) -> None:
        source = readings.source
        self._before, self._raw, self._after = readings.before_ns, readings.raw, readings.after_ns
        self._modulus, self._stale_ns = source.modulus, readings.stale_ns
        self._period_ns = source.update_period_ns or 0
        self._frozen_ns = max(_FROZEN_NS, _FROZEN_PERIODS * self._period_ns)
        self._unit = source.unit
        self._resolution = source.resolution or 0
        self._quantum = source.quantum
        self._most: Fraction | None = None
        if source.max_power_w is not None:
            self._most = Fraction(source.max_power_w) * UNITS_PER_JOULE[source.unit] / 10**9
        # If it is unknown, at most half a wrap within the longest pause is plausible.
        self._rate = MOST_BELIEVED_W * UNITS_PER_JOULE[source.unit] / 10**9
        if self._most is not None:
            self._rate = float(self._most)
        elif self._modulus is not None:
            self._rate = self._modulus / 2 / (limit_ns + self._stale_ns)

    def steps(self, first: int, last: int) -> list[int]:
        """Counts between consecutive readings, from `first` to `last`.

        Raises:
            UnknownJoules: see `step`.
        """
        raw, after = self._raw[first : last + 1], self._after[first + 1 : last + 1]
        steps = list(map(operator.sub, raw[1:], raw))
        elapsed = list(map(operator.sub, after, self._before[first:last]))
        # Nearly all steps are small and quick; only the others are checked one by one.
        most = map(operator.mul, elapsed, itertools.repeat(self._rate))
        small = map(operator.le, steps, most)
        for index in [
            index for index, is_small in enumerate(small) if not is_small or steps[index] < 0
        ]:
            steps[index] = self.step(first + index)
        slowest = max(range(len(elapsed)), key=elapsed.__getitem__)
        self.step(first + slowest)
        return steps

    def around(self, first: int, last: int) -> tuple[int, int]:
        """Indices of the readings by which `NEAR` new values were seen before and after these."""
        return self._reach(first, -1), self._reach(last, 1)

    def increments(self, first: int, last: int) -> list[Increment]:
        """Counts of single update periods; a rise seen after several is theirs in equal parts."""
        increments, since_ns = list[Increment](), self._after[first]
        for at in range(first, last):
            if step := self.step(at):
                now_ns = (self._before[at] + self._after[at + 1]) // 2
                periods = max(1, round((now_ns - since_ns) / self._period_ns))
                increments += [
                    (now_ns - back * self._period_ns, step // periods)
                    for back in reversed(range(periods))
                ]
                since_ns = now_ns
        return increments

    def step(self, at: int) -> int:
        """Count between reading `at` and the next.

        A late publication carries the energy of all the time since the last one, and so more than
        the time since the last reading allows. A coarse counter rests between its steps anyway:
        there the time of the reading decides.

        Raises:
            UnknownJoules: several answers are possible, or the only one is physically impossible.
        """
        one, other, since = self._raw[at], self._raw[at + 1], at
        if self._quantum == 1 and other != one:
            while since and self._raw[since - 1] == one:
                since -= 1
        elapsed_ns = self._after[at + 1] - self._before[since]
        most = self._rate * (elapsed_ns + self._stale_ns)
        if self._modulus is not None and 2 * most >= self._modulus:
            raise UnknownJoules(
                Fault.WRAPS,
                f"a pause of {seconds(elapsed_ns)} may hide a wrap of the counter",
            )
        step = other - one
        if 0 <= step <= most:
            return step
        if self._modulus is not None and step + self._modulus <= most:
            return step + self._modulus
        if step > most:
            fault = Fault.JUMP
        else:
            fault = Fault.RESET if other <= min(most, one / 2) else Fault.BACKWARD
        raise UnknownJoules(
            fault,
            f"the counter went from {one} to {other} {self._unit} within {seconds(elapsed_ns)}",
        )

    def vouch(self, first: int, last: int) -> None:
        """Check that the outer two readings agree with their neighbours: any may be misread.

        Raises:
            UnknownJoules: see `step`.
        """
        for at in (first - 1, last):
            if 0 <= at < len(self._raw) - 1:
                self.step(at)

    def wraps(self, first: int, last: int) -> int:
        """Number of times that the counter returned to zero."""
        raw = self._raw[first : last + 1]
        return sum(map(operator.gt, raw, raw[1:]))

    def refuse_frozen(self, first: int, steps: list[int]) -> None:
        """Refuse a counter that does not change for many update periods: it no longer counts.

        A counter with coarse steps may pause for the time of as many steps.

        Raises:
            UnknownJoules: it froze between `first` and the reading after the last of `steps`.
        """
        patience_ns = self._frozen_ns
        if counted := sum(steps):
            took_ns = self._after[first + len(steps)] - self._before[first]
            step_ns = self._resolution * took_ns / counted
            patience_ns = max(patience_ns, round(_FROZEN_PERIODS * step_ns))
        since_ns = self._after[first]
        for index, step in enumerate(steps, first + 1):
            if step:
                since_ns = self._after[index]
            elif self._before[index] - since_ns >= patience_ns:
                raise UnknownJoules(
                    Fault.FROZEN,
                    f"the counter was stuck for {seconds(patience_ns)} or longer",
                )

    def edge(self, time_ns: int) -> tuple[Edge, int]:
        """Energy at a moment, relative to the last reading before it; and that reading's index.

        Raises:
            UnknownJoules: the counter did not change around it for too long.
        """
        at = bisect.bisect_right(self._after, time_ns) - 1
        begin, end = self._reach(at, -1), self._reach(at, 1)
        publications = self._publications(begin, at, end)
        if time_ns > publications[-1].earliest_ns:
            raise UnknownJoules(Fault.FROZEN, "the counter was stuck at an edge of the window")
        return edge(publications, time_ns, self._most), at

    def _reach(self, at: int, direction: int) -> int:
        """Index of the reading by which `NEAR` new values were seen, or of the last good one."""
        renewed = 0
        while 0 <= at + direction < len(self._raw):
            try:
                renewed += self.step(min(at, at + direction)) > 0
            except UnknownJoules:
                break  # Readings beyond a reset say nothing about this side of it.
            if renewed == NEAR and direction < 0:
                break
            at += direction
            if renewed == NEAR:
                break
        return at

    def _publications(self, begin: int, at: int, end: int) -> list[Publication]:
        """Publications seen by the readings from `begin` to `end`, relative to reading `at`."""
        stale_ns = self._stale_around(begin, end)
        value = -sum(self.step(index) for index in range(begin, at))
        publications = list[Publication]()
        for index in range(begin, end + 1):
            earliest_ns, below_ns = self._before[index] - stale_ns, None
            if index > begin:
                value += self.step(index - 1)
            if index and self._raw[index] != self._raw[index - 1]:
                earliest_ns = max(earliest_ns, self._before[index - 1])
                if index > begin and self._quantum > 1:
                    below_ns = self._before[index - 1] - stale_ns
            elif publications:
                continue  # The same publication, read again: no value lasts longer than `stale_ns`.
            publications.append(
                Publication(
                    earliest_ns=earliest_ns,
                    latest_ns=self._after[index],
                    value=value,
                    quantum=self._quantum,
                    below_ns=below_ns,
                )
            )
        return publications

    def _stale_around(self, begin: int, end: int) -> int:
        """Maximum age of a value: that of the source, or the longest time seen without change."""
        longest_ns, since_ns = self._stale_ns, self._after[begin]
        for index in range(begin + 1, end + 1):
            if self._raw[index] != self._raw[index - 1]:
                since_ns = self._after[index]
            longest_ns = max(longest_ns, self._before[index] - since_ns)
        return longest_ns
