"""A report as text: the same plain tables for the terminal and for Markdown."""

from __future__ import annotations

import typing

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slm_energy.analysis.render.brief import grids
from slm_energy.analysis.render.escape import markdown, visible
from slm_energy.analysis.render.tables import Grid, counts

if typing.TYPE_CHECKING:
    from slm_energy.analysis.result.report import Report

WIDTH = 100
_FEWEST = 20
"""With fewer characters for a cell's name the figures are wrapped as well."""


def to_terminal(report: Report, console: Console) -> None:
    """Print with rich; text from runs is never read as markup."""
    width = min(console.width, WIDTH)
    console.print(_safe(_title(report), style="bold"), width=width)
    if report.shared:
        console.print(_safe("all cells: " + ", ".join(report.shared), style="dim"), width=width)
    for grid in grids(report):
        show(grid, console)
    for line in report.findings:
        console.print(_safe(line, style="bold"), width=width)
    console.print()
    for line in report.notes:
        console.print(Padding(_safe(line, style="dim"), (0, 0, 0, 2)), width=width)


def show(grid: Grid, console: Console) -> None:
    """Print one table under its title."""
    width = min(console.width, WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    roomy = sum(grid.widths()[1:]) + _FEWEST <= width
    for column, name in enumerate(grid.head):
        left = grid.left(column)
        table.add_column(
            _safe(name),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left and roomy,
        )
    for i, row in enumerate(grid.rows):
        styles = ["bold" if (i, j) in grid.bold else "" for j in range(len(row))]
        table.add_row(*(_safe(cell, style=s) for cell, s in zip(row, styles, strict=True)))
    console.print()
    console.print(_safe(grid.title, style="bold"), width=width)
    console.print(table, width=width)


def to_markdown(report: Report) -> str:
    """Write as Markdown."""
    lines = [f"# {markdown(_title(report))}", ""]
    if report.shared:
        lines += ["All cells: " + markdown(", ".join(report.shared)) + ".", ""]
    for line in report.findings:
        lines += [f"**{markdown(line)}**", ""]
    for grid in grids(report):
        lines += [f"## {markdown(grid.title)}", ""]
        lines.append("| " + " | ".join(markdown(name) for name in grid.head) + " |")
        marks = (":--" if grid.left(column) else "--:" for column in range(len(grid.head)))
        lines.append("| " + " | ".join(marks) + " |")
        for i, row in enumerate(grid.rows):
            texts = [markdown(cell) for cell in row]
            texts = [f"**{t}**" if (i, j) in grid.bold else t for j, t in enumerate(texts)]
            lines.append("| " + " | ".join(texts) + " |")
        lines.append("")
    lines += ["## Notes", "", *(f"- {markdown(line)}" for line in report.notes), ""]
    return "\n".join(lines)


def _title(report: Report) -> str:
    return f"{report.study} on {report.machine}: {counts(report)}"


def _safe(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)
