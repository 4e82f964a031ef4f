"""The contents of a report's page: sections of parts, each of which makes blocks, plain data.

`html` makes the parts one by one, so that an error in one costs nothing else, and lays them out.
What grows with the square of the number of cells is shown only as far as a person can read it;
comparisons.json has all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from slm_energy.analysis.render import (
    answer_table,
    figures,
    footprint_tables,
    page_metric,
    page_solved,
    tables,
)
from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.page_blocks import (
    EMPTY,
    Block,
    Bullets,
    Code,
    Field,
    Figure,
    Fold,
    Heading,
    Matrix,
    Part,
    Section,
    Text,
    filled,
    folded,
)
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.design import Slot
from slm_energy.analysis.result.footprint import Footprint
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.recommendation import unsaid

_MOST_SLOTS = 2000
"""Trials up to which the page shows the outcome of each."""

MARKS = {"valid": "✓", "invalid": "!", "failed": "✗", "unsupported": "/", "missing": "?"}


def sections(report: Report, generated: Sequence[Generated], more: Sequence[Grid]) -> list[Section]:
    """The page from top to bottom."""
    contents: list[tuple[str, str, Iterable[Part]]] = [
        ("answer", "Answer", page_solved.answer(report)),
        ("findings", "Findings", _findings(report, more)),
        ("solved", "Solved tasks", page_solved.solved(report)),
    ]
    for result in report.metrics:
        anchor = result.metric.name.replace("/", "-")
        contents.append((anchor, result.metric.heading, page_metric.metric(report, result)))
    contents += [
        ("trade-offs", "Trade-offs", page_metric.trade_offs(report)),
        ("parts", "Where the energy goes", [Part("bars", partial(_breakdown, report))]),
        ("footprint", "Carbon and money", _footprint(report)),
        (
            "resources",
            "Utilization and memory",
            [Part("table", lambda: folded(answer_table.resources(report)))],
        ),
        ("trials", "Trials", _trials(report)),
        ("generated", "Generated code", _generated(report, generated)),
        ("machine", "Machine", [Part("table", lambda: filled(tables.hardware(report)))]),
        ("methods", "Methods", _methods(report)),
        ("terms", "Terms", [Part("table", lambda: filled(answer_table.terms(report)))]),
    ]
    return [Section(id=i, title=title, parts=tuple(parts)) for i, title, parts in contents]


def _findings(report: Report, more: Sequence[Grid]) -> Iterator[Part]:
    yield Part("sentences", lambda: [Text(text=t, style="finding") for t in unsaid(report)])
    yield Part("errors", partial(page_metric.failures, report, ""))
    yield Part("registration", lambda: filled(tables.registration(report)))
    for grid in more:
        yield Part(grid.title, partial(filled, grid))


def _breakdown(report: Report) -> Iterator[Block]:
    for shown in breakdowns(report):
        made = tuple(
            Figure(svg=figures.breakdown(report, shown, part), caption=shown.title)
            for part in figures.parts(len(shown.cells))
        )
        title = f"{shown.title}: {len(shown.cells)} cells"
        yield made[0] if len(made) == 1 else Fold(title=title, figures=made)


def _footprint(report: Report) -> Iterator[Part]:
    for grid in footprint_tables.grids(report):
        yield Part("table", partial(_table, grid))
    if report.footprint is not None:
        yield Part("note", partial(_note, report.footprint))


def _table(grid: partial[Grid]) -> Iterable[Block]:
    return folded(grid())


def _note(footprint: Footprint) -> Iterator[Block]:
    yield Text(text=footprint.note, style="muted")


def _trials(report: Report) -> Iterator[Part]:
    many = len(report.audit.slots) > _MOST_SLOTS
    yield Part("outcomes", partial(_counts if many else _outcomes, report))
    yield Part("what is not valid", lambda: filled(tables.audit(report)))
    yield Part("what was left out", lambda: filled(tables.left_out(report)))


def _outcomes(report: Report) -> Iterator[Block]:
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


def _counts(report: Report) -> Iterator[Block]:
    """A row for each cell in place of a field for each trial."""
    grid = tables.outcomes(report)
    yield Fold(title=f"Outcomes of {len(report.audit.slots):,} trials, cell by cell", grids=(grid,))


def _slot(slot: Slot | None) -> Field:
    if slot is None:
        return EMPTY
    spoken = f"{slot.outcome}: {slot.reason}" if slot.reason else slot.outcome
    return Field(MARKS[slot.outcome], slot.outcome, spoken)


def _generated(report: Report, generated: Sequence[Generated]) -> Iterator[Part]:
    yield Part("agreement", lambda: filled(tables.agreement(report)))
    if generated:
        yield Part("samples", partial(_samples, generated))


def _samples(generated: Sequence[Generated]) -> Iterator[Block]:
    """Each text once, under the cells that generated it."""
    yield Text(
        text="What one valid trial per cell generated for the first prompt, and for the first"
        " prompt for which any cell's tokens differ from the reference engine's, unedited.",
        style="muted",
    )
    writers: dict[tuple[str, str, str, int | None], list[str]] = {}
    for sample in generated:
        key = (sample.task_id, sample.completion, sample.verdict, sample.differs_at)
        writers.setdefault(key, []).append(sample.label)
    for (task, completion, verdict, differs_at), labels in writers.items():
        differs = ""
        if differs_at is not None:
            differs = f"differs from the reference from token {differs_at} on"
        marks = "; ".join(filter(None, (verdict, differs)))
        title = f"{task}: {', '.join(labels)}"
        yield Code(title=f"{title} ({marks})" if marks else title, text=completion)


def _methods(report: Report) -> Iterator[Part]:
    yield Part("paragraphs", lambda: [Text(text=paragraph) for paragraph in report.methods])
    if report.notes:
        yield Part("notes", lambda: [Heading(text="Notes"), Bullets(lines=report.notes)])
    yield Part("versions", lambda: [Fold(title="Versions", grids=(tables.versions(report),))])
