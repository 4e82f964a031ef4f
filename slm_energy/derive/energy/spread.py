"""The spread of samples: how far a sum may be from the truth, seen in the samples themselves. Pure.

Power that a sensor does not observe is known from what it observes only: power between two samples,
the part of each update period in which a part-time sensor does not look, the noise that a filter
adds. `unobserved.py` and `power.py` widen intervals by these.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Sequence

_ERRORS = 2
_BATCHES = 8
_BATCH_ERRORS = 3
_FILTER_ERRORS = 3
"""One more than for even power: steps at high power count for more."""


def noise(lengths: Sequence[float], powers: Sequence[float]) -> float:
    """Two standard errors of an integral, because power between samples is unknown.

    von Neumann's estimate of a variance from successive differences: it excludes slow change, which
    the trapezoidal rule follows.

    Args:
        lengths: (n - 1,) time between two samples.
        powers: (n,) the samples.

    Returns:
        In the product of both units.
    """
    changes = map(operator.sub, powers[1:], powers)
    # Differences have twice the variance of samples.
    return _ERRORS * math.hypot(*map(operator.mul, changes, lengths)) / math.sqrt(2)


def batches(powers: Sequence[float], duration: float) -> float:
    """Three standard errors from the means of few batches, which show beats of load and sensor."""
    size = max(1, len(powers) // _BATCHES)
    means = [statistics.fmean(powers[at : at + size]) for at in range(0, len(powers), size)]
    return _BATCH_ERRORS * statistics.stdev(means) / math.sqrt(len(means)) * duration


def distorted(energy: float, share: float, periods: float) -> float:
    """Three standard errors of a sum of steps, each off by at most a share of itself, at random.

    A uniform error of up to `share` has a standard deviation of `share` over the root of 3.
    """
    return _FILTER_ERRORS * share / math.sqrt(3) * energy / math.sqrt(periods)
