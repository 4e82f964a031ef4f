"""From trials to a report: `build` does all the work and returns `result.Report`."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

from slm_energy._version import __version__
from slm_energy.analysis.noise_floor import floor
from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.per_metric import Design, analyse_metric, resolve_design
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import (
    Cell,
    MetricResult,
    NoiseFloor,
    Pareto,
    Provenance,
    Report,
    TrialRow,
)
from slm_energy.analysis.stats.pareto import pareto
from slm_energy.analysis.text import caveats, findings
from slm_energy.analysis.text.methods import methods
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.frame import Study, level, started, tidy

_LIBRARIES = ("numpy", "scipy", "pandas", "statsmodels", "scikit-posthocs")


def build(
    raw: pd.DataFrame,
    options: AnalysisOptions,
    *,
    noise_floor: NoiseFloor | None = None,
    stopped: str = "",
) -> Report:
    """Analyse a study.

    Args:
        raw: one row per trial, as `tracking.Store.frame` returns it.
        options: see `analysis.options`.
        noise_floor: what is stored of the machine; a study that measures it has its own.
        stopped: why the study ended before its last round; empty if it did not.

    Raises:
        AnalysisError: the study cannot be analysed as asked; the message names the key to change.
    """
    study = tidy(raw, options.study, options.machine)
    left_out = study.left_out()
    if study.sentinel is not None:
        left_out += study.sentinel.left_out()
    design = resolve_design(study, options)
    found = blocks.usable(study, options, left_out)
    first = found[0][0].quantity
    metrics = [
        analyse_metric(study, metric, block, design, metric.quantity == first, left_out)
        for metric, block in found
    ]
    report = Report(
        study=study.name,
        machine=study.machine,
        options=options,
        provenance=_provenance(study, raw),
        factors=design.factors,
        shared=study.shared,
        cells=_cells(study, metrics, design),
        audit=study.audit,
        left_out=tuple(dict.fromkeys(left_out)),
        metrics=tuple(metrics),
        pareto=_fronts(study, metrics, options),
        trials=_trials(study),
        methods=(),
        findings=(),
        notes=(),
        noise_floor=floor(study, found, options.alpha) or noise_floor,
        stopped=stopped,
    )
    return dataclasses.replace(
        report,
        methods=methods(report),
        findings=findings.findings(report) + caveats.findings(report),
        notes=findings.notes(report) + caveats.notes(report),
    )


def _cells(study: Study, metrics: Sequence[MetricResult], design: Design) -> tuple[Cell, ...]:
    """Family by family, best first by the metric that decides; cells without a value last."""
    first = metrics[0].metric.quantity
    ranked = [
        cell
        for result in metrics
        if result.metric.quantity == first
        for family in result.families
        for cell in family.ranked
    ]
    order = list(dict.fromkeys([*ranked, *study.cells]))
    names = list(dict.fromkeys(design.families[cell] for cell in order))
    order.sort(key=lambda cell: names.index(design.families[cell]))
    slots: dict[str, list[str]] = {cell: [] for cell in study.cells}
    for slot in study.audit.slots:
        if slot.round:
            slots[slot.cell].append(slot.outcome)
    return tuple(
        Cell(
            id=cell,
            label=study.labels[cell],
            family=design.families[cell],
            levels={f.key: level(study.settings[cell], f.key) for f in design.factors},
            valid=slots[cell].count("valid"),
            rounds=len(slots[cell]),
            agreement=_mean(study, "quality/agreement", cell),
            agreeing_tokens=_mean(study, "quality/agreeing_tokens", cell),
        )
        for cell in order
    )


def _mean(study: Study, name: str, cell: str) -> float | None:
    """Of a metric over the cell's valid trials; None where none has it."""
    values = study.block(name)[:, study.cells.index(cell)]
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _fronts(
    study: Study, metrics: Sequence[MetricResult], options: AnalysisOptions
) -> tuple[Pareto, ...]:
    """Energy (or what decides) against the first latency and each quality that cells differ in."""
    first = metrics[0].metric.quantity
    lead = [result for result in metrics if result.metric.quantity == first]
    latency = [r.metric for r in metrics if r.metric.name.startswith("latency/")][:1]
    known = sorted(str(name) for name in study.trials.columns)
    quality = [Metric(name=name) for name in known if name.startswith("quality/")]
    found = []
    for result in lead:
        cells = tuple(cell for family in result.families for cell in family.ranked)
        places = [study.cells.index(cell) for cell in cells]
        x = study.block(result.metric.name)[:, places]
        for other in [*latency, *quality]:
            if other == result.metric:
                continue
            y = study.block(other.name)[:, places]
            if other.is_share and len(np.unique(y[~np.isnan(y)])) < 2:
                continue
            front = pareto(cells, (result.metric, x), (other, y), options.alpha, options.seed)
            found += [] if front is None else [front]
    return tuple(found)


def _provenance(study: Study, raw: pd.DataFrame) -> Provenance:
    own = raw[raw["machine"].astype(str) == study.machine]
    begun = started(own).dropna()
    stamps = (begun.min().isoformat(), begun.max().isoformat()) if len(begun) else ("", "")
    libraries = {
        str(name): tuple(sorted({str(value) for value in own[name].dropna()}))
        for name in own.columns
        if str(name).startswith("version.")
    }
    return Provenance(
        rows=len(own),
        repeated=study.repeated,
        sweeps=tuple(dict.fromkeys(str(sweep) for sweep in own["sweep"])),
        first_started=stamps[0],
        last_started=stamps[1],
        versions={
            "slm_energy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        libraries=libraries,
    )


def _trials(study: Study) -> tuple[TrialRow, ...]:
    rows = study.trials
    names = [str(name) for name in rows.columns if "/" in str(name)]
    values = rows[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    finite = np.isfinite(values)
    heads = zip(
        rows["run_id"], rows["cell"], rows["round"], rows["order"], rows["attempt"],
        rows["outcome"], rows["reason"], strict=True,
    )  # fmt: skip
    return tuple(
        TrialRow(
            run_id=str(run),
            cell=str(cell),
            round=int(number),
            order=int(order),
            attempt=int(attempt),
            outcome=outcome,
            reason=str(reason),
            values={names[j]: float(values[i, j]) for j in np.flatnonzero(finite[i])},
        )
        for i, (run, cell, number, order, attempt, outcome, reason) in enumerate(heads)
    )
