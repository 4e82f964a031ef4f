"""One cell in two studies: independent samples, judged by Welch's t interval on the log ratio.

The trials of two studies have no round in common. A study's rounds vary within its cells, so drift
within a study is in the interval, which is wider where a round resembles the next
(`autocorrelation`); what shifts a whole study is not. For that there is `floor`: what two studies
of the same thing differ by on this machine. More trials narrow neither the floor nor the
instruments' own interval, so both are applied in addition to the interval:

    regression, improvement  the simultaneous interval lies beyond the margin, and beyond floor and
                             instruments
    equivalent               the interval of the pair alone, widened by floor and instruments, lies
                             within the margin; TOST's p is at most alpha
    below the resolution     the instruments could have made the difference, or hidden one beyond
                             the margin, whatever the number of trials
    inconclusive             otherwise

All p are adjusted with Holm over the pairs that are judged together; p of a difference within the
margin is Hodges and Lehmann's (1954). The simultaneous intervals are Bonferroni's, and end at the
margin where only the stepwise test is beyond it. Pure functions of arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.autocorrelation import dependence
from slm_energy.analysis.stats.effect_size import Floats, holm

_NO_DIFFERENCE = 1e-12
"""Of two mean logarithms of the same value."""

Change = Literal[
    "regression", "improvement", "equivalent", "inconclusive", "below the instrument's resolution"
]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One metric of one cell in one study.

    Attributes:
        logs: log value of each usable trial; at least one.
        below: how far the lower ends of the measurement's own intervals are below the values: mean
            of log ratios, infinite where an end is zero; None where there are no intervals.
        above: how far the upper ends are above.
        rounds: the round of each trial; empty where trials are not of rounds.
    """

    logs: Floats
    below: float | None = None
    above: float | None = None
    rounds: tuple[int, ...] = ()

    @property
    def by_round(self) -> dict[int, float]:
        """Round to log value."""
        return dict(zip(self.rounds, map(float, self.logs), strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndependentPair:
    """One metric of one cell in studies A and B.

    Attributes:
        metric: which.
        cell: its label.
        a: the trials in A.
        b: those in B.
        correlation: of a round with the next, within each study.
    """

    metric: Metric
    cell: str
    a: Sample
    b: Sample
    correlation: float = 0.0

    @property
    def mean(self) -> float:
        """Log of the ratio B / A."""
        return float(self.b.logs.mean() - self.a.logs.mean())

    @property
    def resolution(self) -> float | None:
        """How far that is off if both instruments err as far as they can, in opposite ways."""
        a, b = self.a, self.b
        if a.below is None or a.above is None or b.below is None or b.above is None:
            return None
        return max(b.below + a.above, b.above + a.below)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellChange:
    """One metric of one cell in both studies.

    Attributes:
        cell: its label.
        a_trials: usable trials in A.
        b_trials: usable trials in B.
        a: geometric mean in A.
        b: geometric mean in B.
        ratio: b / a.
        low: lower end of Welch's t interval of the ratio, for this pair alone (marginal); None
            where it cannot be computed.
        high: upper end.
        instrument: the factor by which the instruments could have got the ratio wrong, at least 1;
            None where the metric has no intervals, or one has no end.
        p: of no difference, adjusted.
        p_equivalent: of a difference of the margin or more (TOST), adjusted.
        verdict: about B.
        reason: why there is no other verdict; empty for regression, improvement and equivalent.
        p_margin: of a difference of at most the margin, adjusted; None where unknown.
        joint_low: lower end of the simultaneous interval: with confidence 1 - alpha those of all
            pairs hold together. It is beyond the margin where p_margin is at most alpha.
        joint_high: upper end.
        freedom: degrees of freedom of the intervals; None where there are none, and in comparisons
            of earlier versions.
    """

    cell: str
    a_trials: int
    b_trials: int
    a: float
    b: float
    ratio: float
    low: float | None = None
    high: float | None = None
    instrument: float | None = None
    p: float | None = None
    p_equivalent: float | None = None
    verdict: Change = "inconclusive"
    reason: str = ""
    p_margin: float | None = None
    joint_low: float | None = None
    joint_high: float | None = None
    freedom: float | None = None

    @property
    def stated(self) -> str:
        """The verdict in words: without any spread nothing was tested."""
        untested = self.verdict == "inconclusive" and self.p is None
        return "not tested" if untested else self.verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """What decides, on the log scale; `tests` is how many pairs p is adjusted for."""

    band: float
    floor: float
    alpha: float
    tests: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Welch:
    """The log ratio's standard error and degrees of freedom, half its t interval, and p."""

    error: float
    freedom: float
    half: float
    p: float
    p_margin: float
    p_equivalent: float


def judge(
    pairs: Sequence[IndependentPair], *, margin: float, alpha: float, floor: float
) -> tuple[CellChange, ...]:
    """Judge all pairs as one family.

    Args:
        pairs: what is compared.
        margin: a smaller relative difference does not matter.
        alpha: family-wise error; intervals have confidence 1 - alpha.
        floor: relative difference of two studies of the same thing on this machine.
    """
    band = -math.log1p(-margin)  # as in the report: the same whichever study is named first
    tested = {i: test for i, pair in enumerate(pairs) if (test := _welch(pair, band, alpha))}
    raw = [(test.p, test.p_margin, test.p_equivalent) for test in tested.values()]
    columns = [holm(np.array(column)) for column in zip(*raw, strict=True)]
    adjusted = {
        i: dataclasses.replace(test, p=float(p), p_margin=float(within), p_equivalent=float(tost))
        for (i, test), p, within, tost in zip(tested.items(), *columns, strict=True)
    }
    rule = _Rule(band=band, floor=math.log1p(floor), alpha=alpha, tests=len(tested))
    return tuple(_change(pair, adjusted.get(i), rule) for i, pair in enumerate(pairs))


def noise(pairs: Sequence[IndependentPair]) -> float | None:
    """Standard deviation of trials within a cell and study, pooled, in per cent."""
    samples = [sample.logs for pair in pairs for sample in (pair.a, pair.b)]
    freedom = sum(len(logs) - 1 for logs in samples)
    if freedom == 0:
        return None
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in samples)
    return 100 * math.expm1(math.sqrt(squares / freedom))


def _welch(pair: IndependentPair, band: float, alpha: float) -> _Welch | None:
    """Welch's t tests (1947) of no difference, of one within the margin and of one beyond it.

    Where rounds are correlated, a sample counts as as many independent trials as its mean is worth.
    None where no spread is known.
    """
    samples = (pair.a.logs, pair.b.logs)
    if min(map(len, samples)) < 2:
        return None
    worth = [dependence(len(logs), pair.correlation) for logs in samples]
    parts = np.array(
        [
            float(np.var(logs, ddof=1)) / each.shrinkage / each.effective
            for logs, each in zip(samples, worth, strict=True)
        ]
    )
    error = math.sqrt(parts.sum())
    if error < _NO_DIFFERENCE:
        return None
    own = [max(each.effective - 1, 1) for each in worth]
    freedom = float(parts.sum() ** 2 / (parts**2 / own).sum())
    size = abs(pair.mean)
    return _Welch(
        error=error,
        freedom=freedom,
        half=float(stats.t.ppf(1 - alpha / 2, freedom)) * error,
        p=float(2 * stats.t.sf(size / error, freedom)),
        p_margin=float(stats.t.sf(np.array([size - band, size + band]) / error, freedom).sum()),
        p_equivalent=float(stats.t.sf((band - size) / error, freedom)),
    )


def _change(pair: IndependentPair, test: _Welch | None, rule: _Rule) -> CellChange:
    mean, resolution = pair.mean, pair.resolution
    known = resolution is not None and math.isfinite(resolution)
    change = CellChange(
        cell=pair.cell,
        a_trials=len(pair.a.logs),
        b_trials=len(pair.b.logs),
        a=math.exp(float(pair.a.logs.mean())),
        b=math.exp(float(pair.b.logs.mean())),
        ratio=math.exp(mean),
        instrument=math.exp(resolution) if resolution is not None and known else None,
    )
    if test is None:
        alone = min(change.a_trials, change.b_trials) < 2
        why = "one trial in a study gives no interval: raise study.rounds"
        same = "the values do not vary, so their spread is unknown"
        equal = abs(mean) < _NO_DIFFERENCE and not pair.resolution
        if (pair.metric.is_share or equal) and not alone:
            return dataclasses.replace(change, verdict=_plain_verdict(pair, rule.band))
        return dataclasses.replace(change, reason=why if alone else same)
    joint = float(stats.t.ppf(1 - rule.alpha / (2 * rule.tests), test.freedom)) * test.error
    verdict, reason = _verdict(pair, test, joint, rule)
    low, high = mean - joint, mean + joint
    if test.p_margin <= rule.alpha:
        low, high = (max(low, rule.band), high) if mean > 0 else (low, min(high, -rule.band))
    return dataclasses.replace(
        change,
        low=math.exp(mean - test.half),
        high=math.exp(mean + test.half),
        joint_low=math.exp(low),
        joint_high=math.exp(high),
        freedom=test.freedom,
        p=test.p,
        p_margin=test.p_margin,
        p_equivalent=test.p_equivalent,
        verdict=verdict,
        reason=reason,
    )


def _plain_verdict(pair: IndependentPair, band: float) -> Change:
    """Of values without noise: shares under greedy decoding, or the same value on both sides."""
    if abs(pair.mean) <= band:
        return "equivalent"
    return "regression" if (pair.mean < 0) == pair.metric.higher_is_better else "improvement"


def _verdict(pair: IndependentPair, test: _Welch, joint: float, rule: _Rule) -> tuple[Change, str]:
    """Verdict and reason: see the top of this file."""
    size, half, band = abs(pair.mean), test.half, rule.band
    resolution = pair.resolution or 0.0
    beside = resolution + rule.floor
    if pair.resolution is not None and resolution >= max(band, size):
        if math.isinf(resolution):
            return (
                "below the instrument's resolution",
                "the interval of an instrument extends to zero",
            )
        why = f"the instruments resolve {100 * math.expm1(resolution):.2g} %"
        return "below the instrument's resolution", why
    if size + half < band:
        if size + half + beside >= band:
            return "inconclusive", "with instruments and floor added, it crosses the margin"
        if test.p_equivalent > rule.alpha:
            return (
                "inconclusive",
                f"equivalence is not shown after adjustment for {rule.tests} tests",
            )
        return "equivalent", ""
    if test.p_margin > rule.alpha:
        return "inconclusive", "the interval crosses the margin"
    if size - joint <= beside:
        return "inconclusive", "with instruments and floor added, it includes 1"
    worse = (pair.mean < 0) == pair.metric.higher_is_better
    return ("regression" if worse else "improvement"), ""
