"""Which machine costs less: cells of two machines as independent samples, with the sensors' gain.

On one machine the gain of a sensor cancels in a ratio, on two it does not. So intervals are those
of Welch's t test (`stats.welch`), widened by the measurement's second interval, which covers the
gain. There is no ratio where two sums cover different parts of a machine, and none of estimates:
the error of a model is not known.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from slm_energy.analysis.resolve_design import Design, family_name
from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.machines import AcrossMachines
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.stats.comparison import Rule
from slm_energy.analysis.stats.independent import change_as_pair
from slm_energy.analysis.stats.welch import CellChange, IndependentPair, Sample, judge
from slm_energy.analysis.trials.frame import Study, level
from slm_energy.analysis.trials.samples import usable_samples, with_correlation
from slm_energy.cell import MACHINE, PLACES
from slm_energy.config.options import AnalysisOptions
from slm_energy.scope import Scope, covers_alike

_UNKNOWN_GAIN = "the gain of the sensors is not known, which a ratio of two machines needs"
_ESTIMATED = "the error of an estimate is not known, so that of two machines has no interval"


def across_machines(
    study: Study, metrics: Sequence[MetricResult], design: Design
) -> tuple[AcrossMachines, ...]:
    """Compare the machines of a study, family by family, on the cells that the metric decides.

    Args:
        study: of several machines.
        metrics: the results, whose families are those of single machines; the deciding ones first.
        design: the families.
    """
    known = {result.metric: usable_samples(study, result.metric, gain=True) for result in metrics}
    kinds: dict[str, list[Metric]] = {}
    for metric in known:
        kinds.setdefault(metric.quantity, []).append(metric)
    first = metrics[0].metric.quantity
    ranked: dict[str, dict[str, tuple[str, ...]]] = {}
    for result in metrics:
        for family in result.families if result.metric.quantity == first else ():
            settings = study.settings[family.ranked[0]]
            outer = family_name(settings, [key for key in design.split if key != MACHINE])
            own = ranked.setdefault(outer, {})
            own.setdefault(level(settings, MACHINE), family.ranked)
    return tuple(
        _compared(
            AcrossMachines(metric=names[0], machines=(a, b), family=outer),
            study,
            [(metric, *known[metric]) for metric in names],
            (machines[a], machines[b]),
            design.options,
        )
        for outer, machines in ranked.items()
        for a, b in itertools.combinations(machines, 2)
        for names in kinds.values()
    )


def _compared(
    found: AcrossMachines,
    study: Study,
    kinds: Sequence[tuple[Metric, Mapping[str, Sample], Sequence[LeftOut]]],
    ranked: tuple[tuple[str, ...], tuple[str, ...]],
    options: AnalysisOptions,
) -> AcrossMachines:
    """One quantity, of which a machine may have another kind of joules than the other."""
    has = [[kind for kind in kinds if cells[0] in kind[1]] for cells in ranked]
    if not all(has):
        return dataclasses.replace(found, reason="a machine has no value of it")
    (metric, usable, left_out), (other, *_) = (own[0] for own in has)
    reason = _scopes(metric, other, {name: study.scopes[name] for name in found.machines})
    if not reason and any(out.scope == "metric" for out in left_out):
        reason = _UNKNOWN_GAIN
    if reason:
        return dataclasses.replace(found, metric=metric, reason=reason)
    return _judged(dataclasses.replace(found, metric=metric), study, usable, ranked, options)


def _scopes(a: Metric, b: Metric, scopes: Mapping[str, Scope | None]) -> str:
    """Why joules of two machines are not compared; empty where they are, or are no joules."""
    if not a.is_energy:
        return ""
    if a.estimated and b.estimated:
        return _ESTIMATED
    (one, first), (other, second) = scopes.items()
    if a.estimated or b.estimated:
        names = (other, one) if a.estimated else (one, other)
        return f"measured on {names[0]} and estimated on {names[1]}, which are never compared"
    alike = first is not None and second is not None and covers_alike(first, second)
    if a == b and (alike or not a.is_sum):
        return ""
    words = ["unknown parts" if s is None else s.words for s in (first, second)]
    return (
        f"{one} has the energy of: {words[0]}; {other} that of: {words[1]}. Sums over different"
        " or unknown parts of a machine are not compared"
    )


def _judged(
    found: AcrossMachines,
    study: Study,
    usable: Mapping[str, Sample],
    ranked: tuple[tuple[str, ...], tuple[str, ...]],
    options: AnalysisOptions,
) -> AcrossMachines:
    """The best of both machines, and what ran on both."""
    metric, (firsts, seconds) = found.metric, ranked
    twins = {_alike(study, cell): cell for cell in seconds}
    same = [(cell, twins[key]) for cell in firsts if (key := _alike(study, cell)) in twins]
    chosen = dict.fromkeys([(firsts[0], seconds[0]), *same])
    pairs = [pair for pair in chosen if pair[0] in usable and pair[1] in usable]
    candidates = len(firsts) * len(seconds)
    changes = judge(
        with_correlation(
            [  # the ratio of a change is that of its second sample to its first
                IndependentPair(metric=metric, cell="", a=usable[second], b=usable[first])
                for first, second in pairs
            ]
        ),
        margin=options.margin,
        # The stated pairs were chosen from all of them.
        alpha=options.alpha * len(pairs) / candidates,
        floor=0.0,
    )
    rule = Rule(alpha=options.alpha, margin=options.margin)
    judged = tuple(
        _widened(change_as_pair(*cells, change, metric, rule, change.reason), change, metric)
        for cells, change in zip(pairs, changes, strict=True)
    )
    return dataclasses.replace(found, pairs=judged, candidates=candidates)


def _alike(study: Study, cell: str) -> frozenset[tuple[str, str]]:
    """The settings of a cell but for where it ran and with which versions."""
    return frozenset(
        (key, str(value))
        for key, value in study.settings[cell].items()
        if key not in (MACHINE, *PLACES) and not key.startswith("version.")
    )


def _widened(pair: Pair, change: CellChange, metric: Metric) -> Pair:
    """The pair with the interval that covers sampling and sensors."""
    if change.joint_low is None or change.joint_high is None:
        return pair
    pair = dataclasses.replace(pair, joint_low=change.joint_low, joint_high=change.joint_high)
    if metric.is_energy and change.instrument is None:  # it extends to zero
        return pair
    wide = change.instrument or 1.0
    return dataclasses.replace(
        pair,
        instrument=change.instrument,
        joint_wide_low=change.joint_low / wide,
        joint_wide_high=change.joint_high * wide,
    )
