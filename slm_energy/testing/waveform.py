"""Power curves whose energy is known in closed form; they drive the fake sensors.

All have `power_mw`, `energy_pj` and `joules`. Times are on the machine-wide monotonic clock, which
all processes share; power is in mW and energy in pJ, which is mW times ns.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence


class _Curve:
    """Base of all curves: energy between two moments."""

    __slots__ = ()

    def energy_pj(self, time_ns: int) -> int:
        """Energy since a fixed moment, in pJ; negative before it."""
        raise NotImplementedError

    def joules(self, start_ns: int, end_ns: int) -> float:
        """Energy between two moments."""
        return (self.energy_pj(end_ns) - self.energy_pj(start_ns)) / 1e12


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Waveform(_Curve):
    """Piecewise constant power, repeated for ever in both directions of time.

    Attributes:
        steps: (length in ns, power in mW) of each piece of one cycle.
        start_ns: start of a cycle.
    """

    steps: tuple[tuple[int, int], ...]
    start_ns: int = 0

    def power_mw(self, time_ns: int) -> int:
        """Power at a moment, in mW."""
        phase = (time_ns - self.start_ns) % self._cycle_ns
        for length_ns, power_mw in self.steps:
            if phase < length_ns:
                return power_mw
            phase -= length_ns
        raise AssertionError("the phase lies within the cycle")

    def energy_pj(self, time_ns: int) -> int:
        """Energy since `start_ns` in pJ; exact, and negative before it."""
        cycles, phase = divmod(time_ns - self.start_ns, self._cycle_ns)
        energy = cycles * sum(length * power for length, power in self.steps)
        for length_ns, power_mw in self.steps:
            energy += min(phase, length_ns) * power_mw
            phase = max(0, phase - length_ns)
        return energy

    def share(self, percent: int) -> Waveform:
        """The same load with so many percent of the power."""
        steps = tuple((length, power * percent // 100) for length, power in self.steps)
        return dataclasses.replace(self, steps=steps)

    @property
    def _cycle_ns(self) -> int:
        return sum(length for length, _ in self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Polyline(_Curve):
    """Power along straight lines between knots; constant before the first and after the last.

    Two knots at one moment make a jump. Lookup is by bisection, so long curves are fast.

    Attributes:
        times_ns: (n,) in order, n at least 1.
        powers_mw: (n,) power at each knot.
    """

    times_ns: tuple[int, ...]
    powers_mw: tuple[int, ...]
    _twice_pj: tuple[int, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pieces = zip(
            itertools.pairwise(self.times_ns), itertools.pairwise(self.powers_mw), strict=True
        )
        areas = ((t1 - t0) * (p0 + p1) for (t0, t1), (p0, p1) in pieces)
        object.__setattr__(self, "_twice_pj", tuple(itertools.accumulate(areas, initial=0)))

    def power_mw(self, time_ns: int) -> int:
        """Power at a moment in mW, rounded down; after a jump at that moment."""
        left, rise, width = self._piece(time_ns)
        return self.powers_mw[left] + rise * (time_ns - self.times_ns[left]) // width

    def energy_pj(self, time_ns: int) -> int:
        """Energy since the first knot in pJ, rounded down; negative before it."""
        left, rise, width = self._piece(time_ns)
        since = time_ns - self.times_ns[left]
        twice = 2 * self.powers_mw[left] * since + rise * since * since // width
        return (self._twice_pj[left] + twice) // 2

    def _piece(self, time_ns: int) -> tuple[int, int, int]:
        """Knot before a moment, rise and width of the line there; flat outside all knots."""
        right = bisect.bisect_right(self.times_ns, time_ns)
        if right == 0 or right == len(self.times_ns):
            return max(0, right - 1), 0, 1
        rise = self.powers_mw[right] - self.powers_mw[right - 1]
        return right - 1, rise, self.times_ns[right] - self.times_ns[right - 1]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sine(_Curve):
    """Power that swings around a mean.

    Attributes:
        mean_mw: the mean.
        swing_mw: amplitude, at most the mean.
        period_ns: of one swing.
        start_ns: a moment at which power rises through the mean.
    """

    mean_mw: int
    swing_mw: int
    period_ns: int
    start_ns: int = 0

    def power_mw(self, time_ns: int) -> int:
        """Power at a moment in mW, rounded."""
        return self.mean_mw + round(self.swing_mw * math.sin(self._angle(time_ns)))

    def energy_pj(self, time_ns: int) -> int:
        """Energy since `start_ns` in pJ, rounded; negative before it."""
        swung = self.swing_mw * self.period_ns / math.tau * (1 - math.cos(self._angle(time_ns)))
        return self.mean_mw * (time_ns - self.start_ns) + round(swung)

    def _angle(self, time_ns: int) -> float:
        return math.tau * ((time_ns - self.start_ns) % self.period_ns) / self.period_ns


def constant(power_w: float) -> Waveform:
    """The same power at all times."""
    return Waveform(steps=((10**9, round(power_w * 1000)),))


def stairs(levels: Sequence[tuple[int, int]]) -> Polyline:
    """Power that jumps: (start in ns, mW) of each level; the first also holds before its start."""
    times, powers = [levels[0][0]], [levels[0][1]]
    for time_ns, power_mw in levels[1:]:
        times += [time_ns, time_ns]
        powers += [powers[-1], power_mw]
    return Polyline(times_ns=tuple(times), powers_mw=tuple(powers))
