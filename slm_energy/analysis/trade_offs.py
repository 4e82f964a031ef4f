"""Energy against latency and quality: which cells are the best trade-offs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.stats.pareto import pareto
from slm_energy.analysis.trials.frame import Study
from slm_energy.config.options import AnalysisOptions


def trade_offs(
    study: Study, metrics: Sequence[MetricResult], options: AnalysisOptions
) -> tuple[Pareto, ...]:
    """The metric that decides against the first latency and each quality that cells differ in.

    Args:
        study: its trials.
        metrics: the results; those of the metric that decides come first.
        options: the confidence of intervals and the seed of resamples.
    """
    first = metrics[0].metric.quantity
    deciding = [result for result in metrics if result.metric.quantity == first]
    latency = [r.metric for r in metrics if r.metric.name.startswith("latency/")][:1]
    known = sorted(str(name) for name in study.trials.columns)
    quality = [Metric(name=name) for name in known if name.startswith("quality/")]
    fronts = []
    for result in deciding:
        cells = tuple(cell for family in result.families for cell in family.ranked)
        columns = [study.cells.index(cell) for cell in cells]
        x = study.block(result.metric.name)[:, columns]
        for other in [*latency, *quality]:
            if other == result.metric:
                continue
            y = study.block(other.name)[:, columns]
            if other.is_share and len(np.unique(y[~np.isnan(y)])) < 2:
                continue
            front = pareto(cells, (result.metric, x), (other, y), options.alpha, options.seed)
            if front is not None:
                fronts.append(front)
    return tuple(fronts)
