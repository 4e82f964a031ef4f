"""Which machine costs less: cells of two machines as independent samples, with the sensors' gain.

On one machine the gain of a sensor cancels in a ratio, on two it does not. So intervals are those
of Welch's t test (`stats.welch`), widened by the measurement's second interval, which covers the
gain. There is no ratio where two sums cover different parts of a machine, and none of estimates:
the error of a model is not known.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from slm_energy.analysis.regression.samples import samples, with_correlation
from slm_energy.analysis.resolve_design import Design
from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.machines import AcrossMachines
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult
from slm_energy.analysis.stats.comparison import Rule
from slm_energy.analysis.stats.independent import change_as_pair
from slm_energy.analysis.stats.welch import CellChange, IndependentPair, Sample, judge
from slm_energy.analysis.trials.frame import MACHINE, Study, level
from slm_energy.cell import PLACES, joined_levels
from slm_energy.config.options import AnalysisOptions
from slm_energy.scope import Scope, covers_alike

_UNKNOWN_GAIN = "the gain of the sensors is not known, which a ratio of two machines needs"
_ESTIMATED = "the error of an estimate is not known, so that of two machines has no interval"


def across_machines(
    study: Study, metrics: Iterable[MetricResult], design: Design
) -> tuple[AcrossMachines, ...]:
    """Compare the machines of a study, metric by metric and family by family.

    Args:
        study: of several machines.
        metrics: the results, whose families are those of single machines.
        design: the families.
    """
    if len(study.scopes) < 2:
        return ()
    by_quantity: dict[str, list[MetricResult]] = {}
    for result in metrics:
        by_quantity.setdefault(result.metric.quantity, []).append(result)
    return tuple(
        found
        for results in by_quantity.values()
        for found in _quantity(study, results, design)
    )


def _quantity(
    study: Study, results: list[MetricResult], design: Design
) -> Iterator[AcrossMachines]:
    """One quantity, of which a machine may have another kind of joules than the other."""
    ranked: dict[str, dict[str, tuple[Metric, tuple[str, ...]]]] = {}
    for result in results:
        for family in result.families:
            if family.ranked:
                settings = study.settings[family.ranked[0]]
                outer = joined_levels(
                    [level(settings, key) for key in design.split if key != MACHINE] or [""]
                )
                own = ranked.setdefault(outer, {})
                own.setdefault(level(settings, MACHINE), (result.metric, family.ranked))
    known = {result.metric: samples(study, result.metric, gain=True) for result in results}
    for outer, machines in ranked.items():
        for a, b in itertools.combinations(machines, 2):
            metric, firsts = machines[a]
            other, seconds = machines[b]
            found = AcrossMachines(metric=metric, machines=(a, b), family=outer)
            usable, left_out = known[metric]
            reason = _scopes(metric, other, {m: study.scopes[m] for m in (a, b)})
            if not reason and any(out.scope == "metric" for out in left_out):
                reason = _UNKNOWN_GAIN
            if reason:
                yield dataclasses.replace(found, reason=reason)
            else:
                yield _judged(found, study, usable, (firsts, seconds), design.options)


def _scopes(a: Metric, b: Metric, scopes: Mapping[str, Scope | None]) -> str:
    """Why joules of two machines are not compared; empty where they are, or are no joules."""
    if not a.is_energy:
        return ""
    if a.estimated and b.estimated:
        return _ESTIMATED
    (one, first), (other, second) = scopes.items()
    alike = first is None or second is None or covers_alike(first, second)
    if a == b and (alike or not a.is_sum):
        return ""
    words = ["not recorded" if s is None else s.words for s in (first, second)]
    return (
        f"{one} has the energy of: {words[0]}; {other} that of: {words[1]}. Sums over different"
        " parts of a machine are not compared"
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
    # The better one first; the ratio of a change is that of its second sample to its first.
    ordered = [pair if _better(metric, usable, *pair) else pair[::-1] for pair in chosen]
    candidates = len(firsts) * len(seconds)
    changes = judge(
        with_correlation(
            [
                IndependentPair(metric=metric, cell="", a=usable[second], b=usable[first])
                for first, second in ordered
            ]
        ),
        margin=options.margin,
        # The stated pairs were chosen from all of them.
        alpha=options.alpha * len(ordered) / candidates,
        floor=0.0,
    )
    rule = Rule(alpha=options.alpha, margin=options.margin)
    pairs = tuple(
        _widened(change_as_pair(*cells, change, metric, rule, change.reason), change)
        for cells, change in zip(ordered, changes, strict=True)
    )
    return dataclasses.replace(found, pairs=pairs, candidates=candidates)


def _better(metric: Metric, usable: Mapping[str, Sample], a: str, b: str) -> bool:
    more = float(usable[a].logs.mean()) > float(usable[b].logs.mean())
    return more == metric.higher_is_better


def _alike(study: Study, cell: str) -> frozenset[tuple[str, str]]:
    """The settings of a cell but for where it ran and with which versions."""
    return frozenset(
        (key, str(value))
        for key, value in study.settings[cell].items()
        if key not in (MACHINE, *PLACES) and not key.startswith("version.")
    )


def _widened(pair: Pair, change: CellChange) -> Pair:
    """The pair with the interval that covers sampling and sensors."""
    if change.joint_low is None or change.joint_high is None:
        return pair
    wide = 1.0 if change.instrument is None else change.instrument
    hidden = math.inf if change.verdict == "below the instrument's resolution" else wide
    known = change.instrument is not None or hidden == 1.0
    return dataclasses.replace(
        pair,
        joint_low=change.joint_low,
        joint_high=change.joint_high,
        instrument=change.instrument,
        joint_wide_low=change.joint_low / wide if known else None,
        joint_wide_high=change.joint_high * wide if known else None,
    )
