"""Tests and intervals of linear contrasts of cells that are not equally noisy.

The statistic of a term is Wald's: what the term explains, as a vector, over its covariance, which
is the sum of the cells'. Its distribution is drawn: normal noise, of each cell's own estimated
size, in the rounds that the cell has, whose variances are estimated anew (a parametric bootstrap:
Xu, Yang, Abula and Qin 2013, Journal of Multivariate Analysis 115, for two factors).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from slm_energy.analysis.stats.cell_variances import cell_variances
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.effect_size import Floats

_MOST_DRAWS = 1999
_FEWEST_DRAWS = 499
_MOST_WORK = 3_000_000
_CHUNK = 1_000_000
_SMALLEST = 1e-20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellNoise:
    """The noise of n trials.

    Attributes:
        cells: (n,) which of k cells each trial is of, from 0.
        rounds: (n,) which round, from 0; None where the trials are not in rounds.
        variances: (k,) of each cell; that of a cell with one trial is the mean of the others.
    """

    cells: npt.NDArray[np.int64]
    rounds: npt.NDArray[np.int64] | None
    variances: Floats

    def p_values(self, y: Floats, bases: Sequence[Floats], rule: Rule) -> list[float]:
        """P of no effect of each term.

        Args:
            y: (n,) log values.
            bases: per term n x df, orthonormal: what it explains beyond the terms before it.
            rule: draws and their seed.
        """
        tests = [_Wald.of(basis, self.cells) for basis in bases]
        seen = [float(test(y[None], self.variances[None])[0]) for test in tests]
        draws = max(_FEWEST_DRAWS, min(rule.draws, _MOST_DRAWS, _MOST_WORK // len(y)))
        generator = np.random.default_rng(rule.seed)
        size, reached = np.sqrt(self.variances)[self.cells], np.zeros(len(tests), dtype=int)
        chunk = max(1, _CHUNK // max([len(y), *(basis.shape[1] ** 2 for basis in bases)]))
        for start in range(0, draws, chunk):
            drawn = generator.standard_normal((min(chunk, draws - start), len(y))) * size
            again = _variances(drawn, self.cells, self.rounds)
            reached += [
                int((test(drawn, again) >= value * (1 - 1e-9)).sum())
                for test, value in zip(tests, seen, strict=True)
            ]
        return [float(p) for p in (1 + reached) / (1 + draws)]

    def half_width(self, weights: Floats, alpha: float) -> float:
        """Half the width of the t interval of a weighted sum; degrees of freedom: Satterthwaite.

        Args:
            weights: (n,) of the log values.
            alpha: 1 - confidence.
        """
        counts = np.bincount(self.cells, minlength=len(self.variances))
        parts = np.bincount(self.cells, weights**2, len(self.variances)) * self.variances
        freedom = float(parts.sum() ** 2 / (parts**2 / (counts - 1).clip(1)).sum())
        return float(stats.t.ppf(1 - alpha / 2, freedom)) * math.sqrt(float(parts.sum()))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Wald:
    """Wald's statistic of a term.

    Attributes:
        basis: n x df.
        by_cell: k x df x df, the basis' inner products within each cell.
    """

    basis: Floats
    by_cell: Floats

    @classmethod
    def of(cls, basis: Floats, cells: npt.NDArray[np.int64]) -> _Wald:
        own = [basis[cells == cell] for cell in range(cells.max() + 1)]
        return cls(basis=basis, by_cell=np.stack([rows.T @ rows for rows in own]))

    def __call__(self, y: Floats, variances: Floats) -> Floats:
        """Of draws x n values, with draws x k variances: one per draw."""
        seen = (y @ self.basis)[..., None]
        cover = np.tensordot(variances, self.by_cell, axes=1)
        return np.asarray((seen * np.linalg.solve(cover, seen)).sum(axis=(1, 2)))


def cell_noise(block: Block) -> CellNoise | None:
    """How noisy the cells of a block are; None where fewer than two show a spread.

    Args:
        block: rounds x cells. A cell that occurs several times has a value in each of its columns,
            and there are no rounds.
    """
    rows, columns = np.nonzero(~np.isnan(block.values))
    names = np.unique(block.cells, return_inverse=True)[1]
    cells = np.unique(names[columns], return_inverse=True)[1]
    rounds = None
    if len(set(block.cells)) == len(block.cells):
        rounds = np.unique(rows, return_inverse=True)[1]
    if (np.bincount(cells) > 1).sum() < 2:
        return None
    [variances] = _variances(np.log(block.values[rows, columns])[None], cells, rounds)
    if variances.max() < _SMALLEST:
        return None
    return CellNoise(cells=cells, rounds=rounds, variances=variances)


def _variances(
    y: Floats, cells: npt.NDArray[np.int64], rounds: npt.NDArray[np.int64] | None
) -> Floats:
    """Of each cell, draws x k, from log values, draws x n."""
    counts = np.bincount(cells)
    known = counts > 1
    result = np.empty((len(y), len(counts)))
    if rounds is None:
        member = np.eye(len(counts))[cells]
        rest = y - (y @ member / counts) @ member.T
        raw = (rest**2 @ member)[:, known] / (counts[known] - 1)
    else:
        table = np.zeros((len(y), rounds.max() + 1, len(counts)))
        present = np.zeros(table.shape[1:])
        table[:, rounds, cells], present[rounds, cells] = y, 1
        table, present = table[:, :, known], present[:, known]
        table, present = table[:, present.any(axis=1)], present[present.any(axis=1)]
        table -= (table.sum(axis=2) / present.sum(axis=1))[:, :, None]
        raw = cell_variances(table * present, present).raw
    result[:, known] = raw.clip(1e-12 * raw.max(axis=1, keepdims=True))
    result[:, ~known] = raw.mean(axis=1, keepdims=True)
    return result
