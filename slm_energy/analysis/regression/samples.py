"""From the trials of two studies to pairs of samples.

Measured joules are never paired with estimated ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.stats.welch import IndependentPair, Sample
from slm_energy.analysis.trials.blocks import passes, require_equal_work
from slm_energy.analysis.trials.frame import Study
from slm_energy.analysis.trials.samples import usable_samples, with_correlation
from slm_energy.errors import AnalysisError, one_line
from slm_energy.scope import comparable

Pairing = tuple[list[IndependentPair], list[LeftOut]]
"""What can be compared, and what cannot."""


def pair_up(
    studies: tuple[Study, Study], cells: Sequence[tuple[str, str]], metrics: Iterable[str]
) -> Pairing:
    """Find what can be compared, metric by metric.

    Args:
        studies: A and B.
        cells: ids of the same cell in both.
        metrics: names; an `energy/...` metric stands for its estimated twin where that is all that
            both studies have of a cell.

    Raises:
        AnalysisError: no trial has such a metric, or it is measured in one study and estimated in
            the other.
    """
    pairs: list[IndependentPair] = []
    left_out: list[LeftOut] = []
    for name in dict.fromkeys(metrics):
        matched, missing = _pairs_of_metric(studies, cells, name)
        pairs += matched
        left_out += missing
    return pairs, left_out


def not_in_second(
    first: Study, pairs: Sequence[IndependentPair], metrics: Iterable[str]
) -> tuple[str, ...]:
    """Values of the first study that are in no pair, as `METRIC of CELL`."""
    paired = {(pair.metric.quantity, pair.cell) for pair in pairs}
    missing = []
    for kinds in map(_kinds, dict.fromkeys(metrics)):
        metric = kinds[0]
        known = np.any([np.isfinite(first.block(kind.name)).any(axis=0) for kind in kinds], axis=0)
        missing += [
            f"{metric.title} of {label}"
            for label, has in zip(map(first.labels.get, first.cells), known, strict=True)
            if has and (metric.quantity, label) not in paired
        ]
    return tuple(missing)


def _kinds(name: str) -> tuple[Metric, ...]:
    """What a metric of the options stands for: measured joules also for their estimate."""
    metric = Metric(name=name)
    return metric.kinds if name.startswith(MEASURED) else (metric,)


def _pairs_of_metric(
    studies: tuple[Study, Study], cells: Sequence[tuple[str, str]], name: str
) -> Pairing:
    kinds = _kinds(name)
    if why := _other_scope(studies, kinds[0]):
        return [], [LeftOut(scope="metric", name=kinds[0].heading, reason=why)]
    for kind in kinds:
        columns = [dict(zip(s.cells, passes(s, kind).T, strict=True)) for s in studies]
        for before, after in cells:
            require_equal_work(kind, np.concatenate([columns[0][before], columns[1][after]]))
    samples: list[dict[Metric, dict[str, Sample]]] = []
    left_out: list[LeftOut] = []
    machines = {study.machine for study in studies}
    for study in studies:
        by_kind = {kind: usable_samples(study, kind, gain=len(machines) > 1) for kind in kinds}
        samples.append({kind: usable for kind, (usable, _) in by_kind.items()})
        left_out += [out for _, unusable in by_kind.values() for out in unusable]
    pairs, clashes, why = [], 0, ""
    for ids in cells:
        known = [
            [kind for kind in kinds if cell in by_cell[kind]]
            for by_cell, cell in zip(samples, ids, strict=True)
        ]
        label = studies[0].labels[ids[0]]
        what = f"{kinds[0].heading} of {label}"
        if all(known) and known[0][0] == known[1][0]:
            kind = known[0][0]
            a, b = (by_cell[kind][cell] for by_cell, cell in zip(samples, ids, strict=True))
            pairs.append(IndependentPair(metric=kind, cell=label, a=a, b=b))
        elif all(known):
            clashes += 1
            why = _clash(known[0][0], known[1][0])
            left_out.append(LeftOut(scope="metric", name=what, reason=why))
        elif any(known):
            lacks = studies[0].name if not known[0] else studies[1].name
            reason = f"{lacks} has no value above zero"
            left_out.append(LeftOut(scope="metric", name=what, reason=reason))
    if not pairs and clashes:
        raise AnalysisError(f"{name} is {why}: leave it out, as with metrics=[latency/e2e_p50_s]")
    if not pairs:
        left_out.append(_nowhere(studies, kinds[0]))
    return with_correlation(pairs), left_out


def _other_scope(studies: tuple[Study, Study], metric: Metric) -> str:
    """Why the sums of two studies are not compared, whatever `allow` names; empty if they are."""
    a, b = (study.scope for study in studies)
    if a is None or b is None or not metric.is_sum or comparable(a, b):
        return ""
    return (
        f"{studies[0].name} summed {a.words}, {studies[1].name} {b.words}: totals of"
        " different scope are never compared"
    )


def _clash(a: Metric, b: Metric) -> str:
    """Two kinds of energy that are never compared."""
    if a.estimated or b.estimated:
        return "measured in one study and estimated in the other, which are never compared"
    return (
        "measured with the processors in one study and without them in the other, which are never"
        " compared"
    )


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
