"""Where the energy goes: means over a cell's valid trials, by component and by phase.

What serving costs is that of one pass of the workload: windows of faster cells have more passes.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping

from slm_energy.analysis.result.design import TrialRow
from slm_energy.analysis.result.metric import DEVICES, ESTIMATED, MEASURED
from slm_energy.analysis.result.report import Report

# Domains lie within each other: what is stacked must add up to the total that was summed.
_CUTS = (
    {"processor": "cpu_package", "memory": "dram", "GPU": "gpu"},
    {"platform": "psys", "GPU": "gpu"},
)
_PHASES = {"load": "load_total", "warm-up": "warmup_total", "one pass": "total"}
_DEVICE_PHASES = {"load": "load_sum", "warm-up": "warmup_sum", "one pass": "sum"}
_ONCE = ("load", "warm-up")
_PASSES = "tokens/passes"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Breakdown:
    """The parts of the energy of cells.

    Attributes:
        title: what is shown; an estimate says so.
        cells: (n,) ids.
        values: part to its (n,) joules.
        estimated: they come from a model.
    """

    title: str
    cells: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    estimated: bool


def breakdowns(report: Report) -> Iterator[Breakdown]:
    """Components and phases of each kind of energy; what has fewer than two parts is left out."""
    for kind in (MEASURED, DEVICES, ESTIMATED):
        for title, names in (
            ("Energy of one pass of the workload by component", _components(report, kind)),
            (
                "Energy by phase: load and warm-up once, and one pass of the workload",
                _DEVICE_PHASES if kind == DEVICES else _PHASES,
            ),
        ):
            means = _means(report, kind, names)
            values = next(iter(means.values()), {})
            if len(values) < 2:
                continue
            yield Breakdown(
                title=f"{title}{', estimated' * (kind == ESTIMATED)}: J, mean of trials"
                + (f"; measured: {report.scope}" if report.scope and kind != ESTIMATED else ""),
                cells=tuple(means),
                values={part: tuple(row[part] for row in means.values()) for part in values},
                estimated=kind == ESTIMATED,
            )


def _components(report: Report, kind: str) -> Mapping[str, str]:
    """The components that add up to the total in every cell."""
    for cut in _CUTS:
        means = _means(report, kind, {**cut, "total": "total"}).values()
        if all(
            "total" in row and math.isclose(2 * row["total"], sum(row.values()), rel_tol=1e-6)
            for row in means
        ):
            return cut
    return {}


def _means(report: Report, kind: str, names: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Cell id to mean joules of the parts that no trial lacks, of trials that have any part."""
    columns = {part: f"{kind}{name}_j" for part, name in names.items()}
    trials: dict[str, list[TrialRow]] = {}
    for trial in report.trials:
        has_any = any(name in trial.values for name in columns.values())
        if trial.outcome == "valid" and has_any and trial.values.get(_PASSES):
            trials.setdefault(trial.cell, []).append(trial)
    rows = [row.values for cell_trials in trials.values() for row in cell_trials]
    shared = {p: name for p, name in columns.items() if all(name in row for row in rows)}
    return {
        cell.id: {
            part: statistics.fmean(
                row.values[name] / (1 if part in _ONCE else row.values[_PASSES])
                for row in trials[cell.id]
            )
            for part, name in shared.items()
        }
        for cell in report.cells
        if cell.id in trials
    }
