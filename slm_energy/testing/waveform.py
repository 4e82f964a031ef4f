"""A power curve whose energy is known exactly; it drives the fake sensors."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Waveform:
    """Piecewise constant power, repeated for ever in both directions of time.

    Times are on the machine-wide monotonic clock, so that processes agree on it.

    Attributes:
        steps: (length in ns, power in mW) of each piece of one cycle.
        start_ns: when a cycle begins.
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
        """Energy since `start_ns` in pJ (mW times ns); exact, and negative before it."""
        cycles, phase = divmod(time_ns - self.start_ns, self._cycle_ns)
        energy = cycles * sum(length * power for length, power in self.steps)
        for length_ns, power_mw in self.steps:
            energy += min(phase, length_ns) * power_mw
            phase = max(0, phase - length_ns)
        return energy

    def joules(self, start_ns: int, end_ns: int) -> float:
        """Energy between two moments."""
        return (self.energy_pj(end_ns) - self.energy_pj(start_ns)) / 1e12

    @property
    def _cycle_ns(self) -> int:
        return sum(length for length, _ in self.steps)


def constant(power_w: float) -> Waveform:
    """The same power at all times."""
    return Waveform(steps=((10**9, round(power_w * 1000)),))
