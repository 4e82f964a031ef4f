"""Which cell costs less, by how much, and how sure: a complete-block comparison of log values.

The trial is the unit and the round is the block. For each pair of cells: the ratio of geometric
means over the rounds in which both are valid, with a t interval on the log ratio; and, over the
rounds in which all cells are valid, a p-value adjusted for all pairs. Pure functions of arrays.

What it does not know: systematic errors shared by all trials. The measurement's own interval is
carried along for that, and a difference inside it is called below the instrument's resolution.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from slm_energy.analysis.effect import (
    MOST_ROUNDS,
    Flags,
    Floats,
    cliffs_delta,
    half_width,
    rounds_to_settle,
)
from slm_energy.analysis.permute import MaxT, max_t, smallest_rounds

Verdict = Literal["saves", "gains", "worse", "equivalent", "inconclusive"]
Asked = Literal["best", "all"] | Sequence[tuple[str, str]]

COARSE = "below the instrument's resolution"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One metric over the plan.

    Attributes:
        cells: k ids.
        values: rounds x k; positive, NaN where there is no valid value.
        low: lower ends of the measurement's own intervals, same shape; None if there are none.
        high: upper ends.
    """

    cells: tuple[str, ...]
    values: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a comparison decides.

    Attributes:
        alpha: family-wise error; intervals have confidence 1 - alpha.
        margin: a smaller relative difference does not matter.
        permutations: random permutations where there are too many to enumerate.
        seed: of these permutations.
        higher_is_better: True for throughput.
    """

    alpha: float = 0.05
    margin: float = 0.02
    permutations: int = 9999
    seed: int = 0
    higher_is_better: bool = False

    @property
    def band(self) -> float:
        """The margin on the log scale; the same whichever cell of a pair is named first."""
        return -float(np.log1p(-self.margin))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Cell `a` against cell `b`.

    Attributes:
        a: a cell id.
        b: another.
        rounds: rounds in which both are valid; ratio, interval, won and delta are over these.
        won: of these, the rounds in which `a` is better.
        ratio: geometric mean of a / b; None without a common round.
        low: lower end of the ratio's t interval; None where it cannot be computed.
        high: upper end.
        wide_low: the same end when the measurement's own interval is added; None if there is none.
        wide_high: upper end; None also where it has no end.
        p: adjusted for all pairs of cells; None with fewer than two complete rounds.
        delta: Cliff's delta, from -1 to 1; negative when `a` is mostly smaller. Ignores rounds.
        verdict: about `a`, against the margin.
        reason: why it is inconclusive; empty otherwise.
        more_rounds: further rounds that would settle it if the spread stays; None if none would.
    """

    a: str
    b: str
    rounds: int
    won: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    wide_low: float | None = None
    wide_high: float | None = None
    p: float | None = None
    delta: float | None = None
    verdict: Verdict = "inconclusive"
    reason: str = ""
    more_rounds: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One metric over all cells that have it.

    Attributes:
        ranked: cells from best to worst: geometric mean over the complete rounds if there are any,
            else over each cell's own rounds.
        left_out: cells without a valid value.
        rounds: all rounds.
        complete_rounds: rounds in which every ranked cell is valid.
        permutations: how many the p-values rest on.
        exact: True when these are all there are.
        smallest_rounds: fewest rounds in which p can reach alpha with this number of cells.
        pairs: the pairs that were asked for.
    """

    ranked: tuple[str, ...]
    left_out: tuple[str, ...]
    rounds: int
    complete_rounds: int
    permutations: int
    exact: bool
    smallest_rounds: int
    pairs: tuple[Pair, ...]


def compare(block: Block, rule: Rule, asked: Asked = "best") -> Comparison:
    """Compare the cells of a block.

    Args:
        block: the values.
        rule: how to decide.
        asked: `best` compares the best cell with each other one, `all` every pair, better ranked
            first; or the pairs themselves, of which those with a value for both are compared. p is
            adjusted for all pairs of cells in any case, since the best is chosen by the same data.
    """
    ranked = ranking(block, rule)
    order = [block.cells.index(cell) for cell in ranked]
    logs = np.log(block.values[:, order])
    complete: Flags = np.asarray(~np.isnan(logs).any(axis=1))
    test = max_t(logs[complete], rule.permutations, rule.seed)
    if asked == "all":
        places = list(itertools.combinations(range(len(ranked)), 2))
    elif asked == "best":
        places = [(0, i) for i in range(1, len(ranked))]
    else:
        known = [(a, b) for a, b in asked if a in ranked and b in ranked]
        places = [(ranked.index(a), ranked.index(b)) for a, b in known]
    return Comparison(
        ranked=ranked,
        left_out=tuple(cell for cell in block.cells if cell not in ranked),
        rounds=len(complete),
        complete_rounds=int(complete.sum()),
        permutations=test.permutations,
        exact=test.exact,
        smallest_rounds=smallest_rounds(len(ranked), rule.alpha),
        pairs=tuple(_pair(block, ranked, order, i, j, test, rule) for i, j in places),
    )


def ranking(block: Block, rule: Rule) -> tuple[str, ...]:
    """Cells with a value from best to worst; see `Comparison.ranked`."""
    valued = np.flatnonzero(~np.isnan(block.values).all(axis=0))
    logs = np.log(block.values[:, valued])
    complete = ~np.isnan(logs).any(axis=1)
    level = np.nanmean(logs[complete] if complete.any() else logs, axis=0)
    order = np.argsort(-level if rule.higher_is_better else level, kind="stable")
    return tuple(block.cells[i] for i in valued[order])


def _pair(
    block: Block, ranked: tuple[str, ...], order: list[int], i: int, j: int, test: MaxT, rule: Rule
) -> Pair:
    a, b = order[i], order[j]
    both: Flags = np.asarray(~np.isnan(block.values[:, [a, b]]).any(axis=1))
    x, y = block.values[both, a], block.values[both, b]
    n, ratios = int(both.sum()), np.log(x / y)
    better = ratios > 0 if rule.higher_is_better else ratios < 0
    pair = Pair(a=ranked[i], b=ranked[j], rounds=n, won=int(better.sum()))
    if n == 0:
        return dataclasses.replace(pair, reason="no round in which both are valid")
    mean = float(ratios.mean())
    pair = dataclasses.replace(pair, ratio=float(np.exp(mean)), delta=cliffs_delta(x, y))
    if n == 1:
        return dataclasses.replace(pair, reason="one round gives no interval", more_rounds=1)
    p = None if test.p is None else float(test.p[i, j])
    pair = dataclasses.replace(pair, p=p)
    half = half_width(ratios, rule.alpha)
    if half is None:
        return dataclasses.replace(
            pair, reason="the ratio is the same in every round, so its spread is unknown"
        )
    low, high = mean - half, mean + half
    extra = _instrument(block, both, a, b)
    wide = None if extra is None else (low - extra[0], high + extra[1])
    verdict, reason, more = _decide(ratios, half, wide, p, rule, len(ranked))
    return dataclasses.replace(
        pair,
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        wide_low=None if wide is None else float(np.exp(wide[0])),
        wide_high=None if wide is None or np.isinf(wide[1]) else float(np.exp(wide[1])),
        verdict=verdict,
        reason=reason,
        more_rounds=more,
    )


def _instrument(block: Block, both: Flags, a: int, b: int) -> tuple[float, float] | None:
    """How far the measurement's own intervals reach beyond the log ratio, down and up.

    The worst case of both cells, averaged over rounds and not reduced by their number: an
    instrument's error is the same in every round.
    """
    if block.low is None or block.high is None:
        return None
    value, low, high = (part[both][:, [a, b]] for part in (block.values, block.low, block.high))
    if np.isnan(low).any() or np.isnan(high).any():
        return None
    below = np.where(low > 0, np.log(value) - np.log(np.where(low > 0, low, 1)), np.inf)
    above = np.log(high) - np.log(value)
    down = float((below[:, 0] + above[:, 1]).mean())
    up = float((above[:, 0] + below[:, 1]).mean())
    return down, up


def _decide(
    ratios: Floats,
    half: float,
    wide: tuple[float, float] | None,
    p: float | None,
    rule: Rule,
    cells: int,
) -> tuple[Verdict, str, int | None]:
    """Verdict, reason and further rounds.

    The interval decides against the margin. With more than two cells a difference must also have an
    adjusted p of at most alpha; with two there is one comparison and nothing to adjust.
    """
    n, mean, spread = len(ratios), float(ratios.mean()), float(np.std(ratios, ddof=1))
    low, high, band = mean - half, mean + half, rule.band
    if -band < low and high < band:
        if wide is not None and not (-band < wide[0] and wide[1] < band):
            return "inconclusive", COARSE, None
        return "equivalent", "", None
    if not (high < -band or low > band):
        needed = rounds_to_settle(spread, abs(abs(mean) - band), rule.alpha, n + 1)
        return _open("the interval reaches across the margin", needed, n)
    if cells > 2 and p is None:
        return "inconclusive", "fewer than two rounds are complete over all cells", None
    if cells > 2 and p is not None and p > rule.alpha:
        tests = cells * (cells - 1) // 2
        fewest = max(n + 1, smallest_rounds(cells, rule.alpha))
        needed = rounds_to_settle(spread, abs(mean), rule.alpha / tests, fewest)
        return _open(f"p adjusted for {tests} pairs is above {rule.alpha:g}", needed, n)
    if wide is not None and wide[0] <= 0 <= wide[1]:
        return "inconclusive", COARSE, None
    if (mean < 0) == rule.higher_is_better:
        return "worse", "", None
    return ("gains" if rule.higher_is_better else "saves"), "", None


def _open(reason: str, needed: int | None, have: int) -> tuple[Verdict, str, int | None]:
    if needed is None:
        return "inconclusive", f"{reason}; more than {MOST_ROUNDS:,} rounds would be needed", None
    return "inconclusive", reason, needed - have
