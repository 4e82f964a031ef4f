"""From the trials of two studies to pairs of samples. Measured joules never meet estimated ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.result.report import LeftOut
from slm_energy.analysis.stats.welch import IndependentPair, Sample
from slm_energy.analysis.trials.frame import Study
from slm_energy.errors import AnalysisError, one_line


def pair_up(
    studies: tuple[Study, Study],
    cells: Sequence[tuple[str, str]],
    metrics: Iterable[str],
    left_out: list[LeftOut],
) -> list[IndependentPair]:
    """Find what can be compared, metric by metric.

    Args:
        studies: A and B.
        cells: ids of the same cell in both.
        metrics: names; an `energy/...` metric stands for its estimated twin where that is all that
            both studies have of a cell.
        left_out: is told what cannot be compared, and why.

    Raises:
        AnalysisError: no trial has such a metric, or it is measured in one study and estimated in
            the other.
    """
    result: list[IndependentPair] = []
    for name in dict.fromkeys(metrics):
        kinds = [Metric(name=name)]
        if name.startswith(MEASURED):
            kinds.append(kinds[0].estimated_twin())
        sides = [{kind: _samples(study, kind, left_out) for kind in kinds} for study in studies]
        before, clashes = len(result), 0
        for pair in cells:
            there = [
                [kind for kind in kinds if cell in side[kind]]
                for side, cell in zip(sides, pair, strict=True)
            ]
            label = studies[0].labels[pair[0]]
            what = f"{kinds[0].heading} of {label}"
            if all(there) and there[0][0] == there[1][0]:
                kind = there[0][0]
                a, b = (side[kind][cell] for side, cell in zip(sides, pair, strict=True))
                result.append(IndependentPair(metric=kind, cell=label, a=a, b=b))
            elif all(there):
                clashes += 1
                why = "measured in one study and estimated in the other, which are never compared"
                left_out.append(LeftOut(scope="metric", name=what, reason=why))
            elif any(there):
                lacks = studies[0].name if not there[0] else studies[1].name
                why = f"{lacks} has no value above zero"
                left_out.append(LeftOut(scope="metric", name=what, reason=why))
        if len(result) == before and clashes:
            raise AnalysisError(
                f"{name} is measured in one study and estimated in the other, which are never"
                " compared: leave it out, as with metrics=[latency/e2e_p50_s]"
            )
        if len(result) == before:
            left_out.append(_nowhere(studies, kinds[0]))
    return result


def _nowhere(studies: tuple[Study, Study], metric: Metric) -> LeftOut:
    """A metric that no cell has in both studies.

    Raises:
        AnalysisError: no trial has a metric of that name.
    """
    known = {str(name) for study in studies for name in study.trials.columns if "/" in str(name)}
    energy = any(Metric(name=name).is_energy for name in known)
    if metric.name in known or (metric.is_energy and energy):
        why = "no cell has a value above zero in both studies"
    elif metric.is_energy:
        why = "no energy was recorded: the trials ran with measurement=off"
    else:
        near = sorted(n for n in known if n.partition("/")[0] == metric.name.partition("/")[0])
        raise AnalysisError(
            f"metrics: no trial has {metric.name!r}; there are: "
            f"{one_line(', '.join(near or sorted(known)))}"
        )
    return LeftOut(scope="metric", name=metric.heading, reason=why)


def _samples(study: Study, metric: Metric, left_out: list[LeftOut]) -> dict[str, Sample]:
    """Cell id to its usable values of a metric."""
    values, low, high = (study.block(name) for name in (metric.name, *metric.bounds))
    usable = np.isfinite(values) & (values > 0)
    unusable = int((~usable & ~np.isnan(values)).sum())
    if unusable:
        why = f"{unusable} values that are not above zero and finite cannot form a ratio"
        name = f"{metric.heading} in {study.name}"
        left_out.append(LeftOut(scope="trial", name=name, reason=why))
    bounded = metric.is_energy and not metric.estimated
    found = {}
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
        found[cell] = Sample(logs=logs, below=below, above=above)
    return found
