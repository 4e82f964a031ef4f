"""Drift: least-squares slopes of a log metric on round, place in the round, temperature.

Rounds differ from each other as a whole, and the trials of a round share that: tested trial by
trial, rounds without any trend seem to have one in 0.26 to 0.71 of studies. So the slope over
rounds is fitted to one value per round, and the slopes within rounds leave the rounds' means out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from slm_energy.analysis.result.diagnostics import Drift, Point
from slm_energy.analysis.stats.effect_size import Floats, holm


def drifts(points: Sequence[Point], alpha: float) -> tuple[Drift, ...]:
    """The slopes that can be computed from a metric's trials.

    Args:
        points: one per valid trial.
        alpha: intervals have confidence 1 - alpha.
    """
    cells = np.unique([point.cell for point in points], return_inverse=True)[1]
    numbers, rounds = np.unique([point.round for point in points], return_inverse=True)
    logs = np.log([point.value for point in points])
    order = np.array([float(point.order) for point in points])
    place = np.empty(len(points))
    for row in range(len(numbers)):
        place[rounds == row] = stats.rankdata(order[rounds == row])
    warm = np.array([np.nan if p.temperature_c is None else p.temperature_c for p in points])
    known = ~np.isnan(warm)
    alike = np.zeros(len(numbers), dtype=np.int64)
    slopes = (
        slope("round", round_effects(logs, cells, rounds), numbers.astype(float), [alike], alpha),
        slope("place", logs, place, [cells, rounds], alpha),
        slope("temperature", logs[known], warm[known], [cells[known], rounds[known]], alpha),
    )
    computed = [drift for drift in slopes if drift is not None]
    adjusted = holm(np.array([drift.p for drift in computed]))
    return tuple(
        dataclasses.replace(drift, p_adjusted=float(p))
        for drift, p in zip(computed, adjusted, strict=True)
    )


def round_effects(logs: Floats, cells: np.ndarray, rounds: np.ndarray) -> Floats:
    """By how much each round differs, cells taken out by least squares.

    Args:
        logs: (n,) log values.
        cells: (n,) integers from 0.
        rounds: (n,) integers from 0.

    Returns:
        One value per round; their mean has no meaning.
    """
    design = np.hstack([np.eye(part.max() + 1)[part] for part in (rounds, cells)])
    normal = np.linalg.lstsq(design.T @ design, design.T @ logs, rcond=None)
    return np.asarray(normal[0][: rounds.max() + 1])


def slope(
    against: str, logs: Floats, covariate: Floats, groups: list[np.ndarray], alpha: float
) -> Drift | None:
    """Slope with group means removed (Frisch-Waugh-Lovell); None where it cannot be estimated.

    Args:
        against: name of the covariate, see `Drift.against`.
        logs: (n,) log values.
        covariate: (n,) what they are regressed on.
        groups: groupings whose levels have means of their own; each (n,) integers from 0.
        alpha: the interval has confidence 1 - alpha.
    """
    taken = sum(len(np.unique(group)) for group in groups) - len(groups) + 1
    freedom = len(logs) - taken - 1
    if freedom < 1:
        return None
    x, y = without_group_means(covariate, groups), without_group_means(logs, groups)
    within = float((x**2).sum())
    if within < 1e-9:
        return None
    steepness = float((x * y).sum()) / within
    rest = float(((y - steepness * x) ** 2).sum())
    if rest < 1e-20:
        return None
    error = math.sqrt(rest / freedom / within)
    reach = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    return Drift(
        against=against,  # type: ignore[arg-type]
        slope_pct=100 * math.expm1(steepness),
        low_pct=100 * math.expm1(steepness - reach),
        high_pct=100 * math.expm1(steepness + reach),
        p=float(2 * stats.t.sf(abs(steepness / error), freedom)),
        trials=len(logs),
    )


def without_group_means(values: Floats, groups: Sequence[np.ndarray]) -> Floats:
    """Subtract the means of each grouping in turn until all of them are zero.

    Args:
        values: (n,) figures.
        groups: groupings; each (n,) integers from 0.
    """
    values = values.copy()
    for _ in range(1 if len(groups) == 1 else 200):
        before = values
        for group in groups:
            sums = np.bincount(group, values)
            values = values - (sums / np.bincount(group).clip(1))[group]
        if float(np.abs(values - before).max(initial=0)) < 1e-14:
            break
    return values
