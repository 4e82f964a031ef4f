"""Pass rates: their intervals, and two cells that answered the same tasks.

One rate          Wilson's score interval (1927), whose coverage is near the nominal one for small
                  counts too (Brown, Cai and DasGupta 2001, Statistical Science 16). Where no
                  task is solved, or each, the other end is the exact one-sided limit.
Equal rates       McNemar's exact test: the tasks that only one of the two solves are tosses of a
                  fair coin. Where answers differ between rounds, the difference of each task keeps
                  or changes its sign with equal chance, which is the same test if they do not.
Difference        Newcombe's square-and-add interval of Wilson's intervals with the correlation of
                  the two (1998, Statistics in Medicine 17, 2635, method 10), which Fagerland,
                  Lydersen and Laake (2014, Statistics in Medicine 33) recommend for small counts.

Where answers differ between rounds, a task counts with the share of rounds in which it is solved.
Such shares vary less over tasks than ones and zeros with the same mean, and are worth more tasks:
by the ratio of the two variances, of a sample with two solved and two unsolved tasks added (Agresti
and Coull 1998, The American Statistician 52), because few tasks show too little of what others do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from slm_energy.analysis.stats.effect_size import Floats

_TOLERANCE = 1e-9


def rate_interval(solved: Floats, alpha: float) -> tuple[float, float]:
    """Interval of a pass rate, for tasks like these.

    Args:
        solved: (n,) share of rounds in which each task is solved.
        alpha: 1 - confidence.
    """
    limit = float(alpha ** (1 / len(solved)))  # each solved: the rate at which that has this chance
    if not solved.any():
        return 0.0, 1 - limit
    if solved.min() >= 1:
        return limit, 1.0
    return _wilson(solved, alpha)


def _wilson(solved: Floats, alpha: float) -> tuple[float, float]:
    """Wilson's score interval of a rate."""
    rate, tasks = float(solved.mean()), _worth(solved)
    z2 = float(ndtri(1 - alpha / 2)) ** 2
    middle = (rate + z2 / (2 * tasks)) / (1 + z2 / tasks)
    half = math.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * tasks)) / tasks) / (1 + z2 / tasks)
    return max(0.0, middle - half), min(1.0, middle + half)


def _worth(solved: Floats) -> float:
    """How many tasks that are solved or not are as informative: see the top of this file."""
    more = np.concatenate([solved, [0.0, 0.0, 1.0, 1.0]])
    return float(len(solved) * more.mean() * (1 - more.mean()) / more.var())


def mcnemar(differences: Sequence[int]) -> float:
    """Exact two-sided p of equal pass rates.

    Args:
        differences: per task, how much more often the first cell solves it, in a common unit such
            as rounds.
    """
    units = np.array(differences, dtype=int)
    units //= max(1, int(np.gcd.reduce(units)))
    reach = int(np.abs(units).sum())
    chances = np.ones(1)  # of each sum of signed differences, from the smallest to the largest
    for size in np.abs(units):
        longer = np.zeros(len(chances) + 2 * size)
        longer[: len(chances)] += chances / 2
        longer[2 * size :] += chances / 2
        chances = longer
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(units.sum())].sum()))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for all of them (Holm 1979), which holds however they depend."""
    adjusted, largest = [1.0] * len(p), 0.0
    for place, index in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def difference_interval(a: Floats, b: Floats, alpha: float) -> tuple[float, float]:
    """Interval of the pass rate of `a` less that of `b`, for tasks like these.

    Args:
        a: (n,) per task, the share of rounds in which it is solved.
        b: (n,) the same of the other cell.
        alpha: 1 - confidence.
    """
    rates = float(a.mean()), float(b.mean())
    (low_a, high_a), (low_b, high_b) = _wilson(a, alpha), _wilson(b, alpha)
    difference = rates[0] - rates[1]
    shared = _correlation(a, b)

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(0.0, up**2 + down**2 - 2 * shared * up * down))

    return (
        max(-1.0, difference - reach(rates[0] - low_a, high_b - rates[1])),
        min(1.0, difference + reach(high_a - rates[0], rates[1] - low_b)),
    )


def _correlation(a: Floats, b: Floats) -> float:
    """Of two cells over tasks; a positive one with Newcombe's correction for continuity."""
    spread = float(a.std() * b.std())
    if spread < _TOLERANCE:
        return 0.0
    covariance = float((a * b).mean() - a.mean() * b.mean())
    if covariance > 0:
        covariance = max(0.0, covariance - 1 / (2 * len(a)))
    return max(-1.0, covariance / spread)
