"""How large, how sure, how many more rounds: the formulas behind one pair of cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MOST_ROUNDS = 1000


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
    return float(stats.t.ppf(1 - alpha / 2, n - 1) * spread / np.sqrt(n))


def rounds_to_settle(spread: float, gap: float, alpha: float, at_least: int) -> int | None:
    """Fewest rounds n for which t(1 - alpha/2, n - 1) * spread / sqrt(n) is below the gap.

    Args:
        spread: standard deviation of the log ratio over rounds.
        gap: distance of its mean from where the verdict changes.
        alpha: 1 - confidence.
        at_least: do not answer less.

    Returns:
        None when more than `MOST_ROUNDS` would be needed.
    """
    n = np.arange(at_least, MOST_ROUNDS + 1)
    enough = n[stats.t.ppf(1 - alpha / 2, n - 1) * spread / np.sqrt(n) < gap]
    return int(enough[0]) if enough.size else None


def cliffs_delta(x: Floats, y: Floats) -> float:
    """Share of pairs with x > y minus share with x < y (Cliff 1993)."""
    return float(np.sign(x[:, None] - y[None, :]).mean())
