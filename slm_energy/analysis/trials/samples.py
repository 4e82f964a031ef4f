"""Cells as independent samples, for what shares no rounds: other studies, other machines."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.autocorrelation import neighbour_correlation
from slm_energy.analysis.stats.welch import IndependentPair, Sample
from slm_energy.analysis.trials.frame import Study


def usable_samples(
    study: Study, metric: Metric, *, gain: bool
) -> tuple[dict[str, Sample], list[LeftOut]]:
    """Cell id to its usable values of a metric, and what is not usable.

    Between machines, whose sensors differ, intervals cover the gain of the sensors too.
    """
    values, low, high = (study.block(name) for name in (metric.name, *metric.bounds))
    usable = np.isfinite(values) & (values > 0)
    unusable = int((~usable & ~np.isnan(values)).sum())
    left_out = []
    if unusable:
        why = f"{unusable} values that are not above zero and finite cannot form a ratio"
        name = f"{metric.heading} in {study.name}"
        left_out.append(LeftOut(scope="trial", name=name, reason=why))
    bounded = metric.is_energy and not metric.estimated
    if bounded and gain and usable.any():
        wide_low, wide_high = (study.block(name) for name in metric.bounds_with_gain)
        if np.isfinite(wide_low[usable]).all():
            low, high = wide_low, wide_high
        else:
            name = f"sensor gain of {metric.heading} in {study.name}"
            why = "it is unknown, so the intervals between the two machines do not cover it"
            left_out.append(LeftOut(scope="metric", name=name, reason=why))
    samples = {}
    for column, cell in enumerate(study.cells):
        rows = usable[:, column]
        if not rows.any():
            continue
        mine, under, over = (part[rows, column] for part in (values, low, high))
        logs, below, above = np.log(mine), None, None
        if bounded and np.isfinite(under).all() and np.isfinite(over).all():
            positive = bool((under > 0).all())
            below = float((logs - np.log(under)).mean()) if positive else math.inf
            above = float((np.log(over) - logs).mean())
        numbers = tuple(study.rounds[row] for row in np.flatnonzero(rows))
        samples[cell] = Sample(logs=logs, below=below, above=above, rounds=numbers)
    return samples, left_out


def with_correlation(pairs: Sequence[IndependentPair]) -> list[IndependentPair]:
    """The pairs of each kind of a metric with how much a round of theirs resembles the next."""
    result = list(pairs)
    for metric in {pair.metric for pair in pairs}:
        mine = [pair for pair in pairs if pair.metric == metric]
        correlation = neighbour_correlation(
            [[pair.a.by_round for pair in mine], [pair.b.by_round for pair in mine]]
        )
        result = [
            dataclasses.replace(pair, correlation=correlation) if pair.metric == metric else pair
            for pair in result
        ]
    return result
