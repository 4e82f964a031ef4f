"""Energy against latency and quality: which cells are the best trade-offs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from slm_energy.analysis.conditions import PASS_RATE
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.result.solved import Solved
from slm_energy.analysis.stats.pareto import pareto
from slm_energy.analysis.trials.frame import Study
from slm_energy.config.options import AnalysisOptions


def trade_offs(
    study: Study,
    metrics: Sequence[MetricResult],
    solved: Sequence[Solved],
    options: AnalysisOptions,
) -> tuple[Pareto, ...]:
    """The metric that decides against the pass rate, the first latency, and other quality.

    Joules per solved task contain the pass rate: against it stand joules per request.

    Args:
        study: its trials.
        metrics: the results; those of the metric that decides come first.
        solved: pass rates, with their intervals for tasks like these.
        options: the confidence of intervals and the seed of resamples.
    """
    first = metrics[0].metric.quantity
    deciding = [result for result in metrics if result.metric.quantity == first]
    latency = [r.metric for r in metrics if r.metric.name.startswith("latency/")][:1]
    fronts = []
    for result in deciding:
        cells = tuple(cell for family in result.families for cell in family.ranked)
        columns = [study.cells.index(cell) for cell in cells]
        for other in sorted([*latency, *_qualities(study)], key=lambda m: m.name != PASS_RATE):
            energy = result.metric
            if other.name == PASS_RATE:
                energy = Metric(name=energy.name.replace("per_solved", "per_request"))
            if other == energy:
                continue
            x, y = (study.block(metric.name)[:, columns] for metric in (energy, other))
            if other.is_share and len(np.unique(y[~np.isnan(y)])) < 2:
                continue
            front = pareto(cells, (energy, x), (other, y), options.alpha, options.seed)
            if front is not None:
                fronts.append(_for_tasks_like_these(front, solved))
    return tuple(fronts)


def _qualities(study: Study) -> Iterator[Metric]:
    """Shares that describe answers; counts of tasks would repeat the pass rate."""
    for name in sorted(map(str, study.trials.columns)):
        if name.startswith("quality/") and not name.endswith("_count"):
            yield Metric(name=name)


def _for_tasks_like_these(front: Pareto, solved: Sequence[Solved]) -> Pareto:
    """The front with the intervals of pass rates over tasks, where it is about pass rates."""
    if front.y.name != PASS_RATE:
        return front
    ranges = {row.cell: row.rate_range for each in solved for row in each.cells}
    points = tuple(
        dataclasses.replace(point, y_low=ranges[point.cell].low, y_high=ranges[point.cell].high)
        if point.cell in ranges
        else point
        for point in front.points
    )
    return dataclasses.replace(front, points=points)
