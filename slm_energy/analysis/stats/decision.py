"""The verdict about one pair, by intervals that hold for all pairs of the family together.

The simultaneous interval decides against the margin, the interval of two one-sided tests decides
on equivalence; with two cells both are t intervals. `paired` has the rule for the instruments.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.verdict import COARSE, Verdict
from slm_energy.analysis.stats.comparison import Rule
from slm_energy.analysis.stats.effect_size import MOST_ROUNDS
from slm_energy.analysis.stats.max_t import FEWEST
from slm_energy.analysis.stats.settling import Outlook, more_rounds
from slm_energy.analysis.stats.simultaneous import Simultaneous

_LARGEST_LOG = 700.0
"""Of a ratio that a float can hold."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """One pair of those that were tested together. Widths are on the log scale.

    Attributes:
        p: of no difference, adjusted for all that share alpha.
        p_margin: of a difference of at most the margin.
        p_equivalent: of a difference of the margin or more.
        error: standard error of the log ratio.
        joint: half the width of the simultaneous interval.
        beyond: how far a log ratio must be beyond the margin.
        tost: half the width of the interval that equivalence is judged by.
    """

    p: float
    p_margin: float
    p_equivalent: float
    error: float
    joint: float
    beyond: float
    tost: float


def tested(pairs: Simultaneous | None, at: tuple[int, int], rule: Rule) -> Tested | None:
    """What was found of the pair `at`; None where it could not be tested."""
    if pairs is None or np.isnan(pairs.p[at]):
        return None
    p, p_margin, p_equivalent = (
        min(1.0, rule.sharing * float(part[at]))
        for part in (pairs.p, pairs.p_margin, pairs.p_equivalent)
    )
    error = float(pairs.error[at])
    return Tested(
        p=p,
        p_margin=p_margin,
        p_equivalent=p_equivalent,
        error=error,
        joint=pairs.difference * error,
        beyond=pairs.margin * error,
        tost=pairs.equivalence * error,
    )


def with_intervals(pair: Pair, test: Tested, resolution: float | None, rule: Rule) -> Pair:
    """Add p and intervals that hold for all pairs together.

    Args:
        pair: with its ratio.
        test: what was found of it.
        resolution: how far the instruments could be off on the log scale; None where unknown.
        rule: the margin and alpha.
    """
    assert pair.ratio is not None
    mean = math.log(pair.ratio)
    low, high = mean - test.joint, mean + test.joint
    if test.p_margin <= rule.alpha:
        low, high = (max(low, rule.band), high) if mean > 0 else (low, min(high, -rule.band))
    wide = math.inf if resolution is None else resolution
    return dataclasses.replace(
        pair,
        p_margin=test.p_margin,
        p_equivalent=test.p_equivalent,
        joint_low=_ratio(low),
        joint_high=_ratio(high),
        joint_wide_low=_ratio(low - wide),
        joint_wide_high=_ratio(high + wide),
        tost_low=_ratio(mean - test.tost),
        tost_high=_ratio(mean + test.tost),
    )


def _ratio(log: float) -> float | None:
    return math.exp(log) if abs(log) < _LARGEST_LOG else None


def decide(
    pair: Pair,
    half: float | None,
    test: Tested | None,
    resolution: float | None,
    rule: Rule,
    freedom: float | None,
) -> Pair:
    """Add the verdict.

    Args:
        pair: with all figures.
        half: half the width of its own t interval; None where its spread is unknown.
        test: what was found of it; None where it could not be tested.
        resolution: how far the instruments could be off on the log scale; None without intervals.
        rule: how to decide.
        freedom: degrees of freedom of the standard error; None where rounds do not reduce it.
    """
    n = pair.rounds
    if n == 0:
        return dataclasses.replace(pair, reason="no round in which both are valid")
    if n == 1:
        return dataclasses.replace(pair, reason="one round gives no interval")
    if half is None:
        reason = "the ratio is the same in every round, so its spread is unknown"
        return dataclasses.replace(pair, reason=reason)
    if test is None:
        reason = f"a simultaneous interval needs {FEWEST} rounds valid for both"
        return dataclasses.replace(pair, reason=reason)
    verdict, reason, is_open = judge(pair, test, resolution or 0.0, rule)
    if not is_open or freedom is None:
        return dataclasses.replace(pair, verdict=verdict, reason=reason)
    assert pair.ratio is not None
    needed = more_rounds(
        Outlook(
            mean=math.log(pair.ratio),
            error=test.error,
            rounds=n,
            freedom=freedom,
            margin=test.beyond / test.error,
            difference=test.joint / test.error,
            equivalence=test.tost / test.error,
            band=rule.band,
            resolution=resolution or 0.0,
        )
    )
    if needed is None:
        reason += f"; more than {MOST_ROUNDS:,} rounds would be needed"
    return dataclasses.replace(pair, verdict=verdict, reason=reason, more_rounds=needed)


def judge(pair: Pair, test: Tested, resolution: float, rule: Rule) -> tuple[Verdict, str, bool]:
    """Verdict, reason, and whether more rounds could bring another one.

    Args:
        pair: with its ratio.
        test: what was found of it.
        resolution: how far the instruments could be off on the log scale.
        rule: how to decide.
    """
    assert pair.ratio is not None
    mean, band = math.log(pair.ratio), rule.band
    size = abs(mean)
    if test.p_equivalent <= rule.alpha:
        if resolution >= band:
            return COARSE, _coarse(resolution, "the margin"), False
        if size + test.tost + resolution >= band:
            reason = "with the instruments' interval added, it crosses the margin"
            return "inconclusive", reason, True
        return "equivalent", "", False
    if test.p_margin > rule.alpha:
        if size <= resolution and resolution >= band:
            return COARSE, _coarse(resolution, "the difference"), False
        return "inconclusive", "the interval crosses the margin", True
    if size <= resolution:
        return COARSE, _coarse(resolution, "the difference"), False
    if size - test.joint <= resolution:
        reason = "with the instruments' interval added, it includes 1"
        return "inconclusive", reason, True
    if (mean < 0) == rule.higher_is_better:
        return "worse", "", False
    return ("gains" if rule.higher_is_better else "saves"), "", False


def _coarse(resolution: float, what: str) -> str:
    if np.isinf(resolution):
        return "the interval of an instrument extends to zero"
    return f"the instruments resolve {100 * np.expm1(resolution):.2g} %, and {what} is not larger"
