"""The figure of joules per solved task: each cell with both of its intervals."""

from __future__ import annotations

from slm_energy.analysis.render.figures import MARKED, draw_axis, draw_name, value_axis
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import CellSolved, Range
from slm_energy.analysis.text.phrases import number, shown, titled
from slm_energy.analysis.text.solved_phrases import LIKE, THESE, count
from slm_energy.svg import WIDTH, Picture


def to_svg(report: Report, metric: Metric, rows: tuple[CellSolved, ...]) -> str:
    """Diamond: joules per solved task; bar: for these tasks; thin line: for tasks like these.

    Args:
        report: names the cells.
        metric: joules per solved task.
        rows: those that have a value, at least one.
    """
    values = [
        end for row in rows for end in (row.per_solved_j, *_ends(row.these), *_ends(row.like))
    ]
    known = [value for value in values if value is not None and value > 0]
    axis = value_axis(known)
    height = len(rows) * MARKED + 56
    words = "; ".join(
        f"{report.labels[row.cell]} {number(row.per_solved_j)} J, {count(row.solved)} of "
        f"{row.scored} tasks"
        for row in rows
        if row.per_solved_j is not None
    )
    title = f"{metric.heading}, intervals {THESE} and {LIKE}{titled(report, metric)}"
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    draw_axis(picture, axis, height - 40, metric.heading, metric.unit)
    for position, row in enumerate(rows):
        solved = f"{count(row.solved)} of {row.scored} solved"
        if row.per_solved_j is not None:
            solved = f"{shown(metric, row.per_solved_j)}, {solved}"
        y = draw_name(picture, report.short_label(row.cell), 4 + position * MARKED, solved)
        if (low := _positive(row.like, 0)) and (high := _positive(row.like, 1)):
            picture.line(axis(low), y, axis(high), y, "thin")
        if (low := _positive(row.these, 0)) and (high := _positive(row.these, 1)):
            picture.span(axis(low), axis(high), y)
        if row.per_solved_j is not None:
            picture.diamond(axis(row.per_solved_j), y, "mean")
    return picture.svg()


def _ends(interval: Range | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _positive(interval: Range | None, end: int) -> float | None:
    """An end that can be drawn on either kind of axis."""
    value = _ends(interval)[end]
    return value if value is not None and value > 0 else None
