"""Compare two views of the same energy. Pure.

    power / counter     integrated power of a device over its energy counter: 1
    parts / whole       the summed sources over a meter of the whole machine: at most 1

See zeus issue 181 for a counter and polled power that differ by 75 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from slm_energy.record import EnergyFigure

_WHOLES = ("psys", "wall")

_Sum = tuple[float, float, float]
"""Joules, and both ends of their interval."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CrossCheck:
    """A ratio of two figures of one window.

    Attributes:
        name: the pair compared, for example `gpu_power_to_counter` or `sum_to_wall`.
        ratio: the first over the second.
        low: smallest ratio that the two intervals allow, with the gain of the sensors.
        high: largest.
        equal: the two are views of one device and should be equal; else the first is a part of the
            second, and any ratio up to 1 is right.
    """

    name: str
    ratio: float
    low: float
    high: float
    equal: bool

    def agrees(self, tolerance: float) -> bool:
        """Whether the intervals allow a ratio within `tolerance` (a share) of the expected one."""
        too_small = self.equal and self.high < 1 - tolerance
        return not too_small and self.low <= 1 + tolerance


def crosschecks(figures: Sequence[EnergyFigure]) -> tuple[CrossCheck, ...]:
    """All pairs of views among the figures of one window; unknown figures are skipped."""
    known = [figure for figure in figures if figure.joules]
    return (*_power_to_counter(known), *_parts_to_whole(known))


def _power_to_counter(figures: Sequence[EnergyFigure]) -> Iterator[CrossCheck]:
    pairs = [
        (power, counter)
        for power in figures
        for counter in figures
        if (power.kind, counter.kind) == ("power", "counter")
        and power.domain == counter.domain
        and power.pedigree["device"] == counter.pedigree["device"]
    ]
    for number, (power, counter) in enumerate(pairs):
        name = f"{power.domain}_power_to_counter" + (f"_{number}" if number else "")
        # A counter is made of the same sensor's power, so gain is allowed for once.
        first, second = _sum([power], gain=True), _sum([counter], gain=False)
        yield _ratio(name, first, second, equal=True)


def _parts_to_whole(figures: Sequence[EnergyFigure]) -> Iterator[CrossCheck]:
    parts = [figure for figure in figures if figure.summed]
    for whole in figures:
        if whole.domain not in _WHOLES or whole.summed or not parts:
            continue
        # The platform counter (psys) does not see cards in a slot.
        inside = [p for p in parts if whole.domain == "wall" or p.domain != "gpu"]
        if inside:
            first, second = _sum(inside, gain=True), _sum([whole], gain=True)
            yield _ratio(f"sum_to_{whole.domain}", first, second, equal=False)


def _ratio(name: str, one: _Sum, other: _Sum, *, equal: bool) -> CrossCheck:
    first, first_low, first_high = one
    second, second_low, second_high = other
    return CrossCheck(
        name=name,
        ratio=first / second,
        low=first_low / second_high,
        high=first_high / second_low if second_low > 0 else math.inf,
        equal=equal,
    )


def _sum(figures: Sequence[EnergyFigure], *, gain: bool) -> _Sum:
    """Sum and interval; that with sensor gain for what another sensor sees, where it is known.

    A calibrated interval may leave the shown joules out; the ratio is of these.
    """
    lows, highs = list[float](), list[float]()
    for figure in figures:
        low, high = figure.low_j or 0.0, figure.high_j or 0.0
        if gain and figure.low_with_gain_j is not None and figure.high_with_gain_j is not None:
            low, high = min(low, figure.low_with_gain_j), max(high, figure.high_with_gain_j)
        lows.append(low)
        highs.append(high)
    joules = math.fsum(figure.joules or 0 for figure in figures)
    return joules, math.fsum(lows), math.fsum(highs)
