"""Pairs on which the conventional tests and the comparison disagree, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from slm_energy.analysis.result.comparison import Conventional, Disagreement, Pair
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import residual_sd

_WHY = {
    "drift": "Dunn's test treats drift between rounds as noise, and here it is more than half of "
    "the variance; it also ranks over all cells, so it needs more rounds",
    "ranks": "Dunn's test ranks over all cells, whatever their noise, and adjusts for all pairs "
    "with Holm, so it needs more rounds",
    "few": "With so few trials, no difference, however large, can be significant in Dunn's test "
    "with Holm",
    "dunn": "Dunn's test treats the trials of one round as independent and compares ranks; "
    "within rounds the difference is not larger than the noise",
    "margin": "Dunn's test is for any difference; within rounds, p adjusted for so many pairs is "
    "not small enough",
}


def disagreements(
    conventional: Conventional, pairs: Sequence[Pair], block: Block, alpha: float
) -> tuple[Disagreement, ...]:
    """Pairs in which the comparison finds a difference and Dunn-Holm does not, or the reverse.

    Args:
        conventional: the tests.
        pairs: the comparison.
        block: the values that were compared; with two cells the interval decides, not p.
        alpha: level of both.
    """
    dunn_ps = {(pair.a, pair.b): pair.dunn_p for pair in conventional.pairs}
    trials = [cell.trials for cell in conventional.cells]
    columns = zip(block.cells, np.log(block.values).T, strict=True)
    logs = {cell: column for cell, column in columns if not np.isnan(column).all()}
    disagreeing = []
    for pair in pairs:
        dunn_p = dunn_ps.get((pair.a, pair.b))
        ours = differs(pair, len(logs), alpha)
        if dunn_p is None or ours is None or ours == (dunn_p <= alpha):
            continue
        if ours:
            why = "few" if _smallest_dunn(trials) > alpha else _rounds(block)
        else:
            inside = pair.low is not None and pair.high is not None and pair.low <= 1 <= pair.high
            why = "dunn" if inside else "margin"
        disagreeing.append(
            Disagreement(
                a=pair.a,
                b=pair.b,
                found_by="rounds" if ours else "dunn",
                p=pair.p,
                dunn_p=dunn_p,
                why=_WHY[why],
            )
        )
    return tuple(disagreeing)


def _rounds(block: Block) -> str:
    """Whether differences between rounds are more than half of the variance of a cell's trials."""
    logs = np.log(block.values)
    within = residual_sd(logs)
    own = np.nanvar(logs[:, (~np.isnan(logs)).sum(axis=0) > 1], axis=0, ddof=1)
    return "drift" if within is not None and within**2 < own.mean() / 2 else "ranks"


def differs(pair: Pair, cells: int, alpha: float) -> bool | None:
    """Whether the comparison finds any difference: by p or, with two cells, by the interval."""
    if cells > 2:
        return None if pair.p is None else pair.p <= alpha
    low, high = pair.joint_low, pair.joint_high
    return None if low is None or high is None else not low <= 1 <= high


def _smallest_dunn(trials: Sequence[int]) -> float:
    """The smallest Dunn-Holm p of the extreme pair when the cells do not overlap at all."""
    total, cells, n = sum(trials), len(trials), min(trials)
    apart = total - n
    error = np.sqrt(total * (total + 1) / 12 * 2 / n)
    return float(2 * stats.norm.sf(apart / error) * cells * (cells - 1) / 2)
