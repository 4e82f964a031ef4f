"""A report as Markdown: the tables of the terminal."""

from __future__ import annotations

from slm_energy.analysis.render.summary_tables import grids
from slm_energy.analysis.render.tables import Grid, heading
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.sections import Sections
from slm_energy.analysis.text.recommendation import opening, unsaid
from slm_energy.escape import markdown


def to_markdown(report: Report, makes: Sections | None = None) -> str:
    """Write as Markdown; `makes` makes its tables, and keeps what failed."""
    lines = [f"# {markdown(heading(report))}", ""]
    lines += opening_lines(report)
    for line in unsaid(report):
        lines += [f"**{markdown(line)}**", ""]
    if report.shared:
        lines += ["All cells: " + markdown(", ".join(report.shared)) + ".", ""]
    if report.scope:
        lines += [f"Measured: {markdown(report.scope)}.", ""]
    for grid in grids(report, makes):
        lines += [*table_lines(grid), ""]
    lines += ["## Notes", "", *(f"- {markdown(line)}" for line in report.all_notes), ""]
    return "\n".join(lines)


def opening_lines(report: Report) -> list[str]:
    """What to use, for the top: MLflow folds the rest of a description."""
    lines = []
    for sentences in opening(report):
        first, *rest = map(markdown, sentences)
        lines += [" ".join([f"**{first}**", *rest]), ""]
    return lines


def table_lines(grid: Grid) -> list[str]:
    """A table under its title, line by line."""
    marks = (":--" if grid.left_aligned(column) else "--:" for column in range(len(grid.head)))
    lines = [f"## {markdown(grid.title)}", ""]
    lines.append("| " + " | ".join(markdown(name) for name in grid.head) + " |")
    lines.append("| " + " | ".join(marks) + " |")
    for i, row in enumerate(grid.rows):
        texts = [markdown(cell) for cell in row]
        texts = [f"**{t}**" if (i, j) in grid.bold else t for j, t in enumerate(texts)]
        lines.append("| " + " | ".join(texts) + " |")
    return lines
