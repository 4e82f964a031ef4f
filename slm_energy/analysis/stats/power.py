"""Power analysis of a family from its observed spread: detectable differences, rounds needed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from slm_energy.analysis.result.comparison import Power, PowerRow
from slm_energy.analysis.stats.comparison import Comparison, Rule
from slm_energy.analysis.stats.effect_size import GOOD_POWER, MOST_ROUNDS, Floats, power
from slm_energy.analysis.stats.max_t import smallest_rounds

DIFFERENCES = (0.01, 0.02, 0.05, 0.1, 0.2)


def plan(comparison: Comparison, rule: Rule) -> Power | None:
    """Planning figures; None where no pair has a spread."""
    cells = len(comparison.ranked)
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
    ahead = np.unique(np.geomspace(max(fewest, 2), MOST_ROUNDS, 400).astype(np.int64))
    here = np.array([rounds])

    def chance(numbers: npt.NDArray[np.int64], effect: float) -> Floats:
        return _chance(numbers, effect, cells, rule.alpha, comparison.prior_df)

    rows = []
    for difference in sorted({*DIFFERENCES, rule.margin} - {0.0}):
        effect = -math.log1p(-difference) / spread
        enough = ahead[chance(ahead, effect) >= GOOD_POWER]
        power_here = float(chance(here, effect)[0]) if rounds >= fewest else 0.0
        rows.append(
            PowerRow(
                difference_pct=100 * difference,
                power=power_here,
                rounds=int(enough[0]) if enough.size else None,
            )
        )
    return Power(
        rounds=rounds,
        spread_pct=100 * math.expm1(spread),
        pairs=len(comparison.pairs),
        smallest_rounds=fewest,
        detectable_pct=_detectable(lambda log: float(chance(here, log / spread)[0]))
        if rounds >= fewest
        else None,
        rows=tuple(rows),
    )


def minimum_detectable(sd: float, rounds: int, cells: int, alpha: float) -> float | None:
    """The difference of two cells, in per cent, that a study detects with power `GOOD_POWER`.

    As in `plan`, for cells that are all as noisy as one that was observed: the log ratio of two of
    them has the standard deviation sqrt(2) sd over rounds, and their variances are pooled.

    Args:
        sd: standard deviation of one trial's log value, rounds taken out.
        rounds: how many.
        cells: that are compared with each other.
        alpha: family-wise error.

    Returns:
        None where so few rounds can show no difference, or power is lower at 1,000 %.
    """
    if rounds < smallest_rounds(cells, alpha):
        return None
    spread, here = math.sqrt(2) * sd, np.array([rounds])
    return _detectable(lambda log: float(_chance(here, log / spread, cells, alpha, math.inf)[0]))


def _chance(
    rounds: npt.NDArray[np.int64], effect: float, cells: int, alpha: float, prior_df: float
) -> Floats:
    """Chance to find a difference, for numbers of rounds.

    The test adjusts for all pairs; its power is taken as a t test's at alpha / pairs. Equally noisy
    cells share one variance in most draws of the reference, not in all: the power is that of half
    of the family's degrees of freedom (`benchmarks/simulated_lab.py --power`).

    Args:
        rounds: each at least 2.
        effect: true mean log ratio over its standard deviation.
        cells: that are compared with each other.
        alpha: family-wise error.
        prior_df: see `MaxT`.
    """
    own = rounds - 1
    freedom = np.minimum(own + prior_df, own * cells / 2)
    return power(rounds, effect, alpha / (cells * (cells - 1) / 2), freedom)


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
