"""The sentences about generated code that works, and what a working answer costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import (
    CellSolved,
    Range,
    Solved,
    SolvedFamily,
    SolvedPair,
)
from slm_energy.analysis.result.verdict import SEPARATES
from slm_energy.analysis.text.phrases import (
    changes,
    confidence,
    joined,
    kind,
    measured,
    number,
    p_is,
    share,
    simultaneous,
    than,
)
from slm_energy.analysis.text.solved_phrases import LIKE, facts, pass_rate, points, quality, tasks


def findings(report: Report) -> tuple[str, ...]:
    """What a working answer costs in the best cell of each family, and how others compare."""
    lines: list[str] = []
    for solved in report.solved:
        for family in solved.families:
            lines += _family(report, solved, family)
    return tuple(lines)


def _family(report: Report, solved: Solved, family: SolvedFamily) -> Iterator[str]:
    rows = {row.cell: row for row in solved.cells}
    ranked = [rows[cell] for cell in family.ranked]
    if all(row.solved == 0 for row in ranked):
        yield _none_solved(solved, family, ranked, confidence(report))
        return
    metric, best = solved.metric, ranked[0]
    if metric is None:
        yield f"{report.labels[best.cell]}: {tasks(best)}, {pass_rate(report, best)}."
    else:
        yield _cost(report, metric, best)
    for pair in stated(family):
        yield from _pair(report, solved, family, pair)


def of_best(report: Report, solved: Solved, family: SolvedFamily) -> tuple[str, ...]:
    """What a recommendation states as well: the best cell, alone and against the next."""
    metric, first, *others = solved.metric, *family.ranked
    if metric is None:
        return ()
    costs = [_cost(report, metric, row) for row in solved.cells if row.cell == first]
    next_best = [p for p in stated(family) if p.b in others[:1] and p.ratio_range is not None]
    return (*costs, *(_energy(report, metric, family, pair) for pair in next_best))


def _cost(report: Report, metric: Metric, row: CellSolved) -> str:
    return f"{report.labels[row.cell]}: {facts(report, metric, row)}.{measured(report, metric)}"


def stated(family: SolvedFamily) -> tuple[SolvedPair, ...]:
    """The pairs that findings state: the best cell against the next and against the last."""
    first = family.ranked[0]
    others = dict.fromkeys([*family.ranked[1:2], *family.ranked[-1:]])
    known = {frozenset((pair.a, pair.b)): pair for pair in family.pairs}
    found = (known.get(frozenset((first, other))) for other in others if other != first)
    return tuple(pair for pair in found if pair is not None)


def _none_solved(
    solved: Solved, family: SolvedFamily, rows: Sequence[CellSolved], level: str
) -> str:
    of = f" of {family.name}" if family.name else ""
    limits = [row.rate_range.high for row in rows if row.rate_range.high is not None]
    limit = ""
    if limits:
        limit = f"; their pass rates are at most {share(max(limits))} % ({level} interval, {LIKE})"
    return (
        f"No configuration{of} solves any of {solved.tasks} tasks, so that joules per solved task "
        f"are undefined{limit}."
    )


def _pair(report: Report, solved: Solved, family: SolvedFamily, pair: SolvedPair) -> Iterator[str]:
    if solved.metric is not None:
        yield _energy(report, solved.metric, family, pair)
    a, b = report.labels[pair.a], report.labels[pair.b]
    if pair.identical:
        yield f"{a} and {b} gave the same answers to all tasks: their pass rates are equal."
        return
    difference = points(pair.difference, signed=True)
    name = f"{simultaneous(report, family)} interval"
    yield (
        f"Pass rate of {a} against {b}: {difference} points"
        f"{_span(name, pair.difference_range)}, {quality(report, pair.quality)}; both solve "
        f"{pair.both} tasks, only {a} {pair.only_a}, only {b} {pair.only_b}, neither "
        f"{pair.neither} (McNemar, adjusted {p_is(pair.p)})."
    )


def _span(name: str, interval: Range) -> str:
    if interval.low is None or interval.high is None:
        return ""
    ends = f"{points(interval.low, signed=True)} to {points(interval.high, signed=True)}"
    return f" ({name} {ends} {LIKE})"


def _energy(report: Report, metric: Metric, family: SolvedFamily, pair: SolvedPair) -> str:
    """One pair's joules per solved task."""
    a, b = report.labels[pair.a], report.labels[pair.b]
    what = f"{metric.title}{kind(metric)}"
    if pair.ratio is None:
        return f"{a} against {b}, {what}: {pair.reason}."
    name = f"{simultaneous(report, family)} interval"
    interval = pair.ratio_range
    if interval is None or interval.low is None or interval.high is None:
        return f"{a} against {b}, {what}: ratio {number(pair.ratio)}, no verdict: {pair.reason}."
    if pair.verdict in SEPARATES:
        return (
            f"{a} {than(metric, pair.ratio, b)}, {name} "
            f"{changes(interval.low, interval.high)} {LIKE}."
        )
    ends = f"{number(interval.low)} to {number(interval.high)}"
    if pair.verdict == "equivalent":
        margin = f"{100 * report.options.margin:g} %"
        return (
            f"{a} and {b} are equivalent in {what}: ratio {number(pair.ratio)}, {name} {ends} "
            f"{LIKE}, within the margin of {margin}."
        )
    why = f"; {pair.reason}" if pair.reason else ""
    return (
        f"{a} against {b}, {what}: {pair.verdict}, ratio {number(pair.ratio)}, {name} {ends} "
        f"{LIKE}{why}."
    )


def notes(report: Report) -> tuple[str, ...]:
    """Why nothing is scored or compared, and tasks whose verdict varies or is missing."""
    lines = [f"Answers are not scored: {report.unscored}."] if report.unscored else []
    for solved in report.solved:
        where = f"Joules per solved task{kind(solved.metric) if solved.metric else ''}"
        if solved.reason:
            lines.append(f"{where} are not compared: {solved.reason}.")
        varying = [
            f"{report.labels[row.cell]} ({row.varying})" for row in solved.cells if row.varying
        ]
        if varying:
            lines.append(
                f"Tasks that are solved in some rounds and not in others: {joined(varying)}."
            )
        reasons = dict.fromkeys(row.reason for row in solved.cells if row.reason)
        for reason in reasons:
            names = [report.labels[row.cell] for row in solved.cells if row.reason == reason]
            lines.append(f"{where} of {joined(names)}: {reason}.")
    return tuple(dict.fromkeys(lines))
