"""The step of a counter, learnt from the values that it showed. Pure.

A meter may print more digits than it counts (12.000 in steps of 1), or digits that are only the
error of a float32 (12.345000267), so digits do not tell the step. Differences between values do:
all of them are multiples of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_FEWEST = 4
_COARSE = 10
"""An exact common divisor of a few differences means a grid if it is larger than this: differences
that are off by float32 errors have small ones."""

_MOST_PARTS = 64
_MOST_RISES = 200
_MISFIT = 0.25


def step_of(values: Sequence[int]) -> int | None:
    """The step, or more than it: never less.

    Args:
        values: of a counter, in order of time and in a unit much smaller than the step.

    Returns:
        The greatest common divisor of the differences where they have one, else the largest part of
        the least difference that all are multiples of within the error of a float32, else the
        least difference; None if the counter did not rise.
    """
    rises = sorted(later - earlier for earlier, later in pairwise(values) if later > earlier)
    if not rises:
        return None
    divisor = math.gcd(*rises)
    if len(rises) >= _FEWEST and divisor > _COARSE:
        return divisor
    rises = rises[:_MOST_RISES]
    error = max(values) / 2**22 + 2
    fits = (_fitted(rises, rises[0] / parts, error) for parts in range(1, _MOST_PARTS + 1))
    step = next((step for step in fits if step is not None), float(rises[0]))
    return math.ceil(step + error)


def _fitted(rises: Sequence[int], step: float, error: float) -> float | None:
    """The step close to `step` that all rises are multiples of; None if there is none.

    Args:
        rises: in ascending order: each makes the step more exact for the next.
        step: a first guess.
        error: of a rise.
    """
    total = times = 0
    for rise in rises:
        multiple = round(rise / step)
        if multiple == 0 or abs(rise - multiple * step) > min(error, _MISFIT * step):
            return None
        total, times = total + rise, times + multiple
        step = total / times
    return step
