"""Pairs on which the conventional tests and the comparison disagree, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from slm_energy.analysis.result.comparison import Conventional, Disagreement, Pair

_WHY = {
    "rounds": "Dunn's test treats drift between rounds as noise and ranks over all cells, so it "
    "needs more rounds",
    "few": "With so few trials, no difference, however large, can be significant in Dunn's test "
    "with Holm",
    "dunn": "Dunn's test treats the trials of one round as independent and compares ranks; "
    "within rounds the difference is not larger than the noise",
    "margin": "Dunn's test is for any difference; within rounds, p adjusted for so many pairs is "
    "not small enough",
}


def disagreements(
    conventional: Conventional, pairs: Sequence[Pair], cells: int, alpha: float
) -> tuple[Disagreement, ...]:
    """Pairs in which the comparison finds a difference and Dunn-Holm does not, or the reverse.

    Args:
        conventional: the tests.
        pairs: the comparison.
        cells: how many the comparison has; with two its interval decides, not p.
        alpha: level of both.
    """
    dunn_ps = {(pair.a, pair.b): pair.dunn_p for pair in conventional.pairs}
    trials = [cell.trials for cell in conventional.cells]
    disagreeing = []
    for pair in pairs:
        dunn_p = dunn_ps.get((pair.a, pair.b))
        ours = differs(pair, cells, alpha)
        if dunn_p is None or ours is None or ours == (dunn_p <= alpha):
            continue
        if ours:
            why = "few" if _smallest_dunn(trials) > alpha else "rounds"
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
