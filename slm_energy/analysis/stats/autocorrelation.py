"""Rounds that resemble their neighbours: how many independent rounds they are worth.

A room that warms and cools over an hour makes the rounds of a study alike, so that their mean is
less certain than that of as many independent ones. The model is a first-order autoregression
within each study. Its correlation is estimated from means of rounds, pooled over both studies of a
comparison, because single cells are too noisy and single studies too short; it is corrected for
the bias of short series (Marriott and Pope 1954) and taken as zero where it is negative.

Formulas (Bayley and Hammersley 1946): with n rounds and correlation r, the variance of a mean is
V / n times `inflation`, and the variance within the n rounds is on average V times `shrinkage`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

_MOST = 0.9
"""The largest correlation that is taken into account; beyond it no number of rounds is enough."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dependence:
    """What a correlation of neighbours does to a sample.

    Attributes:
        rounds: how many.
        inflation: of the variance of their mean, at least 1.
        shrinkage: of the variance within them, at most 1.
    """

    rounds: int
    inflation: float
    shrinkage: float

    @property
    def effective(self) -> float:
        """Independent rounds whose mean is as certain."""
        return self.rounds / self.inflation


def dependence(rounds: int, correlation: float) -> Dependence:
    """What a correlation does to a sample; nothing to one of a single round."""
    if rounds < 2:
        return Dependence(rounds=rounds, inflation=1.0, shrinkage=1.0)
    lags = np.arange(1, rounds)
    inflation = 1 + 2 * float(((1 - lags / rounds) * correlation**lags).sum())
    shrinkage = (rounds - inflation) / (rounds - 1)
    return Dependence(rounds=rounds, inflation=inflation, shrinkage=shrinkage)


def neighbour_correlation(studies: Sequence[Sequence[Mapping[int, float]]]) -> float:
    """Correlation of a round with the next, from 0 to 0.9.

    Args:
        studies: per study, per cell, round to log value.
    """
    products = squares = 0.0
    pairs = rounds = 0
    for cells in studies:
        means = _round_means(cells)
        for number, value in means.items():
            squares += value**2
            if number + 1 in means:
                products += value * means[number + 1]
                pairs += 1
        rounds += len(means)
    if squares < 1e-24 or pairs == 0:
        return 0.0
    # E r = rho - (1 + 3 rho) / n, with the n of one series.
    length = rounds / len(studies)
    raw = products / squares * (rounds - len(studies)) / pairs
    corrected = (raw + 1 / length) / (1 - 3 / length) if length > 4 else raw + 1 / length
    return float(min(max(corrected, 0.0), _MOST))


def _round_means(cells: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Round to the mean of what its cells differ from their own means by."""
    rests: dict[int, list[float]] = {}
    for values in cells:
        mean = float(np.mean(list(values.values())))
        for number, value in values.items():
            rests.setdefault(number, []).append(value - mean)
    return {number: float(np.mean(each)) for number, each in rests.items()}
