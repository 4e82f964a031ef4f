"""What a sweep's own run and its experiment show in MLflow: headline figures, and a description."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slm_energy.analysis.render.against import against_reference
from slm_energy.analysis.render.answer_table import answer
from slm_energy.analysis.render.markdown import opening_lines, table_lines
from slm_energy.analysis.render.summary_tables import choices
from slm_energy.analysis.render.tables import heading
from slm_energy.analysis.result.report import Report
from slm_energy.escape import markdown

PICTURE = "figures/answer.svg"
"""Every trial by the metric that decides, as wide as a description in MLflow."""
PICTURE_PX = 640

MOST = 5000
"""Characters that MLflow accepts in a tag of an experiment."""


def headline(report: Report) -> dict[str, float]:
    """Each cell's means and saving, as `METRIC/CELL` and `saving_pct/CELL`."""
    return {
        f"{name}/{_in_a_name(report.labels[cell])}": value for name, cell, value in _figures(report)
    }


def _figures(report: Report) -> Iterator[tuple[str, str, float]]:
    """Name, cell and value."""
    for result in report.metrics:
        yield from ((result.metric.name, row.cell, row.mean) for row in result.descriptive)
    for solved in report.solved:
        if solved.metric is not None:
            for row in solved.cells:
                if row.per_solved_j is not None:
                    yield solved.metric.name, row.cell, row.per_solved_j
    for result in report.deciding:
        for family in result.families:
            for other in against_reference(result.metric, family):
                if other.ratio is not None:
                    yield "saving_pct", other.cell, 100 * (1 - other.ratio)


def _in_a_name(label: str) -> str:
    """With the characters that MLflow allows in the name of a metric."""
    return re.sub(r"[^\w.\- :]", "-", label.replace(" / ", " "))[:100]


def description(report: Report, picture: str) -> str:
    """The answer, its figure and the table of cells, as far as a tag has room.

    Args:
        report: what it is about.
        picture: address of the figure; empty where there is none.
    """
    what = f"{heading(report)}; measured: {report.scope}" if report.scope else heading(report)
    lines = [*opening_lines(report), markdown(what), ""]
    lines += [f"![{markdown(report.study)}]({picture})", ""] if picture else []
    rest = f"report.html of the sweep's run has all {len(report.cells)} cells."
    few = choices(report)
    for line in table_lines(few if few.rows else answer(report)):
        if len("\n".join([*lines, line, rest])) > MOST - 100:
            return "\n".join([*lines, "", rest])
        lines.append(line)
    return "\n".join(lines)
