"""What each cell's trials are like, and what could make them less alike than a comparison takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from slm_energy.analysis.result.report import (
    Changed,
    Descriptive,
    Diagnostics,
    Drift,
    Family,
    Point,
)
from slm_energy.analysis.result.verdict import mirrored
from slm_energy.analysis.stats.effect_size import Flags, Floats, half_width
from slm_energy.analysis.stats.paired import Block, Rule, compare

OUTLIER_SCORE = 3.5
FEWEST_FOR_OUTLIERS = 5
START_TEMPERATURE = "_start_c"
"""How the name of a metric ends that holds a temperature at the start of a trial."""


def describe(block: Block, cell: str, alpha: float) -> Descriptive | None:
    """One cell's row; None without a value."""
    column = block.cells.index(cell)
    there = ~np.isnan(block.values[:, column])
    values = block.values[there, column]
    if not values.size:
        return None
    logs = np.log(values)
    mean, half = float(logs.mean()), half_width(logs, alpha)
    low, high = (
        None if part is None else _geometric(part[there, column])
        for part in (block.low, block.high)
    )
    spread = float(np.std(values, ddof=1)) if values.size > 1 else None
    return Descriptive(
        cell=cell,
        trials=int(values.size),
        mean=math.exp(mean),
        low=None if half is None else math.exp(mean - half),
        high=None if half is None else math.exp(mean + half),
        median=float(np.median(values)),
        cv_pct=None if spread is None else 100 * spread / float(values.mean()),
        minimum=float(values.min()),
        maximum=float(values.max()),
        instrument_low=low,
        instrument_high=high,
    )


def _geometric(values: Floats) -> float | None:
    if np.isnan(values).any() or (values <= 0).any():
        return None
    return float(np.exp(np.log(values).mean()))


def robust_scores(logs: Floats) -> Floats:
    """|log - median| / (1.4826 MAD) within each cell (column); NaN where there is no such score."""
    scores = np.full_like(logs, np.nan)
    for column in range(logs.shape[1]):
        there = ~np.isnan(logs[:, column])
        values = logs[there, column]
        if values.size < FEWEST_FOR_OUTLIERS:
            continue
        away = np.abs(values - np.median(values))
        spread = 1.4826 * float(np.median(away))
        if spread > 0:
            scores[there, column] = away / spread
    return scores


def outliers(block: Block) -> Flags:
    """Which values are flagged; the rule is in `result.Diagnostics`."""
    return np.asarray(np.nan_to_num(robust_scores(np.log(block.values))) > OUTLIER_SCORE)


def diagnose(
    block: Block, trials: pd.DataFrame, families: Sequence[Family], rule: Rule
) -> Diagnostics:
    """Diagnose one metric.

    Args:
        block: its values over all cells of its kind.
        trials: the valid trials, one row per cell and round.
        families: their comparisons.
        rule: how these decided.
    """
    logs = np.log(block.values)
    points = _points(block, logs, trials)
    noise, spread = _noise(logs), residual_sd(logs)
    varied = noise.size >= 3 and float(np.ptp(noise)) > 1e-12
    return Diagnostics(
        points=tuple(points),
        drifts=tuple(drift for drift in _drifts(points, rule.alpha) if drift is not None),
        residual_sd_pct=None if spread is None else 100 * math.expm1(spread),
        residual_shapiro_p=float(stats.shapiro(noise).pvalue)
        if varied and noise.size <= 5000
        else None,
        changed=_changed(block, families, rule),
    )


def _points(block: Block, logs: Floats, trials: pd.DataFrame) -> list[Point]:
    scores = robust_scores(logs)
    centre = np.array([np.nanmean(column) if (~np.isnan(column)).any() else np.nan
                       for column in logs.T])  # fmt: skip
    places = {cell: i for i, cell in enumerate(block.cells)}
    gauge = next((n for n in trials if str(n).endswith(START_TEMPERATURE)), None)
    degrees = trials[gauge] if gauge is not None else pd.Series(np.nan, trials.index)
    points = []
    for run, cell, number, order, temperature in zip(
        trials["run_id"], trials["cell"], trials["round"], trials["order"], degrees, strict=True
    ):
        row, column = number - 1, places.get(cell, -1)
        if column < 0 or np.isnan(logs[row, column]):
            continue
        score = float(scores[row, column])
        points.append(
            Point(
                run_id=str(run),
                cell=str(cell),
                round=int(number),
                order=int(order),
                value=float(block.values[row, column]),
                low=_at(block.low, row, column),
                high=_at(block.high, row, column),
                residual=float(logs[row, column] - centre[column]),
                score=None if math.isnan(score) else score,
                outlier=score > OUTLIER_SCORE,
                temperature_c=float(temperature) if np.isfinite(temperature) else None,
            )
        )
    return points


def _at(part: Floats | None, row: int, column: int) -> float | None:
    return None if part is None or np.isnan(part[row, column]) else float(part[row, column])


def _noise(logs: Floats) -> Floats:
    """Residuals of round + cell by least squares, missing values left out."""
    there = ~np.isnan(logs)
    rows, columns = np.nonzero(there)
    return _without(logs[there], [rows, columns])


def residual_sd(logs: Floats) -> float | None:
    """Standard deviation of the residuals of round + cell; None with fewer than two rounds.

    Args:
        logs: rounds x cells; NaN where there is no value.
    """
    freedom = int((~np.isnan(logs)).sum()) - logs.shape[1] - logs.shape[0] + 1
    return math.sqrt(float((_noise(logs) ** 2).sum()) / freedom) if freedom > 0 else None


def _without(values: Floats, groups: Sequence[np.ndarray]) -> Floats:
    """Sweep the means of each grouping out in turn until none is left."""
    values = values.copy()
    for _ in range(1 if len(groups) == 1 else 200):
        before = values
        for group in groups:
            sums = np.bincount(group, values)
            values = values - (sums / np.bincount(group).clip(1))[group]
        if float(np.abs(values - before).max(initial=0)) < 1e-14:
            break
    return values


def _drifts(points: list[Point], alpha: float) -> list[Drift | None]:
    cells = np.unique([point.cell for point in points], return_inverse=True)[1]
    rounds = np.unique([point.round for point in points], return_inverse=True)[1]
    logs = np.log([point.value for point in points])
    order = np.array([float(point.order) for point in points])
    place = np.empty(len(points))
    for number in np.unique(rounds):
        place[rounds == number] = stats.rankdata(order[rounds == number])
    warm = np.array([np.nan if p.temperature_c is None else p.temperature_c for p in points])
    known = ~np.isnan(warm)
    number = rounds.astype(float)
    return [
        slope("order", logs, order, [cells], alpha),
        slope("round", logs, number, [cells], alpha),
        slope("place", logs, place, [cells, rounds], alpha),
        slope("temperature", logs[known], warm[known], [cells[known]], alpha),
    ]


def slope(
    against: str, logs: Floats, covariate: Floats, groups: list[np.ndarray], alpha: float
) -> Drift | None:
    """Slope with the groups' means taken out (Frisch-Waugh-Lovell); None where there is none."""
    taken = sum(len(np.unique(group)) for group in groups) - len(groups) + 1
    freedom = len(logs) - taken - 1
    if freedom < 1:
        return None
    x, y = _without(covariate, groups), _without(logs, groups)
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


def _changed(block: Block, families: Sequence[Family], rule: Rule) -> tuple[Changed, ...]:
    """Verdicts that are others without flagged trials."""
    flagged = outliers(block)
    kept = dataclasses.replace(block, values=np.where(flagged, np.nan, block.values))
    touched = {block.cells[column] for column in np.nonzero(flagged)[1]}
    found = []
    for family in families:
        if len(family.ranked) < 2 or not touched & set(family.ranked):
            continue
        again = compare(kept.of(family.ranked), rule, family.reference if family.named else None)
        verdicts = {(pair.a, pair.b): pair.verdict for pair in again.pairs}
        for pair in family.pairs:
            turned = verdicts.get((pair.b, pair.a))
            verdict = (
                verdicts[pair.a, pair.b]
                if turned is None
                else mirrored(turned, rule.higher_is_better)
            )
            if verdict != pair.verdict:
                found.append(Changed(a=pair.a, b=pair.b, verdict=pair.verdict, without=verdict))
    return tuple(found)
