"""All pairs of a family judged together: from draws of every pair's t to intervals and p.

The log ratio d of a pair has the standard error s and the t statistic d / s. A reference is drawn
in which every t is noise; each of three questions is put to its largest value over all pairs
(Westfall and Young 1993, single step):

difference     Which ratios differ from 1? The largest |t|. Its quantile c gives the intervals
               d +- c s, which hold for all pairs at once.
margin         Which differ by more than the margin m? The largest (|d| - m) / s.
equivalence    Which differ by less? The largest (m - |d|) / s. Its quantile gives the intervals
               that two one-sided tests decide by, of confidence 1 - 2 alpha (Schuirmann 1987).

The last two need a truth to be drawn around: the one that errs most. The chance of an error, summed
over the pairs, is a convex function of the cells' levels, so it is largest where every cell is at
one of two levels, m apart, and with equal noise where half of the cells are at each. Cells are
dealt to the halves in order of noise, so that both have quiet and noisy ones. Across the halves an
error is a t of one sign; within a half it has either sign, and must exceed the whole margin.

Where the second question finds a difference and the interval d +- c s reaches into the margin, the
interval is made to end at the margin (the confidence set of a stepwise test: Hayter and Hsu 1994).
Of intervals with confidence 0.95 all hold in 0.93 to 0.97 of studies, and in 0.92 to 0.98 where
half of the cells differ from the others by just less than the margin
(`benchmarks/simulated_lab.py --simultaneous`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Simultaneous:
    """What can be said of all pairs of k cells with one error rate.

    Attributes:
        p: k x k, of no difference; 1 on the diagonal, NaN where a pair cannot be tested.
        p_margin: of a difference of at most the margin; never below `p`.
        p_equivalent: of a difference of the margin or more.
        error: k x k, standard error of each log ratio.
        difference: critical value c; infinite where there are too few draws for the error rate.
        margin: of the test against the margin.
        equivalence: of the test of equivalence.
    """

    p: Floats
    p_margin: Floats
    p_equivalent: Floats
    error: Floats
    difference: float
    margin: float
    equivalence: float


def halves(variances: Floats) -> Flags:
    """Which cells are in the first half: dealt in order of noise, see the top of this file."""
    first = np.zeros(len(variances), dtype=bool)
    first[np.argsort(variances, kind="stable")[::2]] = True
    return first


def largest(t: Floats, error: Floats, first: Flags, band: float) -> Floats:
    """The largest statistic of each question in each draw, draws x 3.

    Args:
        t: draws x cells x cells; 0 where a pair cannot be tested.
        error: standard errors, same shape, above 0.
        first: from `halves`.
        band: the margin, on the log scale.
    """
    size = np.abs(t)
    across = t[:, first][:, :, ~first].max(axis=(1, 2))
    difference = size.max(axis=(1, 2))
    size -= band / error
    return np.stack([difference, np.maximum(size.max(axis=(1, 2)), across), across], axis=1)


def judged(
    apart: Floats, error: Floats, testable: Flags, drawn: Floats, band: float, alpha: float
) -> Simultaneous:
    """Compare what was seen with the draws.

    Args:
        apart: cells x cells, mean log ratios.
        error: their standard errors, above 0.
        testable: which pairs share enough values.
        drawn: from `largest`.
        band: the margin, on the log scale.
        alpha: the error rate.
    """
    size, shift = np.abs(apart) / error, band / error
    drawn = np.sort(drawn, axis=0)
    p = _p(size, drawn[:, 0], testable)
    difference, margin, equivalence = (_critical(column, alpha) for column in drawn.T)
    return Simultaneous(
        p=p,
        p_margin=np.maximum(p, _p(size - shift, drawn[:, 1], testable)),
        p_equivalent=_p(shift - size, drawn[:, 2], testable),
        error=error,
        difference=difference,
        margin=margin,
        equivalence=equivalence,
    )


def two_cells(
    apart: float, error: float, freedom: float, p: float, band: float, alpha: float
) -> Simultaneous:
    """The only pair of two cells: a t test, whose interval needs no adjustment.

    Args:
        apart: mean log ratio.
        error: its standard error, above 0.
        freedom: degrees of freedom of the t interval.
        p: of no difference.
        band: the margin, on the log scale.
        alpha: the error rate.
    """
    beyond = (abs(apart) - band) / error

    def both(value: float) -> Floats:
        return np.array([[1.0, value], [value, 1.0]])

    critical = float(stdtrit(freedom, 1 - alpha / 2))
    return Simultaneous(
        p=both(p),
        p_margin=both(min(1.0, 2 * float(stdtr(freedom, -beyond)))),
        p_equivalent=both(float(stdtr(freedom, beyond))),
        error=both(error),
        difference=critical,
        margin=critical,
        equivalence=float(stdtrit(freedom, 1 - alpha)),
    )


def _p(seen: Floats, drawn: Floats, testable: Flags) -> Floats:
    """The share of draws that reach what was seen, which counts as one of them."""
    below = np.searchsorted(drawn, seen - _TOLERANCE * np.abs(seen), side="left")
    p = np.where(testable, (1 + len(drawn) - below) / (1 + len(drawn)), np.nan)
    np.fill_diagonal(p, 1.0)
    return p


def _critical(drawn: Floats, alpha: float) -> float:
    """What a statistic must exceed for its p to be at most alpha."""
    rank = int(alpha * (1 + len(drawn)) + _TOLERANCE)
    return float(drawn[-rank]) if rank else np.inf
