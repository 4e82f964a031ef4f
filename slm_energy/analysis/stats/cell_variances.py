"""How noisy each cell is: its own variance, shrunk towards what the other cells show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, polygamma

Floats = npt.NDArray[np.float64]

_FITS = 8
_HALVES = np.geomspace(1e-3, 1e6, 2000)
_TRIGAMMAS = polygamma(1, _HALVES)


class Variances(NamedTuple):
    """Of cells.

    Attributes:
        raw: draws x cells, each from its own values.
        shrunk: draws x cells.
        prior_df: per draw, degrees of freedom that a shrunk variance takes from the other cells;
            infinite where all cells share one variance.
    """

    raw: Floats
    shrunk: Floats
    prior_df: Floats


def cell_variances(values: Floats, present: Floats) -> Variances:
    """Each cell's variance of values that differ by cell and by round.

    Weighted row means and column means are taken out in turn, with weights from the variances of
    the turn before. A weighted mean draws on the cell itself, with the share of its weight: what
    is left of the cell's variance is 1 minus that share.

    Args:
        values: draws x rounds x cells, 0 where missing.
        present: rounds x cells, 1 where there is a value; each cell has at least two.
    """
    rounds = present.sum(axis=0)
    freedom = rounds - 1
    whole = bool(present.all())
    rest = values - values.mean(axis=1, keepdims=True) if whole else values
    raw = variances = np.ones((len(values), len(rounds)))
    prior_df = np.zeros(len(values))
    for _ in range(_FITS):
        weight = 1 / variances
        total = (weight @ present.T).clip(np.finfo(float).tiny)
        rest = rest - (rest @ weight[:, :, None]) / total[:, :, None]
        if not whole:  # else the columns stay centred
            rest *= present
            rest -= rest.sum(axis=1, keepdims=True) / rounds
            rest *= present
        own = weight * ((1 / total) @ present) / rounds
        raw = np.einsum("drc,drc->dc", rest, rest) / (freedom * (1 - own).clip(1e-9))
        raw = raw.clip(1e-12 * raw.max(axis=1, keepdims=True) + 1e-300)
        variances, prior_df = shrunk(raw, freedom)
    return Variances(raw, variances, prior_df)


def shrunk(raw: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Variances shrunk towards a common one, and with how many degrees of freedom of it.

    Raw variances that scatter no more than chance are taken as one. Smyth (2004), equations of
    section 6.2: the scatter of their logs, less that of chance, is the trigamma function of half
    the degrees of freedom.

    Args:
        raw: draws x cells.
        freedom: per cell, degrees of freedom of its variance.
    """
    half = freedom / 2
    logs = np.log(raw) - digamma(half) + np.log(half)
    middle = logs.mean(axis=1, keepdims=True)
    scatter = logs.var(axis=1, ddof=1, keepdims=True) - polygamma(1, half).mean()
    apart = scatter > _TRIGAMMAS[-1]
    inverse = np.interp(-scatter, -_TRIGAMMAS, _HALVES)
    common = np.exp(middle + digamma(inverse) - np.log(inverse))
    moderated = (2 * inverse * common + freedom * raw) / (2 * inverse + freedom)
    pooled = (freedom * raw).sum(axis=1, keepdims=True) / freedom.sum()
    variances = np.where(apart, moderated, pooled)
    return variances, np.where(apart, 2 * inverse, np.inf)[:, 0]
