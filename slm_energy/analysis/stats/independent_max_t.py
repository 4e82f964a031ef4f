"""The max-T test of cells whose values are independent samples: no value belongs to a round.

As `max_t`, without rounds: the statistic of a pair is the difference of its means over the root of
the sum of both their variances over n, each variance shrunk towards what the others show. The
reference is drawn from normal noise of each cell's own estimated size. Two cells are compared by
Welch's t (1947): one pair needs no adjustment.

Fewer than five values of a cell do not tell how noisy it is: where some of 4 to 12 cells are ten
times noisier than the others, 0.07 to 0.13 of studies with 2 to 4 values a cell have a false
difference at alpha 0.05; with five or more, 0.04 to 0.06.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from slm_energy.analysis.stats.cell_variances import shrunk
from slm_energy.analysis.stats.simultaneous import (
    Floats,
    Simultaneous,
    halves,
    judged,
    largest,
    two_cells,
)

FEWEST = 5
"""Values that a cell of more than two must have."""

_CHUNK = 200_000


def independent_max_t(
    samples: Sequence[Floats], draws: int, seed: int, *, band: float, alpha: float
) -> Simultaneous:
    """Test all pairs of two or more cells.

    Args:
        samples: log values of each cell: at least `FEWEST`, of two cells at least two; those of
            one cell vary.
        draws: of the reference.
        seed: of the draws.
        band: the margin, on the log scale.
        alpha: error rate of the critical values.
    """
    n = np.array([len(logs) for logs in samples])
    means = np.array([logs.mean() for logs in samples])
    raw = np.array([logs.var(ddof=1) for logs in samples])
    raw = raw.clip(1e-12 * raw.max())
    if len(samples) == 2:
        return _welch(float(means[0] - means[1]), raw / n, n - 1, band, alpha)
    [variances], _ = shrunk(raw[None], n - 1)
    first = halves(variances)
    generator = np.random.default_rng(seed)
    reference = np.empty((draws, 3))
    chunk = max(1, _CHUNK // len(samples) ** 2)
    for start in range(0, draws, chunk):
        shape = (min(chunk, draws - start), len(samples))
        drawn = generator.standard_normal(shape) * np.sqrt(variances / n)
        noise = variances * generator.chisquare(n - 1, shape) / (n - 1)
        apart, error = _pairs(drawn, shrunk(noise, n - 1)[0] / n)
        reference[start : start + chunk] = largest(apart / error, error, first, band)
    [apart], [error] = _pairs(means[None], (variances / n)[None])
    every = np.ones_like(apart, dtype=bool)
    return judged(apart, error, every, reference, band, alpha)


def _pairs(means: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """Difference of every pair of means, and its standard error, from squares of their own."""
    apart = means[:, :, None] - means[:, None, :]
    return apart, np.sqrt(squares[:, :, None] + squares[:, None, :])


def _welch(
    apart: float, squares: Floats, freedom: Floats, band: float, alpha: float
) -> Simultaneous:
    """Two cells, with Welch's degrees of freedom; squares are those of their standard errors."""
    error = float(np.sqrt(squares.sum()))
    df = float(squares.sum() ** 2 / (squares**2 / freedom).sum())
    p = 2 * float(stdtr(df, -abs(apart) / error))
    return two_cells(apart, error, df, p, band, alpha)
