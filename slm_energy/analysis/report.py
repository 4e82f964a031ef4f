"""From trials to a report: tables, verdicts and the sentences a reader takes away.

`build` does all the work and returns a `Report`: plain data that renders itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console

from slm_energy.analysis import render, words
from slm_energy.analysis.classic import Chain, chain
from slm_energy.analysis.compare import Block, Comparison, Rule, compare, ranking
from slm_energy.analysis.effect import half_width
from slm_energy.analysis.frame import Slot, Study, tidy
from slm_energy.analysis.metric import CONTEXT, ESTIMATED, MEASURED, Metric
from slm_energy.analysis.options import AnalysisOptions
from slm_energy.errors import AnalysisError
from slm_energy.plain import to_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One metric of one cell over its valid trials.

    Attributes:
        trials: how many have a value.
        mean: geometric mean.
        low: lower end of its t interval; None with one trial or without any variation.
        high: upper end.
    """

    trials: int
    mean: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellSummary:
    """One cell. `figures` maps a metric's name to its figure; no entry means no value."""

    cell: str
    label: str
    model: str
    valid: int
    rounds: int
    figures: dict[str, Figure]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One metric of one kind, compared over the cells that have it."""

    metric: Metric
    comparison: Comparison
    conventional: Chain | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All that is said about a study.

    Attributes:
        study: its name.
        machine: where it ran.
        options: as asked.
        shared: what all cells have in common.
        labels: cell id to name.
        outcomes: outcome to number of trials.
        slots: every cell in every round.
        cells: model by model, best first.
        sections: the first metric's (one for measured, one for estimated energy), then the others.
        findings: the verdict in sentences.
        notes: what a reader must know to read the tables right.
    """

    study: str
    machine: str
    options: AnalysisOptions
    shared: tuple[str, ...]
    labels: dict[str, str]
    outcomes: dict[str, int]
    slots: tuple[Slot, ...]
    cells: tuple[CellSummary, ...]
    sections: tuple[Section, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_terminal(self, console: Console) -> None:
        """Print it; fits in 100 columns."""
        render.to_terminal(self, console)

    def to_markdown(self) -> str:
        """The same as Markdown."""
        return render.to_markdown(self)

    def to_json(self) -> str:
        """All figures, unrounded and in SI units, as JSON text."""
        return json.dumps(to_plain(self), indent=1, allow_nan=False)


def build(raw: pd.DataFrame, options: AnalysisOptions) -> Report:
    """Analyse a study.

    Args:
        raw: one row per trial, as `tracking.Store.frame` returns it.
        options: see `analysis.options`.

    Raises:
        AnalysisError: the study cannot be analysed as asked; the message names the key to change.
    """
    study = tidy(raw, options.study, options.machine)
    reference = _reference(study, options.reference)
    sections: list[Section] = []
    notes: list[str] = []
    for metric in _metrics(study, options, notes):
        block = _block(study, metric, notes)
        if np.isnan(block.values).all():
            notes.append(f"{metric.heading}: no valid trial has a value above zero.")
            continue
        leads = not sections or metric.quantity == sections[0].metric.quantity
        rule = _rule(metric, options)
        asked = (
            _asked(study, ranking(block, rule), reference, options.pairs)
            if leads
            else _same_pairs(sections)
        )
        result = compare(block, rule, asked)
        conventional = chain(block, result, options.alpha) if leads else None
        sections.append(Section(metric=metric, comparison=result, conventional=conventional))
    if not sections:
        names = ", ".join(options.metrics)
        raise AnalysisError(f"metrics: no valid trial of study={study.name} has any of {names}")
    lead = [s for s in sections if s.metric.quantity == sections[0].metric.quantity]
    return Report(
        study=study.name,
        machine=study.machine,
        options=options,
        shared=study.shared,
        labels=study.labels,
        outcomes=study.outcomes(),
        slots=study.slots,
        cells=_summaries(study, lead, options.alpha),
        sections=tuple(sections),
        findings=tuple(
            line
            for s in lead
            for line in words.findings(s.metric, s.comparison, study.labels, options)
        ),
        notes=(*notes, *words.notes(lead, study.labels, options)),
    )


def _rule(metric: Metric, options: AnalysisOptions) -> Rule:
    return Rule(
        alpha=options.alpha,
        margin=options.margin,
        permutations=options.permutations,
        seed=options.seed,
        higher_is_better=metric.higher_is_better,
    )


def _asked(
    study: Study, ranked: Sequence[str], reference: str | None, pairs: str
) -> list[tuple[str, str]]:
    """The pairs of the metric that decides, better ranked first.

    A reference that was named is compared with every cell. Else cells are compared within their
    model, because it is the serving configuration that is chosen: the best with each other one, or
    all pairs.
    """
    if reference is not None and reference in ranked and pairs != "all":
        return [(cell, reference) for cell in ranked if cell != reference]
    groups: dict[str, list[str]] = {}
    for cell in ranked:
        groups.setdefault(study.models[cell], []).append(cell)
    return [
        (a, b)
        for group in groups.values()
        for a, b in itertools.combinations(group, 2)
        if pairs == "all" or a == group[0]
    ]


def _same_pairs(sections: list[Section]) -> list[tuple[str, str]]:
    """The other metrics are compared over the pairs of the one that decides."""
    lead = sections[0].metric.quantity
    pairs = [p for s in sections if s.metric.quantity == lead for p in s.comparison.pairs]
    return [(pair.a, pair.b) for pair in pairs]


def _reference(study: Study, asked: str | None) -> str | None:
    if asked is None:
        return None
    named = [cell for cell, label in study.labels.items() if asked in (cell, label)]
    if not named:
        known = ", ".join(study.labels[cell] for cell in study.cells[:8])
        more = f" and {len(study.cells) - 8} more" if len(study.cells) > 8 else ""
        raise AnalysisError(
            f"reference={asked}: no such cell; study={study.name} has: {known}{more}"
        )
    if not any(slot.cell == named[0] and slot.outcome == "valid" for slot in study.slots):
        raise AnalysisError(f"reference={asked} has no valid trial; choose another, or null")
    return named[0]


def _metrics(study: Study, options: AnalysisOptions, notes: list[str]) -> list[Metric]:
    """The metrics asked for; an energy metric becomes one per kind that occurs."""
    known = sorted(str(name) for name in study.trials.columns if "/" in str(name))
    energy_known = [name for name in known if name.startswith((MEASURED, ESTIMATED))]
    found = []
    for name in options.metrics:
        metric = Metric(name=name)
        kinds = [metric, metric.estimated_twin()] if name.startswith(MEASURED) else [metric]
        there = [kind for kind in kinds if not study.block(kind.name).isna().all(axis=None)]
        if not there and name not in known:
            if metric.is_energy and not energy_known:
                notes.append("No energy was recorded: the trials ran with measurement=off.")
                continue
            near = [other for other in known if other.partition("/")[0] == name.partition("/")[0]]
            raise AnalysisError(
                f"metrics: no trial of study={study.name} has {name!r}; it has: "
                f"{', '.join((near or known)[:8])}"
            )
        found += there or [metric]
    return found


def _block(study: Study, metric: Metric, notes: list[str]) -> Block:
    """Values of a metric, rounds x cells. Energy: a cell that is measured has no estimate."""
    values = study.block(metric.name)
    if metric.estimated:
        measured = study.block(metric.name.replace(ESTIMATED, MEASURED, 1)).notna().any(axis=0)
        both = [study.labels[c] for c in study.cells if measured[c] and values[c].notna().any()]
        values = values.mask(np.broadcast_to(measured.to_numpy(), values.shape))
        if both and values.notna().any(axis=None):
            notes.append(f"Estimates are left out where the cell was measured: {', '.join(both)}.")
    array = values.to_numpy(dtype=float, copy=True)
    unusable = ~np.isnan(array) & ~(np.isfinite(array) & (array > 0))
    if unusable.any():
        array[unusable] = np.nan
        notes.append(
            f"{metric.heading}: {int(unusable.sum())} values that are not above zero and finite "
            "cannot form a ratio and are left out."
        )
    low, high = (study.block(name).to_numpy(dtype=float) for name in metric.bounds)
    bounded = metric.is_energy and not metric.estimated and not np.isnan(low).all()
    return Block(
        cells=study.cells,
        values=array,
        low=low if bounded else None,
        high=high if bounded else None,
    )


def _summaries(study: Study, lead: list[Section], alpha: float) -> tuple[CellSummary, ...]:
    shown = [*(section.metric for section in lead), *CONTEXT]
    columns = {metric.name: study.block(metric.name) for metric in shown}
    for section in lead:  # an estimate is shown only where it is what is compared
        columns[section.metric.name][list(section.comparison.left_out)] = math.nan
    ranked = [cell for section in lead for cell in section.comparison.ranked]
    order = [*ranked, *(cell for cell in study.cells if cell not in ranked)]
    models = list(dict.fromkeys(study.models[cell] for cell in order))
    order.sort(key=lambda cell: models.index(study.models[cell]))
    result = []
    for cell in order:
        slots = [slot for slot in study.slots if slot.cell == cell]
        figures = {
            name: _figure(c[cell].to_numpy(dtype=float), alpha) for name, c in columns.items()
        }
        result.append(
            CellSummary(
                cell=cell,
                label=study.labels[cell],
                model=study.models[cell],
                valid=sum(slot.outcome == "valid" for slot in slots),
                rounds=len(slots) if slots[0].round else 0,
                figures={name: figure for name, figure in figures.items() if figure is not None},
            )
        )
    return tuple(result)


def _figure(values: np.ndarray, alpha: float) -> Figure | None:
    usable = values[np.isfinite(values) & (values > 0)]
    if not usable.size:
        return None
    logs = np.log(usable)
    mean, half = float(logs.mean()), half_width(logs, alpha)
    return Figure(
        trials=len(usable),
        mean=math.exp(mean),
        low=None if half is None else math.exp(mean - half),
        high=None if half is None else math.exp(mean + half),
    )
