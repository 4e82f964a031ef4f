"""Tables for a paper: booktabs, one file per metric, nothing to edit by hand.

Needs the package booktabs; a table of more than 40 rows, or of sentences, needs longtable as well.
All text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from slm_energy.analysis.render import tables
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.escape import latex

_MOST_ON_A_PAGE = 40
_BESIDE_THE_POINT = ("Ratio with instruments", tables.MARGINAL, "A12", "Smallest to largest")
"""Columns that a page of paper has no room for; report.html has them."""


def descriptive(report: Report, result: MetricResult) -> str:
    """What each cell costs."""
    return table(tables.descriptive(report, result), f"{_slug(result)}-cells")


def pairs(report: Report, result: MetricResult) -> str:
    """The comparison, one table per family; empty where nothing is compared."""
    return "\n".join(
        table(
            tables.pairs(report, result.metric, family),
            f"{_slug(result)}-pairs-{number}",
        )
        for number, family in enumerate(result.families, start=1)
        if family.pairs
    )


def table(grid: Grid, label: str) -> str:
    """One table; empty without rows."""
    if not grid.rows:
        return ""
    grid = grid.without(*_BESIDE_THE_POINT)
    columns = "".join(_columns(grid))
    head = _row(grid.head)
    body = [_row(row) for row in grid.rows]
    caption = rf"\caption{{{latex(grid.title)}}}\label{{tab:{label}}}"
    if len(body) > _MOST_ON_A_PAGE or "p" in columns:
        lines = [
            rf"{{\footnotesize\begin{{longtable}}{{{columns}}}",
            rf"{caption}\\",
            r"\toprule", head, r"\midrule\endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}}",
        ]  # fmt: skip
    else:
        lines = [
            r"\begin{table}",
            r"\centering\footnotesize",
            caption,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule", head, r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]  # fmt: skip
    return "\n".join([*lines, ""])


def _columns(grid: Grid) -> Iterator[str]:
    """Alignment of each column; those of sentences share seven tenths of a line."""
    roots = {
        i: max(len(row[i]) for row in grid.rows) ** 0.5
        for i in range(len(grid.head))
        if grid.wraps(i)
    }
    for i in range(len(grid.head)):
        if i in roots:
            yield rf"p{{{0.7 * roots[i] / sum(roots.values()):.2f}\linewidth}}"
        else:
            yield "l" if grid.left_aligned(i) else "r"


def _row(texts: tuple[str, ...]) -> str:
    return " & ".join(map(_cell, texts)) + r" \\"


def _cell(text: str) -> str:
    """A dash for what is unknown, a minus before a negative number, else the text."""
    if text == "-":
        return "--"
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", latex(text))


def _slug(result: MetricResult) -> str:
    return result.metric.name.replace("/", "-").replace("_", "-")
