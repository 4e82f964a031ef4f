"""The sections of a report's page about the recommendation and about solved tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from slm_energy.analysis.render import (
    answer_table,
    page_metric,
    solved_figure,
    solved_tables,
    summary_tables,
)
from slm_energy.analysis.render.page_blocks import (
    Block,
    Figure,
    Heading,
    Part,
    Text,
    filled,
    folded,
)
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import Solved, SolvedFamily
from slm_energy.analysis.sections import of_family
from slm_energy.analysis.text.phrases import confidence, titled
from slm_energy.analysis.text.recommendation import opening
from slm_energy.analysis.text.solved_phrases import LIKE, THESE

_MOST_OPEN = 12
"""Pairs that a table shows without being opened."""


def answer(report: Report) -> Iterator[Part]:
    """What opens the page: what to use, all cells in a figure, and in a table with verdicts."""
    for number, sentences in enumerate(opening(report), start=1):
        yield Part(f"answer {number}", partial(_recommended, sentences))
    yield Part("machines", lambda: filled(summary_tables.across(report)))
    yield Part("the cheapest", lambda: filled(summary_tables.choices(report)))
    for result in report.deciding:
        if result.descriptive:
            name = of_family(result.metric.heading)
            yield Part(f"every trial{name}", partial(page_metric.strip, report, result))
    yield Part("cells", lambda: folded(answer_table.answer(report)))


def _recommended(sentences: Sequence[str]) -> Iterator[Block]:
    first, *rest = sentences
    yield Text(text=first, style="recommended")
    yield from (Text(text=sentence, style="because") for sentence in rest)


def solved(report: Report) -> Iterator[Part]:
    """Tasks solved, what one costs, pair by pair, and how the other answers failed."""
    for result in report.solved:
        kind = of_family("" if result.metric is None else result.metric.heading)
        yield Part(f"cells{kind}", partial(_cells, report, result))
        for family in result.families:
            name = f"pairs{kind}{of_family(family.name)}"
            yield Part(name, partial(_pairs, report, result, family))
    yield Part("verdicts", lambda: filled(solved_tables.verdicts(report)))


def _cells(report: Report, result: Solved) -> Iterator[Block]:
    if result.metric is not None:
        yield from _figure(report, result, result.metric)
    yield from filled(solved_tables.cells(report, result))


def _figure(report: Report, result: Solved, metric: Metric) -> Iterator[Block]:
    rows = tuple(row for row in result.cells if row.per_solved_j is not None)
    if rows:
        yield Figure(
            svg=solved_figure.to_svg(report, metric, rows),
            caption=f"{metric.heading}: bar, {confidence(report)} interval {THESE} (energy"
            f" varies); thin line, {LIKE} (energy and tasks vary){titled(report, metric)}",
        )


def _pairs(report: Report, result: Solved, family: SolvedFamily) -> Iterator[Block]:
    grid = solved_tables.pairs(report, result, family)
    if not grid.rows:
        return
    if family.name:
        yield Heading(text=family.name)
    yield from folded(grid, _MOST_OPEN, "Pair by pair")
