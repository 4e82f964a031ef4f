"""From trials to one metric's values, rounds x cells, and an account of what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import TrialFacts
from slm_energy.analysis.stats.effect_size import Flags, Floats
from slm_energy.analysis.trials.frame import Study
from slm_energy.config.options import AnalysisOptions
from slm_energy.errors import AnalysisError
from slm_energy.metric_catalog.catalog import sums_passes

_START_TEMPERATURE = "_start_c"
"""How the name of a metric ends that holds a temperature at the start of a trial."""


def usable(
    study: Study, options: AnalysisOptions
) -> tuple[list[tuple[Metric, Block]], list[LeftOut]]:
    """The requested metrics that have a value, the one that decides first, and their values.

    Returns:
        Metrics with their values over all cells, and what cannot be used.

    Raises:
        AnalysisError: no trial has one of them, or none has any.
    """
    metrics, left_out = requested(study, options)
    blocks = []
    for metric in metrics:
        require_equal_work(metric, passes(study, metric))
        values, unused = block(study, metric)
        left_out += unused
        if np.isnan(values.values).all():
            why = "no valid trial has a value above zero"
            left_out.append(LeftOut(scope="metric", name=metric.heading, reason=why))
        else:
            blocks.append((metric, values))
    if not blocks:
        names = ", ".join(options.metrics)
        raise AnalysisError(f"metrics: no valid trial of study={study.name} has any of {names}")
    return blocks, left_out


def requested(study: Study, options: AnalysisOptions) -> tuple[list[Metric], list[LeftOut]]:
    """The metrics that the options name; an energy metric becomes one per kind that occurs.

    Returns:
        The metrics, and those of which nothing was recorded.

    Raises:
        AnalysisError: no trial has a metric of that name.
    """
    known = sorted(str(name) for name in study.trials.columns if "/" in str(name))
    has_energy = any(Metric(name=name).is_energy for name in known)
    metrics: list[Metric] = []
    left_out: list[LeftOut] = []
    for name in options.metrics:
        metric = Metric(name=name)
        kinds = list(metric.kinds) if name.startswith(MEASURED) else [metric]
        recorded = [kind for kind in kinds if not np.isnan(study.block(kind.name)).all()]
        if recorded or name in known:
            metrics += recorded or [metric]
        elif metric.is_energy and not has_energy:
            why = "no energy was recorded: the trials ran with measurement=off"
            left_out.append(LeftOut(scope="metric", name=metric.heading, reason=why))
        else:
            raise AnalysisError(
                f"metrics: no trial of study={study.name} has {name!r}; it has: "
                f"{', '.join(_similar(name, known)[:8])}"
            )
    return list(dict.fromkeys(metrics)), left_out


def passes(study: Study, metric: Metric) -> Floats:
    """How often each trial with a value of a metric served the workload, rounds x cells."""
    return np.where(np.isnan(study.block(metric.name)), np.nan, study.block("tokens/passes"))


def require_equal_work(metric: Metric, passes: Floats) -> None:
    """Refuse a sum over the serve window unless all trials served the workload equally often.

    Raises:
        AnalysisError: their passes differ, so the sums are of different work.
    """
    known = passes[~np.isnan(passes)]
    if known.size and known.min() < known.max() and sums_passes(metric.name):
        group = metric.name.partition("/")[0]
        raise AnalysisError(
            f"metrics={metric.name} is a sum over {known.min():g} to {known.max():g} passes of the"
            f" workload, which is different work: compare {group}/per_output_token_j or"
            f" {group}/per_request_j"
        )


def _similar(name: str, known: Sequence[str]) -> Sequence[str]:
    """The known metrics of the same group, without the ends of intervals; all if it has none."""
    metrics = [Metric(name=other) for other in known]
    bounds = {end for each in metrics for end in (*each.bounds, *each.bounds_with_gain)}
    group = name.partition("/")[0]
    return [o for o in known if o.partition("/")[0] == group and o not in bounds] or known


def block(study: Study, metric: Metric) -> tuple[Block, list[LeftOut]]:
    """Values of a metric, rounds x cells, and what cannot be used.

    Energy: a cell that is measured has no estimate.
    """
    left_out = []
    values = study.block(metric.name)
    if metric.estimated:
        others = [kind for kind in metric.kinds if kind != metric]
        measured = np.any([~np.isnan(study.block(o.name)).all(axis=0) for o in others], axis=0)
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
    left_out += _gaps(study, metric, values)
    low, high = (study.block(name) for name in metric.bounds)
    bounded = metric.is_energy and not metric.estimated and not np.isnan(low).all()
    with_gain = study.block(metric.bounds_with_gain[0]), study.block(metric.bounds_with_gain[1])
    values_block = Block(
        cells=study.cells,
        values=values,
        low=low if bounded else None,
        high=high if bounded else None,
        with_gain=None if np.isnan(with_gain[0]).all() else with_gain,
    )
    return values_block, left_out


def _gaps(study: Study, metric: Metric, values: Floats) -> list[LeftOut]:
    """Valid trials that lack a metric which others have: at most one entry."""
    valid = np.zeros(values.shape, dtype=bool)
    columns = {cell: i for i, cell in enumerate(study.cells)}
    rows = study.valid["round"].to_numpy(dtype=int) - 1
    valid[rows, study.valid["cell"].map(columns).to_numpy(dtype=int)] = True
    lacking = valid & np.isnan(values)
    if metric.is_energy:  # another kind of energy may have it
        for other in metric.kinds:
            lacking &= np.isnan(study.block(other.name))
    if not lacking.any() or np.isnan(values).all():
        return []
    return [
        LeftOut(
            scope="metric",
            name=f"{metric.heading} of {_names(study, np.asarray(lacking.any(axis=0)))}",
            reason=f"{int(lacking.sum())} of {int(valid.sum())} valid trials have no value",
        )
    ]


def _names(study: Study, which: Flags, most: int = 4) -> str:
    names = [study.labels[cell] for cell, named in zip(study.cells, which, strict=True) if named]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def trial_facts(rows: pd.DataFrame) -> tuple[TrialFacts, ...]:
    """What a diagnosis needs to know about trials.

    Args:
        rows: one row per valid trial, as in `Study.valid`.
    """
    gauge = next((name for name in rows if str(name).endswith(_START_TEMPERATURE)), None)
    degrees = rows[gauge] if gauge is not None else pd.Series(np.nan, rows.index)
    facts = zip(rows["run_id"], rows["cell"], rows["round"], rows["order"], degrees, strict=True)
    return tuple(
        TrialFacts(
            run_id=str(run),
            cell=str(cell),
            round=int(number),
            order=int(order),
            temperature_c=float(temperature) if np.isfinite(temperature) else None,
        )
        for run, cell, number, order, temperature in facts
    )
