"""How figures about solved tasks are worded everywhere.

Intervals have two readings, and each says which it is: for these tasks (energy varies, the tasks
are given), and for tasks like these (the tasks are a sample too).
"""

from __future__ import annotations

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.solved import CellSolved, Quality
from slm_energy.analysis.text.phrases import amount, between, confidence, share

THESE, LIKE = "for these tasks", "for tasks like these"


def is_per_solved(metric: Metric) -> bool:
    """Whether it is joules per solved task, whose intervals are for tasks like these."""
    return metric.quantity == "energy/per_solved_j"


def row_of(report: Report, metric: Metric, cell: str) -> CellSolved | None:
    """A cell's row in the result about this metric; None where there is none."""
    rows = (row for solved in report.solved if solved.metric == metric for row in solved.cells)
    return next((row for row in rows if row.cell == cell), None)


def facts(report: Report, metric: Metric, row: CellSolved) -> str:
    """What a working answer of a cell costs, tasks it solves, and its joules per output token."""
    parts = [f"no {metric.title}: {row.reason}", tasks(row)]
    if row.per_solved_j is not None:
        spans = [
            f"{between(metric, interval.low, interval.high)} {name}"
            for interval, name in ((row.these, THESE), (row.like, LIKE))
            if interval is not None and interval.low is not None and interval.high is not None
        ]
        span = f"{confidence(report)} interval {', '.join(spans)}" if spans else ""
        notes = "; ".join(filter(None, ("estimated" * metric.estimated, span)))
        parts[0] = amount(metric, row.per_solved_j) + (f" ({notes})" if notes else "")
    beside = per_token(report, metric, row.cell)
    return ", ".join([*parts, *([beside] if beside else [])])


def per_token(report: Report, metric: Metric, cell: str) -> str:
    """Joules per output token of a cell, of the kind of `metric`; empty where they are unknown."""
    for result in report.metrics:
        if result.metric.quantity == "energy/per_output_token_j" and same_kind(result, metric):
            for row in result.descriptive:
                if row.cell == cell:
                    return amount(result.metric, row.mean)
    return ""


def same_kind(result: MetricResult, metric: Metric) -> bool:
    """Whether a result is about the same kind of energy."""
    return result.metric.name.partition("/")[0] == metric.name.partition("/")[0]


def tasks(row: CellSolved) -> str:
    """Tasks that a cell solves, of those that could be scored."""
    return f"{count(row.solved)} of {row.scored} tasks solved"


def count(solved: float) -> str:
    """Tasks solved; a decimal only where rounds differ."""
    return f"{solved:.0f}" if solved == round(solved) else f"{solved:.1f}"


def pass_rate(report: Report, row: CellSolved) -> str:
    """The pass rate with its interval, named."""
    low, high = row.rate_range.low, row.rate_range.high
    if low is None or high is None:
        return f"pass rate {share(row.rate)} %"
    return (
        f"pass rate {share(row.rate)} % ({confidence(report)} interval {share(low)} to "
        f"{share(high)} % {LIKE})"
    )


def points(difference: float, *, signed: bool = False) -> str:
    """A difference of two shares in percentage points, without the word."""
    text = f"{100 * difference:{'+' * signed}.1f}"
    return "0.0" if float(text) == 0 else text


def quality(report: Report, verdict: Quality) -> str:
    """A verdict about a pass rate, with its margin."""
    margin = f"{report.options.margin_points:g} points"
    return {
        "better": "better",
        "not worse": f"not worse by more than {margin}",
        "worse": f"worse by more than {margin}",
        "inconclusive": f"inconclusive at a margin of {margin}",
    }[verdict]
