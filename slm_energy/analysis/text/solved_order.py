"""How the order of configurations changes when the work is a solved task and not a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.solved import CellSolved, Quality, SolvedPair, quality_verdict
from slm_energy.analysis.result.verdict import Verdict, mirrored
from slm_energy.analysis.text.phrases import amount, number
from slm_energy.analysis.text.solved_phrases import count, quality, row_of, same_kind


def other_order(report: Report, metric: Metric, family: str, cells: Sequence[str]) -> Iterator[str]:
    """What is cheaper by the metric that decides and dearer per solved task.

    Args:
        report: has both.
        metric: joules per solved task.
        family: name of the family.
        cells: those that compete, the cheapest per solved task first.
    """
    for result in report.deciding:
        ranked = [
            cell for f in result.families if f.name == family for cell in f.ranked if cell in cells
        ]
        if not (same_kind(result, metric) and ranked and ranked[0] != cells[0]):
            continue
        best, other = (row_of(report, metric, cell) for cell in (cells[0], ranked[0]))
        means = {row.cell: row.mean for row in result.descriptive}
        if best is None or other is None or best.cell not in means:
            continue
        assert best.per_solved_j is not None
        assert other.per_solved_j is not None
        per = result.metric.title.partition(" per ")[2]
        yield (
            f"Per {per} the order is different: {report.labels[other.cell]} costs less "
            f"({number(means[other.cell] * result.metric.scale)} against "
            f"{amount(result.metric, means[best.cell])}"
            f"{_deciding_verdict(result, other.cell, best.cell)}), but more per solved task "
            f"({number(other.per_solved_j)} against {amount(metric, best.per_solved_j)}"
            f"{_solved_verdict(report, metric, other.cell, best.cell)}); it solves "
            f"{count(other.solved)} of {other.scored} tasks, {report.labels[best.cell]} "
            f"{count(best.solved)}."
        )


def _deciding_verdict(result: MetricResult, a: str, b: str) -> str:
    for family in result.families:
        for pair in family.pairs:
            if {pair.a, pair.b} == {a, b}:
                return _named(pair.verdict, pair.a == a, result.metric.higher_is_better)
    return ""


def _solved_verdict(report: Report, metric: Metric, a: str, b: str) -> str:
    for solved in report.solved:
        for family in solved.families:
            for pair in family.pairs:
                if solved.metric == metric and {pair.a, pair.b} == {a, b}:
                    return _named(pair.verdict, pair.a == a, higher_is_better=False)
    return ""


def _named(verdict: Verdict, first: bool, higher_is_better: bool) -> str:
    return f": {verdict if first else mirrored(verdict, higher_is_better)}"


def fewer(report: Report, metric: Metric, own: CellSolved, most: CellSolved) -> str:
    """That a configuration solves fewer tasks than another one, and the verdict about it."""
    verdict = next(
        (
            quality(report, _about(report, pair, own.cell))
            for solved in report.solved
            if solved.metric == metric
            for family in solved.families
            for pair in family.pairs
            if {pair.a, pair.b} == {own.cell, most.cell}
        ),
        "not compared",
    )
    return (
        f"It solves fewer tasks than {report.labels[most.cell]} ({count(own.solved)} against "
        f"{count(most.solved)} of {own.scored}); its pass rate is {verdict}."
    )


def _about(report: Report, pair: SolvedPair, cell: str) -> Quality:
    """The verdict about the pass rate of one of a pair's cells against the other's."""
    if pair.a == cell:
        return pair.quality
    low, high = pair.difference_range.low, pair.difference_range.high
    if low is None or high is None:
        return "inconclusive"
    options = report.options
    return quality_verdict(-high, -low, pair.p <= options.alpha, options.margin_points / 100)
