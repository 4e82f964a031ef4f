"""The verdict about one pair; `paired` states the rule for the instruments at its top."""

from __future__ import annotations

import dataclasses

import numpy as np

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.verdict import COARSE, Verdict
from slm_energy.analysis.stats.comparison import Rule
from slm_energy.analysis.stats.effect_size import MOST_ROUNDS, Floats, rounds_to_settle
from slm_energy.analysis.stats.max_t import FEWEST, smallest_rounds


def decide(
    pair: Pair,
    ratios: Floats,
    half: float | None,
    resolution: float | None,
    rule: Rule,
    cells: int,
) -> Pair:
    """Add the verdict.

    The t interval decides against the margin. With more than two cells a difference must also have
    an adjusted p of at most alpha; with two there is one comparison and nothing to adjust. An
    equivalence needs an adjusted TOST p of at most alpha.

    Args:
        pair: with all figures.
        ratios: its log ratios, one per shared round.
        half: half the width of their t interval; None where it is unknown.
        resolution: how far the instruments could be off on the log scale; None without intervals.
        rule: how to decide.
        cells: in the family.
    """
    if pair.rounds == 0:
        return dataclasses.replace(pair, reason="no round in which both are valid")
    if pair.rounds == 1:
        return dataclasses.replace(pair, reason="one round gives no interval", more_rounds=1)
    if half is None:
        reason = "the ratio is the same in every round, so its spread is unknown"
        return dataclasses.replace(pair, reason=reason)
    verdict, reason, more = _decide(pair, ratios, half, resolution or 0.0, rule, cells)
    return dataclasses.replace(pair, verdict=verdict, reason=reason, more_rounds=more)


def _decide(
    pair: Pair, ratios: Floats, half: float, resolution: float, rule: Rule, cells: int
) -> tuple[Verdict, str, int | None]:
    """Verdict, reason and further rounds."""
    n, mean = pair.rounds, float(ratios.mean())
    spread = float(np.std(ratios, ddof=1))
    size, band, alpha, tests = abs(mean), rule.band, rule.alpha, cells * (cells - 1) // 2

    def settle(gap: float, level: float, fewest: int = 0) -> int | None:
        return rounds_to_settle(spread, gap, level, max(n + 1, fewest))

    if size + half < band:
        if resolution >= band:
            return COARSE, _coarse(resolution, "the margin"), None
        if size + half + resolution >= band:
            needed = settle(band - resolution - size, alpha)
            return _open("with the instruments' interval added, it crosses the margin", needed, n)
        if pair.p_equivalent is not None and pair.p_equivalent > alpha:
            needed = settle(band - size, 2 * alpha / tests)
            return _open(f"equivalence is not shown after adjustment for {tests} pairs", needed, n)
        return "equivalent", "", None
    if size - half <= band:
        if size <= resolution and resolution >= band:
            return COARSE, _coarse(resolution, "the difference"), None
        needed = settle(abs(size - band), alpha)
        return _open("the interval crosses the margin", needed, n)
    if cells > 2 and pair.p is not None and pair.p > alpha:
        needed = settle(size, alpha / tests, smallest_rounds(cells, alpha))
        return _open(f"p adjusted for {tests} pairs is above {alpha:g}", needed, n)
    if cells > 2 and pair.p is None:
        return "inconclusive", f"an adjusted p needs {FEWEST} rounds valid for both", FEWEST - n
    if size <= resolution:
        return COARSE, _coarse(resolution, "the difference"), None
    if size - half <= resolution:
        needed = settle(size - resolution, alpha)
        return _open("with the instruments' interval added, it includes 1", needed, n)
    if (mean < 0) == rule.higher_is_better:
        return "worse", "", None
    return ("gains" if rule.higher_is_better else "saves"), "", None


def _coarse(resolution: float, what: str) -> str:
    if np.isinf(resolution):
        return "the interval of an instrument extends to zero"
    return f"the instruments resolve {100 * np.expm1(resolution):.2g} %, and {what} is not larger"


def _open(reason: str, needed: int | None, have: int) -> tuple[Verdict, str, int | None]:
    if needed is None:
        return "inconclusive", f"{reason}; more than {MOST_ROUNDS:,} rounds would be needed", None
    return "inconclusive", reason, needed - have
