"""How many more rounds bring a verdict about a pair that has none yet, with a good chance.

Mean and spread are known only as well as the rounds so far show them, so the chance is averaged
over what they may be (predictive power: Spiegelhalter, Freedman and Blackburn 1986, Controlled
Clinical Trials 7): with nothing known before the study, the spread over the observed one has the
distribution that chi-squared gives it, and the mean after further rounds is normal about the
present one. A plan that takes the observed mean and spread for the true ones settles a pair in 0.26
to 0.49 of cases; `benchmarks/simulated_lab.py --diagnostics` prints how often this one does.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import chdtri, ndtr, stdtr, stdtrit

from slm_energy.analysis.stats.effect_size import GOOD_POWER, MOST_ROUNDS, Floats

_GRID = 80
_SPREADS = (np.arange(12) + 0.5) / 12
"""Quantiles that the spread is averaged over."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """One pair as it is now, on the log scale.

    Attributes:
        mean: log ratio.
        error: its standard error.
        rounds: n, at least 2.
        freedom: degrees of freedom of the standard error; they grow with n - 1.
        margin: critical value of a difference beyond the margin, in standard errors.
        difference: of a difference from 1.
        equivalence: of a difference within the margin.
        band: the margin.
        resolution: how far the instruments could be off.
    """

    mean: float
    error: float
    rounds: int
    freedom: float
    margin: float
    difference: float
    equivalence: float
    band: float
    resolution: float


def more_rounds(pair: Outlook) -> int | None:
    """Fewest further rounds with a chance of `GOOD_POWER` of a verdict: saves, worse, equivalent.

    Returns:
        None where more than `MOST_ROUNDS` rounds would be needed in all.
    """
    first = pair.rounds + 1
    if first > MOST_ROUNDS:
        return None
    ahead = np.unique(np.geomspace(first, MOST_ROUNDS, _GRID).astype(np.int64))
    enough = np.flatnonzero(chance(pair, ahead.astype(float)) >= GOOD_POWER)
    if not enough.size:
        return None
    at = int(enough[0])
    between = np.arange(ahead[at - 1] + 1 if at else first, ahead[at] + 1)
    reached = chance(pair, between.astype(float)) >= GOOD_POWER
    return int(between[reached][0]) - pair.rounds


def chance(pair: Outlook, rounds: Floats) -> Floats:
    """Chance that a verdict is reached by then, for total numbers of rounds above the present."""
    squares = pair.error**2 * pair.rounds * pair.freedom / chdtri(pair.freedom, _SPREADS)
    spread = np.sqrt(squares)[:, None]
    error = spread / np.sqrt(rounds)
    freedom = pair.freedom * (rounds - 1) / (pair.rounds - 1)
    margin, difference, equivalence = (
        -stdtrit(freedom, stdtr(pair.freedom, -now))
        for now in (pair.margin, pair.difference, pair.equivalence)
    )
    beyond = np.maximum(pair.band + margin * error, pair.resolution + difference * error)
    within = np.maximum(pair.band - pair.resolution - equivalence * error, 0)
    moves = spread * np.sqrt((rounds - pair.rounds) / (pair.rounds * rounds))
    open_above = ndtr((beyond - pair.mean) / moves) - ndtr((within - pair.mean) / moves)
    open_below = ndtr((-within - pair.mean) / moves) - ndtr((-beyond - pair.mean) / moves)
    return np.asarray(1 - (open_above + open_below).mean(axis=0))
