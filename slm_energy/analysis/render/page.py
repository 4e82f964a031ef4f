"""The contents of a report's page: sections of blocks, as plain data.

`html` lays them out. What grows with the square of the number of cells is shown only as far as a
person can read it; comparisons.json has all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from slm_energy.analysis.render import (
    critical_difference,
    figures,
    interaction,
    supporting_tables,
    tables,
)
from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.comparison import Family, Savings
from slm_energy.analysis.result.design import Slot
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import confidence, percent, simultaneous
from slm_energy.analysis.text.population import shown

MARKS = {"valid": "✓", "invalid": "!", "failed": "✗", "unsupported": "/", "missing": "?"}
_MOST_OPEN = 30
_MOST_IN_MATRIX = 30


class Field(NamedTuple):
    """One field of a matrix: what it shows, its class, and its text for screen readers."""

    text: str
    style: str
    spoken: str


EMPTY = Field("", "", "")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A paragraph; style `finding` is larger, `muted` is paler."""

    text: str
    style: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """Of what follows, up to the next one."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A picture that this package drew; `svg` is markup."""

    svg: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table that is always shown."""

    grid: Grid


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Tables that are folded until a reader opens them."""

    title: str
    grids: tuple[Grid, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Rows of fields; with `heads`, these head the columns, else the numbers of the rows do."""

    caption: str
    labels: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]
    heads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Generated code: untrusted text."""

    title: str
    text: str


Block = Text | Heading | Bullets | Figure | Table | Fold | Matrix | Code


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def sections(report: Report, generated: Sequence[Generated], more: Sequence[Grid]) -> list[Section]:
    """The page from top to bottom; a part without anything to show is left out."""
    contents = [("findings", "Findings", _findings(report, more))]
    for result in report.metrics:
        anchor = result.metric.name.replace("/", "-")
        contents.append((anchor, result.metric.heading, _metric(report, result)))
    contents += [
        ("trade-offs", "Trade-offs", _trade_offs(report)),
        ("parts", "Where the energy goes", _energy_breakdown(report)),
        ("trials", "Trials", _trials(report)),
        ("generated", "Generated code", _generated(report, generated)),
        ("methods", "Methods", _methods(report)),
    ]
    built = [Section(id=i, title=title, blocks=tuple(blocks)) for i, title, blocks in contents]
    return [section for section in built if section.blocks]


def _findings(report: Report, more: Sequence[Grid]) -> Iterator[Block]:
    for line in report.findings:
        yield Text(text=line, style="finding")
    for result in report.deciding:
        for family in result.families:
            if family.headline:
                yield from _family_heading(family, result.metric)
                wide = any(pair.wide_low is not None for pair in family.headline)
                yield Figure(
                    svg=figures.forest(report, result.metric, family),
                    caption=f"{result.metric.heading} as a ratio to"
                    f" {report.labels[family.reference]}:"
                    f" bar, {simultaneous(report, family)} interval;"
                    f"{' thin line, with the instruments in it;' * wide}"
                    f" shaded, the margin of {100 * report.options.margin:g}\u00a0%",
                )
    for grid in more:
        yield Table(grid=grid)


def _family_heading(family: Family, metric: Metric) -> Iterator[Block]:
    if family.name:
        yield Heading(text=family.name + " (estimated)" * metric.estimated)


def _metric(report: Report, result: MetricResult) -> Iterator[Block]:
    if result.descriptive:
        yield Figure(
            svg=figures.strip(report, result),
            caption="Dots, trials (with a ring: flagged); diamond, geometric mean; bar, its"
            f" {confidence(report)} interval{_instruments(result)}",
        )
        grid = tables.descriptive(report, result)
        crowded = len(grid.rows) > _MOST_OPEN
        yield Fold(title="Cell by cell", grids=(grid,)) if crowded else Table(grid=grid)
    for family in result.families:
        if len(family.ranked) > 1:
            yield from _family(report, result, family)
    yield from _over_models(report, result)
    if result.diagnostics.drifts:
        yield Heading(text="Drift and outliers")
        yield Figure(
            svg=figures.drift(report, result),
            caption="Each trial against the mean of its cell, in the order of the plan"
            f"{'; diamonds, the sentinel' * (result.sentinel is not None)}",
        )
    for name, grids in (
        ("Diagnostics", supporting_tables.diagnostics(report, result)),
        ("Effects of the factors", supporting_tables.effects(result)),
        ("Conventional tests", supporting_tables.conventional(report, result)),
        ("What more rounds would show", supporting_tables.power(result)),
    ):
        if grids:
            yield Fold(title=name, grids=tuple(grids))


def _over_models(report: Report, result: MetricResult) -> Iterator[Block]:
    """Models in general, and how much the models of the study differ."""
    seen = result.population
    pairs = () if seen is None else shown(seen)
    if pairs:
        yield Heading(text="Over models")
        yield Figure(
            svg=interaction.to_svg(report, result.metric, pairs),
            caption=f"Ratio on each model with its {confidence(report)} interval over rounds, and"
            f" over models like these (diamond) with the {confidence(report)} interval of all pairs"
            f" together; shaded, the margin of {100 * report.options.margin:g}\u00a0%",
        )
    for grid in supporting_tables.over_models(report, result):
        yield Table(grid=grid)


def _instruments(result: MetricResult) -> str:
    known = any(row.instrument_low is not None for row in result.descriptive)
    return "; thin line below, the instruments' own" if known else ""


def _family(report: Report, result: MetricResult, family: Family) -> Iterator[Block]:
    yield from _family_heading(family, result.metric)
    decides = result in report.deciding
    grid = tables.pairs(report, result.metric, family)
    yield Table(grid=grid) if decides else Fold(title="Pair by pair", grids=(grid,))
    if 2 < len(family.ranked) <= _MOST_IN_MATRIX:
        yield _savings(report, result.metric, family.savings)
    ranking = critical_difference.ranking(result, family, report.options.alpha)
    if ranking is not None:
        yield Figure(
            svg=critical_difference.to_svg(ranking, report.labels, result.metric.heading),
            caption=f"Mean ranks over {ranking.rounds} complete rounds, 1 is best; a bar joins"
            " cells that do not differ",
        )


def _savings(report: Report, metric: Metric, savings: Savings) -> Matrix:
    rows = []
    for shares, verdicts in zip(savings.saving_pct, savings.verdicts, strict=True):
        row = []
        for share, verdict in zip(shares, verdicts, strict=True):
            if share is None:
                row.append(EMPTY)
                continue
            decided = verdict in ("saves", "gains", "worse", "equivalent")
            side = "plus" if share > 0 else "minus"
            row.append(Field(percent(share / 100), side if decided else "open", str(verdict)))
        rows.append(tuple(row))
    gain = "Gain" if metric.higher_is_better else "Saving"
    return Matrix(
        caption=f"{gain} of the row against the column, in per cent; hatched: not conclusive",
        labels=tuple(report.labels[cell] for cell in savings.cells),
        rows=tuple(rows),
    )


def _trade_offs(report: Report) -> Iterator[Block]:
    for front in report.pareto:
        if len(front.points) > 1:
            better = "upper" if front.y.higher_is_better else "lower"
            yield Figure(
                svg=figures.pareto(report, front),
                caption=f"{front.y.heading} against {front.x.title}"
                f"{' (estimated)' * front.x.estimated}: best is the {better} left;"
                f" lines, {confidence(report)} intervals. Per cent: of"
                f" {front.resamples or 'all'} resamples of the rounds, those in which the cell is"
                " on the front; how stable the front is from round to round, not the chance that"
                " the cell is truly on it",
            )


def _energy_breakdown(report: Report) -> Iterator[Block]:
    for breakdown in breakdowns(report):
        svg = figures.stacked_bars(
            breakdown.title,
            "J",
            [report.labels[cell] for cell in breakdown.cells],
            breakdown.values,
            estimated=breakdown.estimated,
        )
        yield Figure(svg=svg, caption=breakdown.title)


def _trials(report: Report) -> Iterator[Block]:
    by_cell: dict[str, dict[int, Slot]] = {}
    for slot in report.audit.slots:
        by_cell.setdefault(slot.cell, {})[slot.round] = slot
    rounds = report.audit.rounds
    rows = []
    for cell in report.cells:
        slots = by_cell.get(cell.id, {})
        rows.append(tuple(_slot(slots.get(number) or slots.get(0)) for number in rounds))
    if rounds:
        marks = ", ".join(f"{mark} {outcome}" for outcome, mark in MARKS.items())
        yield Matrix(
            caption=f"Outcome of every trial, cells by rounds: {marks}",
            heads=tuple(str(number) for number in rounds),
            labels=tuple(cell.label for cell in report.cells),
            rows=tuple(rows),
        )
    for grid in (tables.audit(report), tables.left_out(report)):
        if grid.rows:
            yield Table(grid=grid)


def _slot(slot: Slot | None) -> Field:
    if slot is None:
        return EMPTY
    spoken = f"{slot.outcome}: {slot.reason}" if slot.reason else slot.outcome
    return Field(MARKS[slot.outcome], slot.outcome, spoken)


def _generated(report: Report, generated: Sequence[Generated]) -> Iterator[Block]:
    """Each text once, under the cells that generated it."""
    agreement = tables.agreement(report)
    if agreement.rows:
        yield Table(grid=agreement)
    if not generated:
        return
    yield Text(
        text="What one valid trial per cell generated for the first prompt, and for the first"
        " prompt for which any cell's tokens differ from the reference engine's, unedited.",
        style="muted",
    )
    writers: dict[tuple[str, str, int | None], list[str]] = {}
    for sample in generated:
        key = (sample.task_id, sample.completion, sample.differs_at)
        writers.setdefault(key, []).append(sample.label)
    for (task, completion, differs_at), labels in writers.items():
        mark = (
            ""
            if differs_at is None
            else f" (differs from the reference from token {differs_at} on)"
        )
        yield Code(title=f"{task}: {', '.join(labels)}{mark}", text=completion)


def _methods(report: Report) -> Iterator[Block]:
    for paragraph in report.methods:
        yield Text(text=paragraph)
    if report.notes:
        yield Heading(text="Notes")
        yield Bullets(lines=report.notes)
    yield Fold(title="Versions", grids=(tables.versions(report),))
