"""The max-T permutation test of a complete block design.

Under the null hypothesis a round's values could carry any cell's label, so labels are permuted
within rounds. The statistic of a pair is the difference of its means over a standard error pooled
from the residuals of the additive model round + cell (the block-adjusted t); taking its maximum
over all pairs adjusts p for all of them (Westfall and Young 1993, single step).

What it does not know: cells that differ in noise share one pooled error. Simulated with 8 equal
cells of which 2 are ten times noisier, p alone errs in 0.16 of studies instead of 0.05 (4 cells, 2
noisy: 0.09). The verdict in `compare` also asks the pair's own interval: 0.09 (0.06).
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaxT:
    """Result of the test.

    Attributes:
        p: k x k, adjusted; None with fewer than two rounds or cells.
        permutations: how many were used.
        exact: True when these are all distinct ones; p is then their share, else the random ones
            and the observed one are counted together: (1 + count) / (1 + permutations).
    """

    p: Floats | None
    permutations: int
    exact: bool


def max_t(logs: Floats, permutations: int, seed: int) -> MaxT:
    """Test all pairs of cells.

    Args:
        logs: rounds x cells, no NaN.
        permutations: how many to draw where there are more distinct ones.
        seed: of the draws.
    """
    rounds, cells = logs.shape
    if rounds < 2 or cells < 2:
        return MaxT(p=None, permutations=0, exact=False)
    centred = logs - logs.mean(axis=1, keepdims=True)
    exact = math.factorial(cells) ** (rounds - 1) <= permutations
    sums = _all_sums(centred) if exact else _drawn_sums(centred, permutations, seed)
    within = float((centred**2).sum())
    scale = _standard_error(sums, within, rounds)
    largest = np.sort((sums.max(axis=1) - sums.min(axis=1)) / rounds / scale)
    means = centred.mean(axis=0)
    seen = np.abs(means[:, None] - means[None, :])
    seen = seen / _standard_error(means[None, :] * rounds, within, rounds)
    reached = len(sums) - np.searchsorted(largest, seen * (1 - _TOLERANCE), side="left")
    p = reached / len(sums) if exact else (1 + reached) / (1 + len(sums))
    return MaxT(p=p, permutations=len(sums), exact=exact)


def _standard_error(sums: Floats, within: float, rounds: int) -> Floats:
    """Of a difference of two means, per row of `sums` (draws x cells, of centred values).

    The sum of squares within rounds is the same for every permutation, so the residual one follows
    from the sums alone. A floor keeps rows without any residual comparable with each other.
    """
    cells = sums.shape[1]
    residual = within - (sums**2).sum(axis=1) / rounds
    floor = max(within * 1e-12, 1e-300)
    pooled = np.maximum(residual, floor) / ((rounds - 1) * (cells - 1))
    return np.asarray(np.sqrt(2 * pooled / rounds))


def _all_sums(centred: Floats) -> Floats:
    """Column sums of every distinct permutation.

    The first round keeps its labels: only how the others lie relative to it matters.
    """
    sums = centred[:1]
    for row in centred[1:]:
        arranged = np.array(list(itertools.permutations(row)))
        sums = (sums[:, None, :] + arranged[None, :, :]).reshape(-1, centred.shape[1])
    return sums


def _drawn_sums(centred: Floats, draws: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    sums = np.tile(centred[0], (draws, 1))
    for row in centred[1:]:
        sums += generator.permuted(np.tile(row, (draws, 1)), axis=1)
    return sums


def smallest_rounds(cells: int, alpha: float) -> int:
    """Fewest complete rounds in which p can be at most alpha.

    With k cells and R rounds there are (k!)^(R-1) distinct arrangements, and the smallest p is one
    of them.
    """
    rounds = 2
    while cells > 1 and math.factorial(cells) ** (rounds - 1) * alpha < 1:
        rounds += 1
    return rounds
