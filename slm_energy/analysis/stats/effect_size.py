"""How large, how sure, how many more rounds: the formulas behind one pair of cells."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MOST_ROUNDS = 1000
GOOD_POWER = 0.8


def half_width(logs: Floats, alpha: float) -> float | None:
    """Half the width of a t interval of the mean.

    Args:
        logs: one value per round.
        alpha: 1 - confidence.

    Returns:
        None with one value, and when they do not vary: then the spread is unknown, not zero.
    """
    n = len(logs)
    if n < 2 or (spread := float(np.std(logs, ddof=1))) < 1e-12:
        return None
    return float(_quantiles(alpha)[n] * spread / np.sqrt(n))


def welch_half_width(x: Floats, y: Floats, alpha: float) -> float | None:
    """Half the width of Welch's t interval of the difference of two means (1947).

    Args:
        x: independent values.
        y: others.
        alpha: 1 - confidence.

    Returns:
        None with one value on a side, and when none of them vary.
    """
    if min(len(x), len(y)) < 2:
        return None
    parts = np.array([float(np.var(values, ddof=1)) / len(values) for values in (x, y)])
    if parts.sum() < 1e-24:
        return None
    freedom = parts.sum() ** 2 / (parts**2 / [len(x) - 1, len(y) - 1]).sum()
    return float(special.stdtrit(freedom, 1 - alpha / 2) * np.sqrt(parts.sum()))


@lru_cache(maxsize=8)
def _quantiles(alpha: float) -> Floats:
    """t(1 - alpha / 2, n - 1) for n = 0, 1, ... beyond `MOST_ROUNDS`; NaN below 2."""
    n = np.arange(20 * MOST_ROUNDS)
    return np.asarray(np.where(n < 2, np.nan, stats.t.ppf(1 - alpha / 2, np.maximum(n - 1, 1))))


def holm(p: Floats) -> Floats:
    """Holm's step-down adjustment (1979)."""
    order = np.argsort(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def cliffs_delta(x: Floats, y: Floats) -> float:
    """Share of pairs with x > y minus share with x < y (Cliff 1993)."""
    return float(_above(x, y)[0].sum()) / (len(x) * len(y))


def _above(x: Floats, y: Floats) -> tuple[npt.NDArray[np.int64], int]:
    """For each of x, how many of y it exceeds less how many exceed it; and how many pairs tie."""
    y = np.sort(y)
    below, through = np.searchsorted(y, x, "left"), np.searchsorted(y, x, "right")
    return below + through - len(y), int((through - below).sum())


def cliffs_interval(x: Floats, y: Floats, alpha: float) -> tuple[float, float] | None:
    """Interval of Cliff's delta for independent samples: Feng and Cliff (2004), asymmetric.

    Where all of x lie on one side of all of y, its variance is estimated as zero; then the interval
    is `_separated`.

    Returns:
        None with fewer than two values on a side.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        return None
    (of_x, tied), (of_y, _) = _above(x, y), _above(y, x)
    delta = float(of_x.sum()) / (n * m)
    z = float(special.stdtrit(n + m - 2, 1 - alpha / 2))
    if abs(delta) == 1:
        end = 2 * _separated(n, m, alpha) - 1
        return (end, 1.0) if delta > 0 else (-1.0, -end)
    rows = float(((of_x / m - delta) ** 2).sum())
    columns = float(((-of_y / n - delta) ** 2).sum())
    rest = n * m * (1 - delta**2) - tied  # of the n m signs: their squares less their mean's
    variance = (m**2 * rows + n**2 * columns - rest) / (n * m * (n - 1) * (m - 1))
    variance = max(variance, (1 - delta**2) / (n * m - 1))
    root = z * np.sqrt(variance) * np.sqrt((1 - delta**2) ** 2 + z**2 * variance)
    centre, scale = delta - delta**3, 1 - delta**2 + z**2 * variance
    return max(-1.0, float((centre - root) / scale)), min(1.0, float((centre + root) / scale))


def _separated(n: int, m: int, alpha: float) -> float:
    """Lower end of the interval of A12 where all n values exceed all m others.

    Newcombe (2006), Statistics in Medicine 25, 559-573, method 5: a score interval. The end is the
    A12 whose own standard deviation, by Hanley and McNeil's formula for samples of the mean size,
    would put 1 at the edge.
    """
    z, rest = float(special.ndtri(1 - alpha / 2)), (n + m) / 2 - 1
    low, high = 0.0, 1.0
    for _ in range(60):
        a12 = (low + high) / 2
        spread = 1 + rest * ((1 - a12) / (2 - a12) + a12 / (1 + a12))
        beyond = (1 - a12) ** 2 > z**2 * a12 * (1 - a12) * spread / (n * m)
        low, high = (a12, high) if beyond else (low, a12)
    return high
