"""Conditions on metrics: which metric a name means, and what each cell has of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.result.recommendation import Condition, Reading
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.stats.effect_size import half_width
from slm_energy.errors import ConfigError, did_you_mean
from slm_energy.metric_catalog import catalog
from slm_energy.metric_catalog.definition import in_group

PASS_RATE = "quality/pass_at_1"


def conditions(
    report: Report, at_least: Mapping[str, float], at_most: Mapping[str, float]
) -> tuple[Condition, ...]:
    """Limits by the names of metrics, as typed metrics.

    Args:
        report: of the study that has these metrics.
        at_least: name, as `slm-energy metrics` lists it, to limit in the metric's stored unit. The
            group may be omitted where the rest of the name identifies the metric.
        at_most: likewise.

    Raises:
        ConfigError: there is no such metric, it has several meanings, or no trial has it.
    """
    known = {name for trial in report.trials for name in trial.values}
    known |= {PASS_RATE} if report.solved else set()
    return tuple(
        Condition(metric=_metric(report, key, name, known), limit=limit, at_least=key == "at_least")
        for key, limits in (("at_least", at_least), ("at_most", at_most))
        for name, limit in limits.items()
    )


def _metric(report: Report, key: str, name: str, known: set[str]) -> Metric:
    matching = {
        Metric(name=each).quantity for each in known if each == name or each.endswith(f"/{name}")
    }
    if len(matching) == 1:
        (quantity,) = matching
        return Metric(name=name if name in known else quantity)
    if matching:
        several = ", ".join(sorted(matching))
        raise ConfigError(f"{key}.{name} may mean {several}: add the group")
    full = [each.name for each in catalog.METRICS if each.name.partition("/")[2] == name]
    listed = next((each for each in (name, *full) if catalog.find(each) is not None), None)
    if listed is not None and "/" in listed:
        remedy = (
            f": slm-energy score study={report.study} tests its answers"
            if listed == PASS_RATE or "per_solved" in listed
            else ""
        )
        raise ConfigError(f"{key}.{name}: no trial of study={report.study} has {listed}{remedy}")
    short = {each.rpartition("/")[2] for each in known}
    advice = did_you_mean(
        name, known if "/" in name else short, otherwise="slm-energy metrics lists all"
    )
    raise ConfigError(f"{key}.{name}: no such metric; {advice}")


def for_kind(condition: Condition, metric: Metric) -> Condition:
    """The condition where joules are of the kind that `metric` has: of `energy/...` its estimate.

    A name that states another kind of energy stays as it is.
    """
    name = condition.metric.name
    if not (metric.is_energy and name.startswith(MEASURED)):
        return condition
    own = Metric(name=in_group(name, metric.name.partition("/")[0]))
    return Condition(metric=own, limit=condition.limit, at_least=condition.at_least)


def readings(report: Report, metric: Metric) -> dict[str, Reading]:
    """What each cell has of a metric: the mean over its valid trials and a t interval.

    The pass rate has its interval for tasks like these.
    """
    if metric.name == PASS_RATE and report.solved:
        return {
            row.cell: Reading(value=row.rate, low=row.rate_range.low, high=row.rate_range.high)
            for solved in report.solved
            for row in solved.cells
        }
    values: dict[str, list[float]] = {}
    for trial in report.trials:
        if trial.outcome == "valid" and metric.name in trial.values:
            values.setdefault(trial.cell, []).append(trial.values[metric.name])
    return {cell: _mean(metric, own, report.options.alpha) for cell, own in values.items()}


def _mean(metric: Metric, values: list[float], alpha: float) -> Reading:
    plain = metric.is_share or min(values) <= 0  # such values have no logarithm
    scaled = np.asarray(values) if plain else np.log(values)
    back = float if plain else math.exp
    mean, half = float(scaled.mean()), half_width(scaled, alpha)
    if half is None:
        return Reading(value=back(mean))
    return Reading(value=back(mean), low=back(mean - half), high=back(mean + half))
