"""From the answers of a study to what a working one costs: `Report.solved`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from slm_energy.analysis.answered import Answered, valued
from slm_energy.analysis.resolve_design import Design, members
from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.solved import (
    CellSolved,
    Range,
    Solved,
    SolvedFamily,
    SolvedPair,
    quality_verdict,
)
from slm_energy.analysis.stats import pass_rate, per_solved
from slm_energy.analysis.stats.comparison import Rule, ranking
from slm_energy.analysis.stats.diagnostics import describe
from slm_energy.analysis.stats.effect_size import Floats
from slm_energy.analysis.stats.paired import compare
from slm_energy.analysis.trials.answers import CellAnswers


def solved(answered: Answered, design: Design) -> Solved:
    """Pass rates and joules per solved task, cell by cell and pair by pair."""
    options = design.options
    rule = design.rule()
    rows = {
        cell: _cell(cell, own, answered, options.alpha) for cell, own in answered.answers.items()
    }

    def rank(cell: str) -> tuple[bool, float, float]:
        row = rows[cell]
        return row.per_solved_j is None, row.per_solved_j or 0.0, -row.rate

    families = tuple(
        _family(name, cells, answered, rule, options.margin_points / 100)
        for name, cells in members(sorted(rows, key=rank), design).items()
    )
    several = any(len(family.ranked) > 1 for family in families)
    compared = any(family.pairs for family in families)
    why = "the cells did not answer the same tasks" if several else "no two cells to compare"
    return Solved(
        metric=answered.metric,
        tasks=max(len(own.tasks) + own.refused for own in answered.answers.values()),
        cells=tuple(rows[cell] for family in families for cell in family.ranked),
        families=families,
        reason="" if compared else why,
    )


def _cell(cell: str, own: CellAnswers, answered: Answered, alpha: float) -> CellSolved:
    """One cell without the others."""
    by_task = own.solved.mean(axis=0)
    tasks, count = len(own.tasks), float(by_task.sum())
    row = CellSolved(
        cell=cell,
        solved=count,
        scored=tasks,
        varying=int(((by_task > 0) & (by_task < 1)).sum()),
        rate=count / tasks,
        rate_range=_range(*pass_rate.rate_interval(by_task, alpha)),
        attributed=own.shares is not None,
    )
    figures = describe(answered.block, cell, alpha)
    if figures is None:
        return dataclasses.replace(row, reason=_no_figure(own))
    row = dataclasses.replace(
        row,
        per_solved_j=figures.mean,
        instrument=Range(low=figures.instrument_low, high=figures.instrument_high),
        with_gain=Range(low=figures.with_gain_low, high=figures.with_gain_high),
    )
    if figures.low is None or figures.high is None:
        few = "one round gives no interval"
        same = "energy is the same in every round, so its spread is unknown"
        return dataclasses.replace(row, reason=few if figures.trials < 2 else same)
    row = dataclasses.replace(row, these=_range(figures.low, figures.high))
    if tasks < 2:
        return dataclasses.replace(row, reason="one task gives no interval for tasks like it")
    log, half = math.log(figures.mean), math.log(figures.high / figures.mean)
    like = per_solved.like_interval(log, half, _shares(own), by_task, alpha)
    return dataclasses.replace(row, like=_range(*map(math.exp, like)))


def _no_figure(own: CellAnswers) -> str:
    """Why a cell has no joules per solved task."""
    if own.refused:
        return f"{own.refused} of {own.refused + len(own.tasks)} tasks could not be scored"
    return "no energy was recorded" if own.solved.any() else "no task is solved"


def _shares(own: CellAnswers) -> Floats:
    return np.ones(len(own.tasks)) if own.shares is None else own.shares


def _range(low: float, high: float) -> Range:
    return Range(low=float(low), high=float(high))


def _family(
    name: str, cells: Sequence[str], answered: Answered, rule: Rule, margin: float
) -> SolvedFamily:
    """Compare the cells that answered the same tasks."""
    same = dict[tuple[str, ...], list[str]]()
    for cell in cells:
        same.setdefault(answered.answers[cell].tasks, []).append(cell)
    groups = [_ranked(group, answered, rule) for group in same.values()]
    pairs = [pair for group in groups for pair in itertools.combinations(group, 2)]
    compared = sum(len(group) > 1 for group in groups)
    rule = dataclasses.replace(rule, sharing=rule.sharing * max(1, compared))
    ratios = dict[tuple[str, str], Pair]()
    for group in groups:
        ratios |= _ratios(group, answered, rule)
    tests = [_mcnemar(answered, *pair) for pair in pairs]
    adjusted = [min(1.0, rule.sharing * p) for p in pass_rate.holm(tests)]
    each = rule.own_alpha / max(1, len(pairs))
    return SolvedFamily(
        name=name,
        ranked=groups[0] if len(groups) == 1 else tuple(cells),
        pairs=tuple(
            _pair(answered, pair, ratios.get(pair), (p, q), each, rule.alpha, margin)
            for pair, p, q in zip(pairs, tests, adjusted, strict=True)
        ),
        reason="" if len(groups) < 2 else "cells that did not answer the same tasks are not paired",
    )


def _ranked(group: Sequence[str], answered: Answered, rule: Rule) -> tuple[str, ...]:
    """In the order in which `compare` pairs them, those without joules per solved task last."""
    known = valued(answered.block)
    costly = tuple(cell for cell in group if cell in known)
    order = ranking(answered.block.of(costly), rule) if costly else ()
    return (*order, *(cell for cell in group if cell not in known))


def _ratios(group: Sequence[str], answered: Answered, rule: Rule) -> dict[tuple[str, str], Pair]:
    """Joules per solved task of each pair of cells that have them."""
    known = valued(answered.block)
    cells = tuple(cell for cell in group if cell in known)
    own = [answered.answers[cell] for cell in cells]
    if len(cells) < 2 or len(own[0].tasks) < 2:
        return {}
    given = [each.digests or (cell,) for cell, each in zip(cells, own, strict=True)]
    lasting = per_solved.lasting(
        np.array([_shares(each) for each in own]),
        np.array([each.solved.mean(axis=0) for each in own]),
        [given.index(each) for each in given],
    )
    block = dataclasses.replace(answered.block.of(cells), lasting=lasting)
    return {(pair.a, pair.b): pair for pair in compare(block, rule).pairs}


def _mcnemar(answered: Answered, a: str, b: str) -> float:
    one, other = (answered.answers[cell].solved for cell in (a, b))
    unit = math.lcm(len(one), len(other))
    apart = np.rint((one.mean(axis=0) - other.mean(axis=0)) * unit)
    return pass_rate.mcnemar([int(each) for each in apart])


def _pair(
    answered: Answered,
    cells: tuple[str, str],
    ratio: Pair | None,
    p: tuple[float, float],
    each: float,
    alpha: float,
    margin: float,
) -> SolvedPair:
    """One pair.

    Args:
        answered: the scores.
        cells: `a`, the better ranked, and `b`.
        ratio: of their joules per solved task; None where one of them has none.
        p: of equal pass rates, for this pair alone and adjusted.
        each: error rate of this pair's interval of the difference.
        alpha: the family's error rate, for the adjusted p.
        margin: the largest loss of pass rate that does not matter.
    """
    own = [answered.answers[cell] for cell in cells]
    a, b = (cell.solved.mean(axis=0) for cell in own)
    identical = bool(own[0].digests) and own[0].digests == own[1].digests
    low, high = (0.0, 0.0) if identical else pass_rate.difference_interval(a, b, each)
    tied = a == b
    pair = SolvedPair(
        a=cells[0],
        b=cells[1],
        both=int((tied & (a > 0)).sum()),
        only_a=int((a > b).sum()),
        only_b=int((a < b).sum()),
        neither=int((tied & (a == 0)).sum()),
        mcnemar_p=p[0],
        p=p[1],
        difference=float(a.mean() - b.mean()),
        difference_range=_range(low, high),
        quality=quality_verdict(low, high, p[1] <= alpha, margin),
        identical=identical,
    )
    if ratio is None:
        lacking = {_no_figure(cell) for cell in own if cell.refused or not cell.solved.any()}
        alone = "one task gives no interval for tasks like it"
        other = alone if len(a) < 2 else "no energy was recorded of one of them"
        why = "; ".join(sorted(lacking)) or other
        return dataclasses.replace(pair, reason=why)
    return dataclasses.replace(
        pair,
        ratio=ratio.ratio,
        ratio_range=_ends(ratio.joint_low, ratio.joint_high),
        wide_range=_ends(ratio.joint_wide_low, ratio.joint_wide_high),
        instrument=ratio.instrument,
        verdict=ratio.verdict,
        reason=ratio.reason,
    )


def _ends(low: float | None, high: float | None) -> Range | None:
    return None if low is None and high is None else Range(low=low, high=high)
