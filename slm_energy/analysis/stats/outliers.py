"""Trials that are too far from what their cell and round make of them.

A trial's residual is what a median polish leaves: medians of cells and of rounds are taken out in
turn (Tukey 1977), so neither a round that differs from the others nor an outlier itself moves them
much. Its score is the residual over the cell's spread, which is computed without the cell's largest
residuals and shrunk towards what the other cells show (`cell_variances.shrunk`).

How large a score must be depends on how many trials there are. The limit is what the largest score
of all trials exceeds in a share alpha of studies without any outlier: the same procedure on draws
of normal noise, of each cell's estimated size, in the rounds that it has. So 0.03 to 0.07 of clean
studies have a flagged trial, whatever their size (`benchmarks/simulated_lab.py --diagnostics`).
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import numpy.typing as npt

from slm_energy.analysis.stats.cell_variances import shrunk
from slm_energy.analysis.stats.effect_size import Flags, Floats

FEWEST = 5
"""Trials of a cell: with fewer, its spread without the largest residual is not known."""

_NO_SPREAD = 1e-24
_SWEEPS = 3
_DRAWS = 999
_FEWEST_DRAWS = 199
_MOST_WORK = 1_000_000
_SEED = 0
_CHUNK = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outliers:
    """Scores of a block's trials.

    Attributes:
        scores: rounds x cells; NaN where there is no value, or no spread to divide by.
        limit: flagged are scores above it; None where no trial has a score.
        flags: rounds x cells.
    """

    scores: Floats
    limit: float | None
    flags: Flags

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> Outliers:
        """Of a block whose trials have no score."""
        return cls(scores=np.full(shape, np.nan), limit=None, flags=np.zeros(shape, dtype=bool))


def find(values: Floats, alpha: float, *, rounds: bool) -> Outliers:
    """Score all trials of a block, and flag those beyond the limit.

    With two cells the residuals of a round mirror each other: of the two trials, the one farther
    from its own cell's median is flagged.

    Args:
        values: rounds x cells; positive, NaN where there is none.
        alpha: share of clean studies with a flagged trial.
        rounds: the rows are rounds, which may differ as a whole.
    """
    logs = np.log(values)
    there = ~np.isnan(logs)
    scored = there.sum(axis=0) >= FEWEST
    result = Outliers.unknown(logs.shape)
    if not scored.any():
        return result
    # A cell that does not vary has no score: its spread of zero would be shared by the others.
    used = logs[there[:, scored].any(axis=1)][:, scored]
    scored[scored] = _trimmed(_polished(used[None], rounds))[0] > _NO_SPREAD
    if not scored.any():
        return result
    valued = there[:, scored].any(axis=1)
    used = logs[valued][:, scored]
    rest = _polished(used[None], rounds)
    spread = _spread(rest)
    own = np.abs(rest[0]) / spread[0]
    limit = _limit(~np.isnan(used), spread[0], alpha, rounds)
    flagged = np.nan_to_num(own) > limit
    if rounds and used.shape[1] == 2:
        away = np.abs(used - np.nanmedian(used, axis=0))
        flagged &= ~(away < away[:, ::-1])
    result.scores[np.ix_(valued, scored)] = own
    result.flags[np.ix_(valued, scored)] = flagged
    return dataclasses.replace(result, limit=limit)


def _limit(there: Flags, spread: Floats, alpha: float, rounds: bool) -> float:
    """What the largest score exceeds in a share alpha of the draws."""
    generator = np.random.default_rng(_SEED)
    draws = max(_FEWEST_DRAWS, min(_DRAWS, _MOST_WORK // there.size))
    largest = np.empty(draws)
    chunk = max(1, _CHUNK // there.size)
    size = np.where(there, spread, np.nan)
    for start in range(0, draws, chunk):
        drawn = generator.standard_normal((min(chunk, draws - start), *there.shape)) * size
        rest = _polished(drawn, rounds)
        scores = np.abs(rest) / _spread(rest)[:, None, :]
        largest[start : start + chunk] = np.nanmax(scores, axis=(1, 2))
    return float(np.quantile(largest, 1 - alpha))


def _polished(logs: Floats, rounds: bool) -> Floats:
    """Residuals of a median polish of cells and of rounds; one cell alone shows no rounds.

    Args:
        logs: draws x rounds x cells; NaN where there is no value, in all draws alike.
        rounds: take out medians of rounds as well.
    """
    median = _median_of_known if np.isnan(logs[0]).any() else partial(np.median, keepdims=True)
    rest = logs - median(logs, axis=1)
    for _ in range(_SWEEPS if rounds and logs.shape[2] > 1 else 0):
        rest = rest - median(rest, axis=2)
        rest = rest - median(rest, axis=1)
    return np.asarray(rest)


def _median_of_known(values: Floats, axis: int) -> Floats:
    """As `np.nanmedian`, which is slow; NaN are in the same places of all draws."""
    known = (~np.isnan(values[:1])).sum(axis=axis, keepdims=True)
    ordered = np.sort(values, axis=axis)  # NaN come last
    low, high = ((np.maximum(known - 1, 0) // 2), known // 2)
    shape = list(values.shape)
    shape[axis] = 1
    parts = (np.take_along_axis(ordered, np.broadcast_to(at, shape), axis) for at in (low, high))
    return np.asarray(sum(parts) / 2)


def _trimmed(rest: Floats) -> Floats:
    """Mean square of each cell's residuals without a fifth of them, the largest: draws x cells."""
    kept = _kept(rest)
    squares = np.cumsum(np.sort(rest**2, axis=1), axis=1)  # NaN comes last
    return np.asarray(np.take_along_axis(squares, (kept - 1)[None, None, :], axis=1)[:, 0] / kept)


def _kept(rest: Floats) -> npt.NDArray[np.int64]:
    trials = (~np.isnan(rest[0])).sum(axis=0)
    return np.asarray(trials - np.maximum(1, trials // 5))


def _spread(rest: Floats) -> Floats:
    """Each cell's spread, shrunk: draws x cells."""
    raw = _trimmed(rest)
    if raw.shape[1] == 1:
        return np.sqrt(raw)
    raw = raw.clip(1e-12 * raw.max(axis=1, keepdims=True))
    return np.sqrt(shrunk(raw, (_kept(rest) - 1).astype(np.float64))[0])
