"""The sentences about models in general, of which a study has a sample."""

from __future__ import annotations

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.population import Population, PopulationPair
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import (
    changes,
    confidence,
    kind,
    measured,
    measured_once,
    number,
    than,
    times,
)

_MOST = 6
"""Pairs that have a sentence; of more, those with the best configuration have one."""


def findings(report: Report) -> tuple[str, ...]:
    """One sentence per pair of configurations, on the metric that decides."""
    lines = []
    for result in report.deciding:
        seen = result.population
        if seen is not None and not seen.reason:
            own = [sentence(report, result.metric, seen, pair) for pair in shown(seen)]
            lines += measured_once(report, result.metric, own)
    return tuple(lines)


def shown(seen: Population) -> tuple[PopulationPair, ...]:
    """The pairs that sentences and figures show: all, or those with the best configuration."""
    known = tuple(pair for pair in seen.pairs if pair.p is not None)
    if len(known) <= _MOST:
        return known
    return tuple(pair for pair in known if seen.ranked[0] in (pair.a, pair.b))


def sentence(report: Report, metric: Metric, seen: Population, pair: PopulationPair) -> str:
    """One pair over models, in words, with what was measured."""
    assert pair.joint_low is not None
    assert pair.joint_high is not None
    what = f"{metric.title}{kind(metric)}"
    name = "" if len(seen.pairs) == 1 and report.options.adjust == "family" else "simultaneous "
    better = "cheaper" if metric.is_energy else "better"
    start = f"Over models like these {len(pair.models)}: "
    won = f"{better} on {pair.won} of {times(len(pair.models), 'model')}"
    interval = f"{name}{confidence(report)} interval"
    if pair.verdict in ("saves", "gains", "worse"):
        return (
            f"{start}{pair.a} {than(metric, pair.ratio, pair.b)}, {interval} "
            f"{changes(pair.joint_low, pair.joint_high)}, {won}.{measured(report, metric)}"
        )
    span = f"{number(pair.joint_low)} to {number(pair.joint_high)}"
    return (
        f"{start}{pair.a} against {pair.b}, {what}: {pair.verdict}, ratio {number(pair.ratio)}, "
        f"{interval} {span}, {won}.{measured(report, metric)}"
    )


def notes(report: Report) -> tuple[str, ...]:
    """Why nothing is said of models in general, in a study of several."""
    reasons = [
        result.population.reason
        for result in report.deciding
        if result.population is not None
        and result.population.reason
        and len(result.population.models) > 1
    ]
    return tuple(f"Nothing is said of models in general: {why}." for why in dict.fromkeys(reasons))


def methods(report: Report) -> tuple[str, ...]:
    """How models in general were judged, where they were."""
    if not any(r.population is not None and not r.population.reason for r in report.metrics):
        return ()
    return (
        "What holds for models in general was judged with the model as a random factor: the mean "
        "log ratio of two configurations on a model is one value, and its interval is a t interval "
        "over models, simultaneous for all pairs of configurations (their smallest p against that "
        "of draws). It takes the models for a random sample of those that are meant. The verdicts "
        "within a model are about that model only.",
    )
