"""From trials to one metric's values, rounds x cells, and an account of what cannot be used."""

from __future__ import annotations

import numpy as np

from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.result.report import LeftOut
from slm_energy.analysis.stats.effect_size import Flags, Floats
from slm_energy.analysis.stats.paired import Block
from slm_energy.analysis.trials.frame import Study
from slm_energy.errors import AnalysisError


def usable(
    study: Study, options: AnalysisOptions, left_out: list[LeftOut]
) -> list[tuple[Metric, Block]]:
    """The metrics asked for that have a value, the one that decides first, and their values.

    Raises:
        AnalysisError: no trial has one of them, or none has any.
    """
    found = []
    for metric in wanted(study, options, left_out):
        values = block(study, metric, left_out)
        if np.isnan(values.values).all():
            why = "no valid trial has a value above zero"
            left_out.append(LeftOut(scope="metric", name=metric.heading, reason=why))
        else:
            found.append((metric, values))
    if not found:
        names = ", ".join(options.metrics)
        raise AnalysisError(f"metrics: no valid trial of study={study.name} has any of {names}")
    return found


def wanted(study: Study, options: AnalysisOptions, left_out: list[LeftOut]) -> list[Metric]:
    """The metrics asked for; an energy metric becomes one per kind that occurs."""
    known = sorted(str(name) for name in study.trials.columns if "/" in str(name))
    energy_known = [name for name in known if Metric(name=name).is_energy]
    found: list[Metric] = []
    for name in options.metrics:
        metric = Metric(name=name)
        kinds = [metric, metric.estimated_twin()] if name.startswith(MEASURED) else [metric]
        there = [kind for kind in kinds if not np.isnan(study.block(kind.name)).all()]
        if not there and name not in known:
            if metric.is_energy and not energy_known:
                why = "no energy was recorded: the trials ran with measurement=off"
                left_out.append(LeftOut(scope="metric", name=metric.heading, reason=why))
                continue
            bounds = {end for other in known for end in Metric(name=other).bounds}
            near = [other for other in known if other.partition("/")[0] == name.partition("/")[0]]
            near = [other for other in near if other not in bounds]
            raise AnalysisError(
                f"metrics: no trial of study={study.name} has {name!r}; it has: "
                f"{', '.join((near or known)[:8])}"
            )
        found += there or [metric]
    return list(dict.fromkeys(found))


def block(study: Study, metric: Metric, left_out: list[LeftOut]) -> Block:
    """Values of a metric, rounds x cells. Energy: a cell that is measured has no estimate."""
    values = study.block(metric.name)
    if metric.estimated:
        measured = ~np.isnan(study.block(metric.quantity)).all(axis=0)
        both = measured & ~np.isnan(values).all(axis=0)
        values[:, measured] = np.nan
        if both.any() and not np.isnan(values).all():
            left_out.append(
                LeftOut(
                    scope="metric",
                    name=f"estimates of {_names(study, np.asarray(both))}",
                    reason="these cells were measured",
                )
            )
    unusable = ~np.isnan(values) & ~(np.isfinite(values) & (values > 0))
    if unusable.any():
        values[unusable] = np.nan
        left_out.append(
            LeftOut(
                scope="trial",
                name=f"{metric.heading} of {_names(study, np.asarray(unusable.any(axis=0)))}",
                reason=f"{int(unusable.sum())} values that are not above zero and finite cannot "
                "form a ratio",
            )
        )
    _note_gaps(study, metric, values, left_out)
    low, high = (study.block(name) for name in metric.bounds)
    bounded = metric.is_energy and not metric.estimated and not np.isnan(low).all()
    return Block(
        cells=study.cells,
        values=values,
        low=low if bounded else None,
        high=high if bounded else None,
    )


def _note_gaps(study: Study, metric: Metric, values: Floats, left_out: list[LeftOut]) -> None:
    """Say where valid trials have no value of a metric that others have."""
    valid = np.zeros(values.shape, dtype=bool)
    places = {cell: i for i, cell in enumerate(study.cells)}
    rows = study.valid["round"].to_numpy(dtype=int) - 1
    valid[rows, study.valid["cell"].map(places).to_numpy(dtype=int)] = True
    lacking = valid & np.isnan(values)
    if metric.is_energy:  # the other kind of energy may have it
        other = metric.quantity if metric.estimated else metric.estimated_twin().name
        lacking &= np.isnan(study.block(other))
    if lacking.any() and not np.isnan(values).all():
        left_out.append(
            LeftOut(
                scope="metric",
                name=f"{metric.heading} of {_names(study, np.asarray(lacking.any(axis=0)))}",
                reason=f"{int(lacking.sum())} of {int(valid.sum())} valid trials have no value",
            )
        )


def _names(study: Study, which: Flags, most: int = 4) -> str:
    names = [study.labels[cell] for cell, there in zip(study.cells, which, strict=True) if there]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
