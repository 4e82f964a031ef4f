"""A report on the terminal, as plain tables; fits in 100 columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slm_energy.analysis.render.summary_tables import grids
from slm_energy.analysis.render.tables import Grid, heading
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.recommendation import opening, unsaid
from slm_energy.escape import visible, visible_line

WIDTH = 100
_MOST_ROWS, _MOST_NOTES = 40, 20
"""A terminal shows no longer table, and no more notes: its lines would scroll the answer away."""
_FEWEST = 20
"""With fewer characters for a cell's name the figures are wrapped as well."""


def to_terminal(report: Report, console: Console) -> None:
    """Print with rich; text from runs is never read as markup."""
    width = min(console.width, WIDTH)
    console.print(_safe(heading(report), style="bold"), width=width)
    if report.shared:
        console.print(_safe("all cells: " + ", ".join(report.shared), style="dim"), width=width)
    if report.scope:
        console.print(_safe(f"measured: {report.scope}", style="dim"), width=width)
    for sentences in opening(report):
        print_sentences(sentences, console)
    for grid in grids(report):
        if len(grid.rows) > _MOST_ROWS:
            grid = dataclasses.replace(
                grid, rows=(), title=f"{grid.title}: {len(grid.rows)} rows, in report.html"
            )
        print_grid(grid, console)
    for line in unsaid(report):
        console.print(_safe(line, style="bold"), width=width)
    console.print()
    notes = report.all_notes
    rest = len(notes) - _MOST_NOTES
    more = (f"{rest} more notes are in report.html.",) if rest > 0 else ()
    for line in (*notes[:_MOST_NOTES], *more):
        console.print(Padding(_safe(line, style="dim"), (0, 0, 0, 2)), width=width)


def print_line(text: str, console: Console) -> None:
    """Print one sentence that stands out."""
    console.print(_safe(text, style="bold"), width=min(console.width, WIDTH))


def print_sentences(sentences: Sequence[str], console: Console) -> None:
    """Print what belongs together; the first sentence stands out."""
    width = min(console.width, WIDTH)
    first, *rest = sentences
    console.print()
    console.print(_safe(first, style="bold"), width=width)
    for sentence in rest:
        console.print(Padding(_safe(sentence), (0, 0, 0, 2)), width=width)


def print_grid(grid: Grid, console: Console) -> None:
    """Print one table under its title."""
    width = min(console.width, WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    roomy = sum(grid.widths()[1:]) + _FEWEST <= width
    for column, name in enumerate(grid.head):
        left = grid.left_aligned(column)
        table.add_column(
            Text(visible(name)),  # of several lines
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left and roomy,
        )
    for i, row in enumerate(grid.rows):
        styles = ["bold" if (i, j) in grid.bold else "" for j in range(len(row))]
        table.add_row(*(_safe(cell, style=s) for cell, s in zip(row, styles, strict=True)))
    console.print()
    console.print(_safe(grid.title, style="bold"), width=width)
    if grid.rows:
        console.print(table, width=width)


def _safe(text: str, style: str = "") -> Text:
    """One line of text that rich never reads as markup."""
    return Text(visible_line(text), style=style)
