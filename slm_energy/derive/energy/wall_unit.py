"""Whether the unit of a wall meter can be right, from the sensors inside the machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from slm_energy.derive.energy.crosscheck import CrossCheck, crosschecks
from slm_energy.record import EnergyFigure
from slm_energy.wall_units import likely_unit

_WITH_PROCESSOR = ("cpu_package", "psys")
_MOST_INSIDE = 1.5
"""The parts cannot use more than the whole; half of it is left for the errors of all sensors."""

_LEAST_INSIDE = 1 / 60
"""Packages, memory and GPUs use a larger share than this: an idle desktop's use a tenth. As the
whole uses more than its parts, a meter that shows 60 times too much is always below it."""

_USUAL_LEAST = 1 / 20


def parts_to_wall(figures: Sequence[EnergyFigure]) -> CrossCheck | None:
    """The summed sensors over the meter at the wall.

    Args:
        figures: of one window.

    Returns:
        None without such a meter, or if the sum lacks the processor, or is the wall itself.
    """
    if not any(figure.summed and figure.domain in _WITH_PROCESSOR for figure in figures):
        return None
    return next((each for each in crosschecks(figures) if each.name == "sum_to_wall"), None)


def implausible(share: CrossCheck, unit: str) -> str | None:
    """Why the unit cannot be right; None if it can.

    Args:
        share: see `parts_to_wall`.
        unit: `measurement.wall_meter.unit`.
    """
    if share.low <= _MOST_INSIDE and share.high >= _LEAST_INSIDE:
        return None
    likely = likely_unit(unit, _USUAL_LEAST / share.ratio, 1 / share.ratio)
    hint = "check path" if likely is None else f"it is likely to be {likely}"
    return (
        f"the sensors inside the machine use {share.ratio:.3g} times what the wall meter shows:"
        f" measurement.wall_meter.unit={unit} cannot be right, {hint}"
    )
