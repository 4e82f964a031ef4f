"""What the trials of each cell are like, and what could make them less alike than assumed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.diagnostics import Changed, Descriptive, Diagnostics, Point
from slm_energy.analysis.stats.comparison import Block, Comparison
from slm_energy.analysis.stats.drift import drifts, without_group_means
from slm_energy.analysis.stats.effect_size import Floats, half_width
from slm_energy.analysis.stats.outliers import Outliers

_MOST_FOR_SHAPIRO = 5000

Compare = Callable[[Block, str | None], Comparison]
"""A family's values and the reference that was named, if any, to their comparison."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialFacts:
    """What a diagnosis needs to know about a valid trial besides its values.

    Attributes:
        run_id: its MLflow run.
        cell: its cell's id.
        round: its round, from 1.
        order: its position in the planned order over all rounds, from 1.
        temperature_c: at the start; None where no sensor gave it.
    """

    run_id: str
    cell: str
    round: int
    order: int
    temperature_c: float | None = None


def describe_all(block: Block, alpha: float) -> tuple[Descriptive, ...]:
    """Summarise the cells that have a value, in their order."""
    rows = (describe(block, cell, alpha) for cell in block.cells)
    return tuple(row for row in rows if row is not None)


def describe(block: Block, cell: str, alpha: float) -> Descriptive | None:
    """Summarise one cell's trials; None without a value."""
    column = block.cells.index(cell)
    there = ~np.isnan(block.values[:, column])
    values = block.values[there, column]
    if not values.size:
        return None
    logs = np.log(values)
    mean, half = float(logs.mean()), half_width(logs, alpha)
    low, high, gain_low, gain_high = (
        None if part is None else _geometric(part[there, column])
        for part in (block.low, block.high, *(block.with_gain or (None, None)))
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
        with_gain_low=gain_low,
        with_gain_high=gain_high,
    )


def _geometric(values: Floats) -> float | None:
    if np.isnan(values).any() or (values <= 0).any():
        return None
    return float(np.exp(np.log(values).mean()))


def diagnose(
    block: Block,
    trials: Sequence[TrialFacts],
    outliers: Outliers,
    changed: tuple[Changed, ...],
    alpha: float,
    *,
    rounds: bool,
) -> Diagnostics:
    """Diagnose a metric.

    Args:
        block: its values over all cells of its kind.
        trials: the valid trials, in planned order where there is one.
        outliers: of the block.
        changed: from `changed_verdicts`.
        alpha: intervals have confidence 1 - alpha.
        rounds: the rows are rounds; else a residual is that of a cell alone, and the order of
            trials has no meaning.
    """
    points = trial_points(block, trials, outliers)
    logs = np.log(block.values)
    if rounds:
        noise, sd = _round_residuals(logs), residual_sd(logs)
    else:
        noise = np.array([point.residual for point in points])
        freedom = len(points) - len(block.cells)
        sd = math.sqrt(float((noise**2).sum()) / freedom) if freedom else None
    varied = noise.size >= 3 and float(np.ptp(noise)) > 1e-12
    return Diagnostics(
        points=points,
        drifts=drifts(points, alpha) if rounds else (),
        residual_sd_pct=None if sd is None else 100 * math.expm1(sd),
        residual_shapiro_p=_shapiro_p(noise) if varied else None,
        changed=changed,
        flagged_above=outliers.limit,
    )


def _shapiro_p(residuals: Floats) -> float | None:
    if residuals.size > _MOST_FOR_SHAPIRO:
        return None
    return float(stats.shapiro(residuals).pvalue)


def trial_points(
    block: Block, trials: Sequence[TrialFacts], outliers: Outliers | None = None
) -> tuple[Point, ...]:
    """The trials that have a value in the block, in the order given; without outliers, no score."""
    logs = np.log(block.values)
    centre = np.array([np.nanmean(column) if (~np.isnan(column)).any() else np.nan
                       for column in logs.T])  # fmt: skip
    columns = {cell: i for i, cell in enumerate(block.cells)}
    points = []
    for trial in trials:
        row, column = trial.round - 1, columns.get(trial.cell, -1)
        if column < 0 or np.isnan(logs[row, column]):
            continue
        score = math.nan if outliers is None else float(outliers.scores[row, column])
        points.append(
            Point(
                run_id=trial.run_id,
                cell=trial.cell,
                round=trial.round,
                order=trial.order,
                value=float(block.values[row, column]),
                low=_at(block.low, row, column),
                high=_at(block.high, row, column),
                residual=float(logs[row, column] - centre[column]),
                score=None if math.isnan(score) else score,
                outlier=outliers is not None and bool(outliers.flags[row, column]),
                temperature_c=trial.temperature_c,
            )
        )
    return tuple(points)


def _at(part: Floats | None, row: int, column: int) -> float | None:
    return None if part is None or np.isnan(part[row, column]) else float(part[row, column])


def _round_residuals(logs: Floats) -> Floats:
    """Residuals of round + cell by least squares, missing values left out."""
    there = ~np.isnan(logs)
    rows, columns = np.nonzero(there)
    return without_group_means(logs[there], [rows, columns])


def residual_sd(logs: Floats) -> float | None:
    """Standard deviation of the residuals of round + cell; None with fewer than two rounds.

    Args:
        logs: rounds x cells; NaN where there is no value.
    """
    freedom = int((~np.isnan(logs)).sum()) - logs.shape[1] - logs.shape[0] + 1
    return math.sqrt(float((_round_residuals(logs) ** 2).sum()) / freedom) if freedom > 0 else None


def changed_verdicts(
    block: Block,
    outliers: Outliers,
    families: Sequence[Family],
    compare: Compare,
    higher_is_better: bool,
) -> tuple[Changed, ...]:
    """Verdicts that change when flagged trials are removed.

    Args:
        block: the values that the families were compared on.
        outliers: of the block.
        families: their comparisons.
        compare: how the families were compared; called for those that have a flagged trial.
        higher_is_better: True for throughput and quality.
    """
    kept = dataclasses.replace(block, values=np.where(outliers.flags, np.nan, block.values))
    touched = {block.cells[column] for column in np.nonzero(outliers.flags)[1]}
    changed = []
    for family in families:
        if len(family.ranked) < 2 or not touched & set(family.ranked):
            continue
        again = compare(kept.of(family.ranked), family.reference if family.named else None)
        without = again.verdicts(higher_is_better)
        changed += [
            Changed(a=pair.a, b=pair.b, verdict=pair.verdict, without=without[pair.a, pair.b])
            for pair in family.pairs
            if without[pair.a, pair.b] != pair.verdict
        ]
    return tuple(changed)
