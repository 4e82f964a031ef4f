"""Part of a result: whether the generated code works, and what a working answer costs."""

from __future__ import annotations

import dataclasses
from typing import Literal

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.verdict import Verdict

Quality = Literal["better", "not worse", "worse", "inconclusive"]
"""About the pass rate of `a` against that of `b`. `not worse`: by no more than the margin
(non-inferior); `better` is more than that: the difference itself is above 0. `worse`: by more than
the margin."""


def quality_verdict(low: float, high: float, differs: bool, margin: float) -> Quality:
    """The verdict about a difference of pass rates; with (-high, -low) that of the other cell.

    Args:
        low: lower end of the simultaneous interval of the difference.
        high: upper end.
        differs: McNemar's adjusted test rejects equal pass rates.
        margin: the largest loss of pass rate that does not matter.
    """
    if low > 0 and differs:
        return "better"
    if high < -margin:
        return "worse"
    return "not worse" if low > -margin or low == high == 0 else "inconclusive"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """An interval; an end that does not exist, such as that of a ratio to nothing, is None."""

    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellSolved:
    """One cell.

    Attributes:
        cell: its id.
        solved: tasks solved, on average over its rounds: a whole number where all rounds agree.
        scored: tasks that were scored in every round.
        varying: tasks that are solved in some rounds and not in others.
        rate: solved / scored.
        rate_range: for tasks like these; where none is solved, its high end is the upper limit.
        per_solved_j: joules of all attempts, the geometric mean over rounds, over `solved`; None
            where no task is solved, or some task could not be scored.
        these: its interval for these tasks: over rounds, of energy and, where answers differ
            between rounds, of the number solved.
        like: its interval for tasks like these: over rounds and tasks.
        reason: why `per_solved_j` or an interval is None; else empty.
        attributed: whether energy is attributed to tasks by the time that each took; else all are
            taken to cost the same, and `like` is without their spread.
        instrument: the measurement's own interval of `per_solved_j`; its ends are None where
            unknown.
        with_gain: the one that also covers the gain of the sensors, for the absolute figure.
    """

    cell: str
    solved: float
    scored: int
    varying: int
    rate: float
    rate_range: Range
    per_solved_j: float | None = None
    these: Range | None = None
    like: Range | None = None
    reason: str = ""
    attributed: bool = False
    instrument: Range | None = None
    with_gain: Range | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SolvedPair:
    """Cell `a` against cell `b`, paired by task; `a` is the better ranked.

    Attributes:
        a: a cell id.
        b: another.
        both: tasks that both solve; where answers differ between rounds, equally often.
        only_a: tasks that only `a` solves, or more often.
        only_b: tasks that only `b` solves, or more often.
        neither: tasks that neither solves.
        mcnemar_p: exact p of equal pass rates, from `only_a` and `only_b`; for this pair alone.
        p: the same, adjusted for all pairs of the family (Holm).
        difference: pass rate of `a` less that of `b`.
        difference_range: simultaneous for all pairs of the family, for tasks like these.
        quality: the verdict about the pass rate.
        ratio: joules per solved task of `a` over those of `b`; None where one of them has none.
        ratio_range: simultaneous for all pairs of the family, for tasks like these.
        verdict: about joules per solved task, against the margin.
        reason: why a verdict or the ratio is missing; else empty.
        identical: both gave the same answers to all tasks, and are taken to do so for others: the
            difference is 0 and the ratio that of their energies, whichever tasks are chosen.
        wide_range: `ratio_range` with the instruments' own intervals added; None where unknown.
        instrument: factor by which the instruments could be off; see `Pair.instrument`.
    """

    a: str
    b: str
    both: int
    only_a: int
    only_b: int
    neither: int
    mcnemar_p: float
    p: float
    difference: float
    difference_range: Range
    quality: Quality
    ratio: float | None = None
    ratio_range: Range | None = None
    verdict: Verdict = "inconclusive"
    reason: str = ""
    identical: bool = False
    wide_range: Range | None = None
    instrument: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SolvedFamily:
    """Cells that are compared with each other.

    Attributes:
        name: of the family; empty where there is one.
        ranked: cells from the cheapest working answer to the dearest; those without one come last,
            the highest pass rate first.
        pairs: every pair of cells that answered the same tasks.
        reason: why some cells are not paired; else empty.
    """

    name: str
    ranked: tuple[str, ...]
    pairs: tuple[SolvedPair, ...]
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Solved:
    """Joules per solved task, of one kind of energy.

    Attributes:
        metric: `.../per_solved_j` of that kind; None where only pass rates are known.
        tasks: how many the workload has.
        cells: one row per cell, family by family, best first.
        families: the comparisons.
        reason: why there are no comparisons; else empty.
    """

    metric: Metric | None
    tasks: int
    cells: tuple[CellSolved, ...]
    families: tuple[SolvedFamily, ...]
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AnswerCounts:
    """How the answers of a cell passed or failed, over its valid trials.

    Attributes:
        cell: its id.
        trials: with scores.
        counts: verdict, such as `passed` or `timeout`, to the number of answers.
    """

    cell: str
    trials: int
    counts: dict[str, int]
