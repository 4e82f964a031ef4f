"""Units of wall meters, and which one is likely where the configured one cannot be right. Pure."""

from __future__ import annotations

import math

SCALES = {
    "W": 10**3,
    "mW": 1,
    "Wh": 3_600_000,
    "kWh": 3_600_000_000,
    "Wmin": 60_000,
    "J": 10**3,
}
"""Unit of a meter's response to mW, or to mJ."""

POWERS = ("W", "mW")


def likely_unit(unit: str, least: float, most: float) -> str | None:
    """The unit that a meter has, if it shows too much or too little in the configured one.

    Args:
        unit: as configured.
        least: it shows at least so many times the truth.
        most: and at most so many times.

    Returns:
        None if no unit explains such a factor.
    """
    middle = math.sqrt(least * most)
    factors = {
        other: SCALES[unit] / scale
        for other, scale in SCALES.items()
        if (other in POWERS) == (unit in POWERS) and least <= SCALES[unit] / scale <= most
    }
    return min(factors, key=lambda other: abs(math.log(factors[other] / middle)), default=None)
