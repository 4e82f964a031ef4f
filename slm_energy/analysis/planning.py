"""What a family's rounds can find, and how many rounds it takes: from the spread that was seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from slm_energy.analysis.compare import Comparison, Rule
from slm_energy.analysis.effect import GOOD_POWER, MOST_ROUNDS, Floats, power
from slm_energy.analysis.permute import smallest_rounds
from slm_energy.analysis.result import Power, PowerRow

DIFFERENCES = (0.01, 0.02, 0.05, 0.1, 0.2)


def plan(comparison: Comparison, rule: Rule) -> Power | None:
    """Planning figures; None where no pair has a spread.

    The test adjusts for all pairs; its power is taken as a t test's at alpha / pairs, with the
    degrees of freedom of one cell's variance, which is a little less than it has.
    """
    cells, tests = len(comparison.ranked), len(comparison.pairs)
    known = [
        (pair.rounds, abs(math.log(pair.ratio) / pair.t) * math.sqrt(pair.rounds))
        for pair in comparison.pairs
        if pair.t is not None and pair.ratio is not None and pair.t != 0
    ]
    if not known:
        return None
    rounds = int(np.median([n for n, _ in known]))
    spread = float(np.median([sd for _, sd in known]))
    fewest = smallest_rounds(cells, rule.alpha)
    alpha = rule.alpha / tests
    ahead = np.unique(np.geomspace(max(fewest, 2), MOST_ROUNDS, 400).astype(np.int64))
    here = np.array([rounds])

    def chance(numbers: npt.NDArray[np.int64], effect: float) -> Floats:
        own = numbers - 1
        freedom = np.minimum(own + comparison.lent, own * (cells - 1))
        return power(numbers, effect, alpha, freedom)

    rows = []
    for difference in sorted({*DIFFERENCES, rule.margin} - {0.0}):
        effect = -math.log1p(-difference) / spread
        enough = ahead[chance(ahead, effect) >= GOOD_POWER]
        found = float(chance(here, effect)[0]) if rounds >= fewest else 0.0
        rows.append(
            PowerRow(
                difference_pct=100 * difference,
                power=found,
                rounds=int(enough[0]) if enough.size else None,
            )
        )
    return Power(
        rounds=rounds,
        spread_pct=100 * math.expm1(spread),
        pairs=tests,
        smallest_rounds=fewest,
        detectable_pct=_detectable(lambda log: float(chance(here, log / spread)[0]))
        if rounds >= fewest
        else None,
        rows=tuple(rows),
    )


def _detectable(chance: Callable[[float], float]) -> float | None:
    """The difference that is found with good power, by bisection on its log."""
    low, high = 0.0, math.log(11)
    if chance(high) < GOOD_POWER:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if chance(middle) < GOOD_POWER:
            low = middle
        else:
            high = middle
    return 100 * math.expm1(high)
