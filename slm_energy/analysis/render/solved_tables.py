"""The tables about solved tasks and the recommendation, for every kind of output."""

from __future__ import annotations

import typing

from slm_energy.analysis.render.tables import Grid, ratio
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.recommendation import Candidate, Recommendation
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import CellSolved, Range, Solved, SolvedFamily, SolvedPair
from slm_energy.analysis.text.phrases import (
    between,
    confidence,
    kind,
    number,
    p_value,
    share,
    shown,
    simultaneous,
    simultaneous_for,
    titled,
)
from slm_energy.analysis.text.solved_phrases import LIKE, count, points
from slm_energy.record import Verdict

_QUALITY = "Pass rate"


def cells(report: Report, solved: Solved) -> Grid:
    """One row per cell: tasks solved, pass rate, joules per solved task with both intervals."""
    rows = [
        (
            report.labels[row.cell],
            f"{count(row.solved)}/{row.scored}",
            _rate(row),
            _joules(solved, row),
            _span(solved.metric, row.these),
            _span(solved.metric, row.like),
            str(row.varying) if row.varying else "-",
        )
        for row in solved.cells
    ]
    head = (
        "Cell",
        "Solved",
        "Pass rate\n%",
        "J per\nsolved task",
        "For these\ntasks, J",
        "For tasks\nlike these, J",
        "Vary",
    )
    grid = Grid(title=_title(report, solved), head=head, rows=tuple(rows))
    return grid.without_empty() if rows else grid


def _title(report: Report, solved: Solved) -> str:
    metric, level = solved.metric, confidence(report)
    if metric is None:
        return f"Solved tasks, {level} intervals {LIKE}"
    return (
        f"Solved tasks and {metric.title}{kind(metric)}, {level} intervals, that of the pass rate "
        f"{LIKE}{titled(report, metric)}"
    )


def _rate(row: CellSolved) -> str:
    low, high = row.rate_range.low, row.rate_range.high
    if low is None or high is None:
        return share(row.rate)
    return f"{share(row.rate)} ({share(low)} to {share(high)})"


def _joules(solved: Solved, row: CellSolved) -> str:
    return "-" if row.per_solved_j is None else number(row.per_solved_j)


def _span(metric: Metric | None, interval: Range | None) -> str:
    if metric is None or interval is None or interval.low is None or interval.high is None:
        return "-"
    return between(metric, interval.low, interval.high)


def pairs(report: Report, solved: Solved, family: SolvedFamily) -> Grid:
    """Every pair of a family: joules per solved task, and the same tasks counted both ways."""
    adjusted = any(pair.p != pair.mcnemar_p for pair in family.pairs)
    rows = tuple(
        (
            report.labels[pair.a],
            report.labels[pair.b],
            _verdict(pair),
            _ratio(pair),
            _points(pair),
            pair.quality,
            str(pair.both),
            str(pair.only_a),
            str(pair.only_b),
            str(pair.neither),
            p_value(pair.mcnemar_p),
            *([p_value(pair.p)] if adjusted else []),
        )
        for pair in family.pairs
    )
    head = (
        "Cell",
        "Against",
        "Verdict",
        "Ratio",
        "Pass rate, points",
        _QUALITY,
        "Both",
        "Only cell",
        "Only other",
        "Neither",
        "McNemar p",
        *(["p, adjusted"] if adjusted else []),
    )
    title = f"{_pairs_title(report, solved, family)}; tasks that both, one or neither solve"
    grid = Grid(title=title, head=head, rows=rows)
    return grid.without_empty() if rows else grid


def short_pairs(report: Report, solved: Solved, family: SolvedFamily) -> Grid:
    """The pairs with the best cell, in the columns that a terminal has room for."""
    best = family.ranked[0]
    rows = tuple(
        (
            report.labels[pair.b],
            _ratio(pair),
            _verdict(pair),
            _points(pair),
            pair.quality,
            p_value(pair.p),
        )
        for pair in family.pairs
        if pair.a == best
    )
    head = ("Against", "Ratio", "Verdict", "Pass rate, points", _QUALITY, "McNemar p")
    title = _pairs_title(report, solved, family)
    return Grid(title=f"{title}: {report.labels[best]} against", head=head, rows=rows)


def _pairs_title(report: Report, solved: Solved, family: SolvedFamily) -> str:
    name = f", {family.name}" if family.name else ""
    what = "Pass rate" if solved.metric is None else solved.metric.heading
    return (
        f"{what}{name}, pair by pair, {simultaneous(report, family)} intervals {LIKE}; margin of"
        f" the pass rate {report.options.margin_points:g} points"
    )


def _verdict(pair: SolvedPair) -> str:
    return "-" if pair.ratio is None else pair.verdict


def _ratio(pair: SolvedPair) -> str:
    interval = pair.ratio_range
    if interval is None:
        return ratio(pair.ratio, None, None)
    return ratio(pair.ratio, interval.low, interval.high)


def _points(pair: SolvedPair) -> str:
    low, high = pair.difference_range.low, pair.difference_range.high
    difference = points(pair.difference, signed=True)
    if low is None or high is None:
        return difference
    return f"{difference} ({points(low, signed=True)} to {points(high, signed=True)})"


def candidates(report: Report, made: Recommendation) -> Grid:
    """What was chosen from: each configuration with its cost, against the recommended one."""
    limits = [f"{c.metric.heading}, {c.metric.unit}".removesuffix(", ") for c in made.conditions]
    rows = tuple(
        (
            report.labels[candidate.cell],
            _cost(made, candidate),
            _against(candidate),
            _standing(made, candidate),
            *(
                "-" if seen.value is None else number(seen.value * limit.metric.scale)
                for limit, seen in zip(made.conditions, candidate.readings, strict=True)
            ),
        )
        for candidate in made.candidates
    )
    of = f" of {made.family}" if made.family else ""
    title = f"Configurations{of} by {made.metric.title}{kind(made.metric)}"
    if any(candidate.ratio is not None for candidate in made.candidates):
        title += (
            "; ratio of the recommended one to each with its"
            f" {simultaneous_for(report, made.pairs)} interval"
        )
    unit = f"{made.metric.heading.removesuffix(' (estimated)')}, {made.metric.unit}"
    head = ("Cell", unit.removesuffix(", "), "Ratio", "Verdict", *limits)
    return Grid(title=title, head=head, rows=rows).without_empty()


def _cost(made: Recommendation, candidate: Candidate) -> str:
    return "-" if candidate.cost is None else shown(made.metric, candidate.cost).split(" ")[0]


def _against(candidate: Candidate) -> str:
    return ratio(candidate.ratio, candidate.ratio_low, candidate.ratio_high)


def _standing(made: Recommendation, candidate: Candidate) -> str:
    if candidate.excluded:
        return "excluded"
    if candidate == made.candidates[0]:
        return "recommended"
    return candidate.stated


def verdicts(report: Report) -> Grid:
    """How the answers of each cell passed or failed, over all rounds."""
    kinds = dict.fromkeys(kind for row in report.answers for kind in row.counts)
    order = [kind for kind in typing.get_args(Verdict) if kind in kinds]
    rows = tuple(
        (report.labels[row.cell], str(row.trials), *(str(row.counts.get(k, 0)) for k in order))
        for row in report.answers
    )
    head = ("Cell", "Trials", *(f"{kind[:1].upper()}{kind[1:]}" for kind in order))
    return Grid(title="Answers by verdict, all valid trials", head=head, rows=rows)
