"""Which pairs of cells differ, with one error rate for all of them: a max-T test over blocks.

Model: log value = cell + round + noise, where the noise of each cell has a size of its own. The
statistic of a pair is its mean difference over the rounds that both cells have, over the root of
the sum of both cells' variances: a moderated t. `simultaneous` says how the largest one over all
pairs gives p-values and intervals for all of them.

Variances      each cell's is shrunk towards what the others show (Smyth 2004, section 6). Cells
               that are equally noisy come to share one estimate, with nearly all degrees of
               freedom; cells that are not hardly do. Residuals are those of the model above with
               each cell weighted by its own variance: a noisy cell does not blur the rounds of the
               quiet ones.
Two cells      labels are permuted within rounds: the exact paired permutation test. The interval
               and the verdict are those of a paired t test: one pair needs no adjustment.
More cells     the reference is drawn from normal noise, of each cell's own estimated size, in the
               rounds that it has (a parametric bootstrap, as Krishnamoorthy, Lu and Mathew 2007 do
               for unequal variances); each draw estimates its variances anew.
Three rounds   are too few for more than two cells: where one of 4 to 8 cells is ten times noisier
               than the others, 0.08 to 0.10 of studies have a false difference at alpha 0.05;
               with four rounds 0.05 to 0.08, with five or more 0.03 to 0.07.

Errors that are the same in each round, such as that of the choice of tasks, are drawn beside the
noise of the rounds (`comparison.Block.lasting`), and no number of rounds reduces them.

Why labels are not permuted over more than two cells: that takes all of them to be equally noisy.
With 8 equal cells of which 2 are ten times noisier it finds a false difference in 0.14 to 0.19 of
studies at alpha 0.05. A plain paired t finds more only among the quiet cells where few cells, half
of them noisy, leave no common variance. `benchmarks/simulated_lab.py --tests` prints all three, and
`--simultaneous` how often verdicts err and intervals hold.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from slm_energy.analysis.stats.cell_variances import cell_variances
from slm_energy.analysis.stats.simultaneous import (
    Flags,
    Simultaneous,
    halves,
    judged,
    largest,
    two_cells,
)

Floats = npt.NDArray[np.float64]

FEWEST = 4
"""Rounds that a pair of several cells must share: fewer do not tell noise from difference."""

_TOLERANCE = 1e-9
_CHUNK = 200_000
_MOST_WORK = 10**9
_MOST_VALUES = 2 * 10**7
"""Of all draws together: a family of 2,000 trials has all 9,999, one of 16,000 has 1,250."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaxT:
    """Result of the test.

    Attributes:
        pairs: p-values and critical values; None when no pair can be tested.
        draws: how many the reference has.
        exact: True when these are all distinct permutations; p is then their share, else the draws
            and the observed one are counted together: (1 + count) / (1 + draws).
        prior_df: degrees of freedom that a cell's variance takes from the other cells; 0 with two.
    """

    pairs: Simultaneous | None
    draws: int
    exact: bool
    prior_df: float = 0.0

    @property
    def p(self) -> Floats | None:
        """Adjusted p of no difference, k x k."""
        return None if self.pairs is None else self.pairs.p


def max_t(
    logs: Floats,
    draws: int,
    seed: int,
    *,
    band: float = 0.0,
    alpha: float = 0.05,
    lasting: Floats | None = None,
) -> MaxT:
    """Test all pairs of cells.

    Args:
        logs: rounds x cells; NaN where there is no value.
        draws: of the reference; fewer for more than 300 cells or 2,000 trials, and never fewer than
            999.
        seed: of the draws.
        band: the margin, on the log scale.
        alpha: error rate of the critical values.
        lasting: see `comparison.Block`; more rounds do not reduce it.
    """
    cells = logs.shape[1]
    there = ~np.isnan(logs)
    lasting = np.zeros((0, cells)) if lasting is None else lasting
    if cells == 2:
        return _paired(logs[there.all(axis=1)], lasting, draws, seed, band, alpha)
    shared = there.T.astype(float) @ there
    np.fill_diagonal(shared, 0)
    testable = np.asarray((shared >= FEWEST).any(axis=0))
    if not testable.any():
        return MaxT(pairs=None, draws=0, exact=False)
    draws = min(draws, max(999, min(_MOST_WORK // cells**2, _MOST_VALUES // logs.size)))
    pairs, prior_df = _tested(logs[:, testable], lasting[:, testable], draws, seed, band, alpha)
    return MaxT(pairs=_spread(pairs, testable), draws=draws, exact=False, prior_df=prior_df)


def _spread(pairs: Simultaneous, testable: Flags) -> Simultaneous:
    """The same over all cells, NaN where a cell was not tested."""

    def whole(part: Floats) -> Floats:
        every = np.full((len(testable), len(testable)), np.nan)
        every[np.ix_(testable, testable)] = part
        np.fill_diagonal(every, 1.0)
        return every

    return dataclasses.replace(
        pairs,
        p=whole(pairs.p),
        p_margin=whole(pairs.p_margin),
        p_equivalent=whole(pairs.p_equivalent),
        error=whole(pairs.error),
    )


def _tested(
    logs: Floats, lasting: Floats, draws: int, seed: int, band: float, alpha: float
) -> tuple[Simultaneous, float]:
    """Cells that each share enough rounds with another, and their `MaxT.prior_df`."""
    there = ~np.isnan(logs)
    present = there.astype(float)
    shared = present.T @ present
    np.fill_diagonal(shared, 0)
    values = np.where(there, logs, 0.0)
    level = values.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True).clip(1)
    values = (values - level) * present
    _, variances, prior_df = cell_variances(values[None], present)
    first, size = halves(variances[0]), np.sqrt(variances[0]) * present
    generator = np.random.default_rng(seed)
    other = np.random.default_rng([seed, 1])  # the noise of rounds is the same without lasting
    added = ((lasting[:, :, None] - lasting[:, None, :]) ** 2).sum(axis=0)
    reference = np.empty((draws, 3))
    chunk = max(1, _CHUNK // max(logs.size, shared.size))
    for start in range(0, draws, chunk):
        drawn = generator.standard_normal((min(chunk, draws - start), *logs.shape)) * size
        variance = cell_variances(drawn, present).shrunk
        apart, error = _pairs(drawn, present, shared, variance, added)
        if len(lasting):
            level = other.standard_normal((len(drawn), len(lasting))) @ lasting
            apart += (level[:, :, None] - level[:, None, :]) * (shared >= FEWEST)
        reference[start : start + chunk] = largest(apart / error, error, first, band)
    apart, error = (part[0] for part in _pairs(values[None], present, shared, variances, added))
    pairs = judged(apart, error, shared >= FEWEST, reference, band, alpha)
    return pairs, float(prior_df[0])


def _pairs(
    values: Floats, present: Floats, shared: Floats, variances: Floats, added: Floats
) -> tuple[Floats, Floats]:
    """Mean difference of every pair over the rounds that both have, and its standard error.

    Args:
        values: draws x rounds x cells, 0 where missing.
        present: rounds x cells, 1 where there is a value.
        shared: cells x cells, rounds that both have; where they are too few the difference is 0.
        variances: draws x cells.
        added: cells x cells, variance of the difference that rounds do not reduce.
    """
    rounds = shared.clip(1)
    draws, length, cells = values.shape  # one large product: draw by draw takes ten times as long
    rows = values.swapaxes(-1, -2).reshape(-1, length)
    sums = (rows @ present).reshape(draws, cells, cells)
    apart = np.where(shared >= FEWEST, (sums - sums.swapaxes(-1, -2)) / rounds, 0.0)
    return apart, np.sqrt((variances[:, :, None] + variances[:, None, :]) / rounds + added)


def _paired(
    logs: Floats, lasting: Floats, draws: int, seed: int, band: float, alpha: float
) -> MaxT:
    """Permuting two labels in a round flips the sign of its difference.

    That is no test of a difference with lasting errors: it has a t of Satterthwaite's degrees of
    freedom.
    """
    apart = logs[:, 0] - logs[:, 1]
    if len(apart) < 2:
        return MaxT(pairs=None, draws=0, exact=False)
    exact = 2 ** (len(apart) - 1) <= draws
    if exact:  # the first round keeps its sign: flipping all of them changes nothing
        flips = np.array(list(itertools.product((1.0, -1.0), repeat=len(apart) - 1)))
        signs = np.hstack([np.ones((len(flips), 1)), flips])
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (draws, len(apart))) * 2.0 - 1
    reached = int((np.abs(signs @ apart) >= abs(apart.sum()) * (1 - _TOLERANCE)).sum())
    p = reached / len(signs) if exact else (1 + reached) / (1 + len(signs))
    mean, freedom = float(apart.mean()), float(len(apart) - 1)
    error = max(float(np.std(apart, ddof=1)) / np.sqrt(len(apart)), 1e-300)
    if added := float(((lasting[:, 0] - lasting[:, 1]) ** 2).sum()):
        total = error**2 + added
        freedom = total**2 / (error**4 / freedom + added**2 / len(lasting))
        error = np.sqrt(total)
        p, exact = 2 * float(stdtr(freedom, -abs(mean) / error)), False
    pairs = two_cells(mean, error, freedom, p, band, alpha)
    return MaxT(pairs=pairs, draws=len(signs), exact=exact)


def fewest_rounds(cells: int) -> int:
    """Rounds without which there is no verdict: of two cells a t interval decides."""
    return FEWEST if cells > 2 else 2


def smallest_rounds(cells: int, alpha: float) -> int:
    """Fewest rounds in which p can be at most alpha.

    With two cells and R rounds there are 2^(R-1) distinct permutations, and the smallest p is one
    of them.
    """
    if cells > 2:
        return FEWEST
    rounds = 2
    while 2 ** (rounds - 1) * alpha < 1:
        rounds += 1
    return rounds
