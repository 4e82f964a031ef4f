"""The best trade-offs of energy against latency and quality, and how stable each of them is."""

from __future__ import annotations

import math

import numpy as np

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto, ParetoPoint
from slm_energy.analysis.stats.effect_size import Flags, Floats, half_width

RESAMPLES = 400
"""Enough for a share to within 0.05."""


def pareto(
    cells: tuple[str, ...],
    x: tuple[Metric, Floats],
    y: tuple[Metric, Floats],
    alpha: float,
    seed: int,
) -> Pareto | None:
    """Find the front; None with fewer than two cells that have both.

    Args:
        cells: k ids.
        x: a metric and its values, rounds x k, NaN where there is none.
        y: the other one.
        alpha: intervals have confidence 1 - alpha.
        seed: of the resamples.
    """
    tables = [_scale(metric, values) for metric, values in (x, y)]
    both: Flags = np.asarray(~np.isnan(tables[0]).all(axis=0) & ~np.isnan(tables[1]).all(axis=0))
    if both.sum() < 2:
        return None
    kept = [cell for cell, there in zip(cells, both.tolist(), strict=True) if there]
    tables = [table[:, both] for table in tables]
    signs = [-1.0 if metric.higher_is_better else 1.0 for metric, _ in (x, y)]
    means = [np.nanmean(table, axis=0) for table in tables]
    front = _front(signs[0] * means[0], signs[1] * means[1])
    often = _resampled(tables, signs, seed)
    points = []
    for i, cell in enumerate(kept):
        ends = [_ends(metric, table[:, i], alpha) for (metric, _), table in
                zip((x, y), tables, strict=True)]  # fmt: skip
        points.append(
            ParetoPoint(
                cell=cell,
                x=ends[0][0],
                y=ends[1][0],
                x_low=ends[0][1],
                x_high=ends[0][2],
                y_low=ends[1][1],
                y_high=ends[1][2],
                front=bool(front[i]),
                probability=float(often[i]),
            )
        )
    return Pareto(
        x=x[0],
        y=y[0],
        points=tuple(sorted(points, key=lambda point: point.x)),
        resamples=RESAMPLES,
    )


def _scale(metric: Metric, values: Floats) -> Floats:
    """Logs, but for shares, which may be zero."""
    if metric.is_share:
        return values
    return np.log(np.where((values > 0) & np.isfinite(values), values, np.nan))


def _front(x: Floats, y: Floats) -> Flags:
    """Points that no other beats: as small in both and smaller in one."""
    order = np.lexsort((y, x))
    front = np.zeros(len(x), dtype=bool)
    best, best_x = math.inf, math.nan
    for i in order:
        if y[i] < best or (y[i] == best and x[i] == best_x):
            front[i] = True
            best, best_x = y[i], x[i]
    return front


def _resampled(tables: list[Floats], signs: list[float], seed: int) -> Floats:
    """Share of resamples of whole rounds in which each cell is on the front.

    A cell that has no value in the rounds that were drawn keeps its mean over all rounds.
    """
    generator = np.random.default_rng(seed)
    rounds, cells = tables[0].shape
    times = np.zeros(cells)
    for _ in range(RESAMPLES):
        weight = np.bincount(generator.integers(0, rounds, rounds), minlength=rounds)
        means = [sign * _weighted(table, weight) for sign, table in zip(signs, tables, strict=True)]
        times += _front(means[0], means[1])
    return times / RESAMPLES


def _weighted(table: Floats, weight: np.ndarray) -> Floats:
    there = ~np.isnan(table)
    count = weight @ there
    drawn = (weight @ np.where(there, table, 0.0)) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, drawn, np.nanmean(table, axis=0)))


def _ends(metric: Metric, values: Floats, alpha: float) -> tuple[float, float | None, float | None]:
    known = values[~np.isnan(values)]
    mean, half = float(known.mean()), half_width(known, alpha)
    back = float if metric.is_share else math.exp
    if half is None:
        return back(mean), None, None
    return back(mean), back(mean - half), back(mean + half)
