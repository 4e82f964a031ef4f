"""Stored noise floors that a comparison of two studies does not use.

A floor is not used unless it is declared. What is stored is the largest difference that an A/A
study (one cell under two names) does not exclude: a short one would hide every change. And it is
what differs within a study, so that it says nothing certain about what differs between two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.text.phrases import number
from slm_energy.errors import AnalysisError

StoredFloor = Callable[[str], NoiseFloor | None]
"""A machine to its latest stored noise floor; None before there is one."""


def no_floor(machine: str) -> NoiseFloor | None:
    """Of a side without a store."""
    return None


def floor_warnings(
    machine: str, stored_floor: StoredFloor, metrics: Sequence[Metric], floor: float
) -> list[str]:
    """One line for each metric whose stored noise floor is above the one that is used.

    Args:
        machine: where a study ran.
        stored_floor: of its store.
        metrics: those that are judged.
        floor: what is used.
    """
    try:
        stored = stored_floor(machine)
    except AnalysisError as error:
        return [f"floor={floor:g}: the noise floor of {machine} is not known: {error}"]
    if stored is None:
        return []
    known = [(metric, seen) for metric in metrics if (seen := stored.of(metric.name)) is not None]
    return [
        _sentence(stored, metric, seen, floor)
        for metric, seen in known
        if seen.largest_pct > 100 * floor
    ]


def _sentence(stored: NoiseFloor, metric: Metric, seen: MetricNoise, floor: float) -> str:
    when = f" of {stored.day}" if stored.day else ""
    enough = math.ceil(10 * seen.largest_pct) / 1000
    return (
        f"floor={floor:g} is below the noise floor of {stored.machine}: in study"
        f" {stored.study}{when} the same cell under two names differs by up to"
        f" {number(seen.largest_pct)} % in {metric.title}, and two studies may differ by more;"
        f" floor={enough:g} allows for it in every verdict"
    )
