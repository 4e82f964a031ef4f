"""Joules per solved task: energy of all attempts over the number solved.

Its logarithm is that of three means: energy of a round, plus energy of a task relative to the
others, less the pass rate. For these tasks only the first is uncertain. For tasks like these the
second and third are too, as tasks are taken to be drawn at random:

One cell     The ends of three intervals are combined by squaring and adding their distances from
             the estimate, on the log scale (MOVER: Zou and Donner 2008, Statistics in Medicine 27;
             for ratios Donner and Zou 2012, Statistical Methods in Medical Research 21): a t
             interval of energy over rounds, one of energy over tasks, and Wilson's of the pass
             rate, whose distances are unequal. The correlation of a task's energy with its being
             solved counts: failing answers may be longer.
Two cells    Their difference is nearly symmetric, so its standard error decides: each task moves
             the log of a cell by its `influence`, and the noise of the rounds is added. To each
             cell is added the variance of one more or one fewer solved task that it shares with no
             other (Bonett and Price 2006, Journal of Educational and Behavioral Statistics 31, add
             one task to each count): equal verdicts on few tasks would else prove that cells solve
             the same ones. Weights of tasks are normal, not counts of a resampling: no draw is
             without a solved task, so none has to be dropped.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from slm_energy.analysis.stats.effect_size import Floats
from slm_energy.analysis.stats.pass_rate import rate_interval

_TOLERANCE = 1e-12


def like_interval(
    log: float, half: float, shares: Floats, solved: Floats, alpha: float
) -> tuple[float, float]:
    """Interval of the log of joules per solved task, for tasks like these.

    Args:
        log: the estimate.
        half: half the width of its interval over rounds.
        shares: (n,) energy of each task, relative to the mean task.
        solved: (n,) share of rounds in which each is solved; not all 0.
        alpha: 1 - confidence.
    """
    n, rate = len(solved), float(solved.mean())
    low, high = rate_interval(solved, alpha)
    energy = float(stdtrit(n - 1, 1 - alpha / 2)) * float(np.std(shares, ddof=1)) / math.sqrt(n)
    spread = float(shares.std() * solved.std())
    covariance = float((shares * solved).mean() - shares.mean() * rate)
    shared = covariance / spread if spread > _TOLERANCE else 0.0

    def reach(rate_part: float) -> float:
        squares = half**2 + energy**2 + rate_part**2 - 2 * shared * energy * rate_part
        return math.sqrt(max(0.0, squares))

    return log - reach(math.log(high / rate)), log + reach(math.log(rate / low))


def lasting(shares: Floats, solved: Floats, groups: list[int]) -> Floats:
    """What the choice of tasks adds to the noise of several cells, for `comparison.Block.lasting`.

    Args:
        shares: cells x n, energy of each task relative to the cell's mean task.
        solved: cells x n, share of rounds in which each task is solved; no cell has only 0.
        groups: per cell, a number that cells with identical answers share. The choice of tasks
            moves these alike, and their ratio is that of their energies.

    Returns:
        m x cells: a row for each independent source of error, of standard deviation 1.
    """
    tasks = solved.shape[1]
    influence = shares - solved / solved.mean(axis=1, keepdims=True)
    rows = influence / math.sqrt(tasks * (tasks - 1))
    own = np.zeros((len(groups), len(groups)))
    members = np.array(groups)
    for group in set(groups):
        which = members == group
        rows[which] = rows[which].mean(axis=0)
        own[group, which] = 1 / float(solved[which].sum(axis=1).mean())
    return np.concatenate([rows.T, own])
