"""The latency of a sensor: energy appears in its values some time after it was used. Pure.

Energy used in a window is what a sensor counts in the window that begins and ends as much later as
its values are late. How late that is may be known within bounds only: then the energy is accounted
for several such windows, and the interval contains those of all. The latency of one sensor is taken
to be the same at both edges of a window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

from slm_energy.derive.energy.usable_readings import SECOND_NS, Energy
from slm_energy.record import Source, Window
from slm_energy.serialization import Json

_SHIFTS = 8
_FINEST_NS = 1_000_000
_CERTAIN = {"certain_low_j": min, "certain_high_j": max}


def latency_ns(source: Source) -> tuple[int, int, int]:
    """Shortest, best and longest latency; a calibration comes before what its class may have."""
    if source.calibration is not None:
        lag = source.calibration.lag_s
        best = round(lag.best * SECOND_NS)
        return min(best, round(lag.low * SECOND_NS)), best, max(best, round(lag.high * SECOND_NS))
    return (
        source.lag_ns - source.lag_error_ns,
        source.lag_ns,
        source.lag_ns + source.lag_error_ns,
    )


def longest_latency_ns(source: Source) -> int:
    """How long after a moment a sensor may first show its energy; 0 if it is never late."""
    return max(0, latency_ns(source)[2])


def shifted(source: Source, window: Window) -> list[Window]:
    """The windows in which the energy of `window` may have appeared; the most likely one first."""
    shortest, best, longest = latency_ns(source)
    step = max((longest - shortest) // _SHIFTS, _FINEST_NS)
    others = {*range(shortest, longest, step), longest} - {best}
    return [
        dataclasses.replace(window, start_ns=window.start_ns + lag, end_ns=window.end_ns + lag)
        for lag in (best, *sorted(others))
    ]


def united(source: Source, energies: Sequence[Energy]) -> Energy:
    """The first energy, with an interval that contains those of all, and of what is between them.

    Where power changes at an edge, energy rises or falls with the latency at a steady rate: midway
    between two windows it may differ from both by half of the largest step between neighbours.
    """
    if len(energies) == 1 and not any(latency_ns(source)):
        return energies[0]
    first, (shortest, _, longest) = energies[0], latency_ns(source)
    certain: dict[str, Json] = {
        key: extreme(_number(energy.details[key]) for energy in energies)
        for key, extreme in _CERTAIN.items()
        if key in first.details
    }
    others = [energy.best_j for energy in energies[1:]]
    between_j = max((abs(b - a) for a, b in pairwise(others)), default=0.0) / 2
    low_j = max(0.0, min(energy.low_j for energy in energies) - between_j)
    high_j = max(energy.high_j for energy in energies) + between_j
    more: dict[str, Json] = {
        "latency_low_s": shortest / SECOND_NS,
        "latency_high_s": longest / SECOND_NS,
        "latency_j": high_j - low_j - (first.high_j - first.low_j),
    }
    return dataclasses.replace(
        first, low_j=low_j, high_j=high_j, details=first.details | certain | more
    )


def _number(value: Json) -> float:
    assert isinstance(value, float)
    return value
