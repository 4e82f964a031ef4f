"""Which cell costs less, by how much, and how sure: the comparison of the cells of one family.

The trial is the unit and the round is the block. For each pair of cells, over the rounds in which
both are valid: the ratio of geometric means with a simultaneous and with a t interval on the log
ratio, and p-values adjusted for all pairs. Pure functions of arrays.

What the instruments can resolve. Each value carries the measurement's own interval, which more
rounds do not narrow: an instrument errs alike in every round. The resolution of a pair is the
factor by which its ratio could be wrong if both instruments erred as far as they can, in opposite
directions, averaged over rounds. Then

    a difference        counts only if the interval, widened by the resolution, excludes 1;
                        a ratio nearer to 1 than the resolution is below the instrument's resolution
    an equivalence      counts only if the widened interval lies within the margin; a resolution
                        coarser than the margin can show none
    neither             is below the instrument's resolution when no number of rounds could settle
                        it: the ratio is nearer to 1 than the resolution, which exceeds the margin

Two cells on the same sensors may share an error that cancels in the ratio; that is not known here,
so the worst case is taken.

The verdict rests on intervals that hold for all pairs of the family together (`max_t`); the t
interval of the pair alone is shown beside them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection

import numpy as np

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.stats.comparison import Block, Comparison, Rule, ranking
from slm_energy.analysis.stats.decision import decide, tested, with_intervals
from slm_energy.analysis.stats.effect_size import (
    Flags,
    Floats,
    cliffs_delta,
    cliffs_interval,
    half_width,
)
from slm_energy.analysis.stats.max_t import max_t


def compare(
    block: Block,
    rule: Rule,
    reference: str | None = None,
    only: Collection[frozenset[str]] | None = None,
) -> Comparison:
    """Compare all cells of a block with each other.

    Args:
        block: the values of one family; a cell without any is left out.
        rule: how to decide.
        reference: a cell that comes last in its pairs; the others have the better one first.
        only: the pairs that are wanted; None for all. The others count in p and intervals alike.
    """
    block = block.of(ranking(block, rule))
    logs = np.log(block.values)
    lasting = block.lasting
    family = max_t(
        logs, rule.draws, rule.seed, band=rule.band, alpha=rule.own_alpha, lasting=lasting
    )
    indices = list(itertools.combinations(range(len(block.cells)), 2))
    if only is not None:
        indices = [(i, j) for i, j in indices if {block.cells[i], block.cells[j]} in only]
    indices = [(j, i) if block.cells[i] == reference else (i, j) for i, j in indices]
    pairs = []
    for at in indices:
        seen = _measured(block, logs, *at, rule)
        test, pair = tested(family.pairs, at, rule), seen.pair
        if test is not None:
            pair = dataclasses.replace(pair, p=test.p)
            if seen.half is not None:
                pair = with_intervals(pair, test, seen.resolution, rule)
        own = max(pair.rounds - 1, 1)
        freedom = min(own + family.prior_df, own * len(block.cells) / 2)
        settled = freedom if lasting is None else None
        pairs.append(decide(pair, seen.half, test, seen.resolution, rule, settled))
    return Comparison(
        ranked=block.cells,
        complete_rounds=int((~np.isnan(logs).any(axis=1)).sum()),
        draws=family.draws,
        exact=family.exact,
        reason=""
        if family.pairs is not None or not indices
        else "no two cells share enough valid rounds",
        pairs=tuple(pairs),
        prior_df=family.prior_df,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """A pair before its verdict.

    Attributes:
        pair: with the figures that rest on this pair alone.
        half: half the width of its t interval; None where it is unknown.
        resolution: log of `Pair.instrument`, infinite where it has no end; None without intervals.
    """

    pair: Pair
    half: float | None = None
    resolution: float | None = None


def _measured(block: Block, logs: Floats, a: int, b: int, rule: Rule) -> _Measured:
    ratios = logs[:, a] - logs[:, b]
    both: Flags = np.asarray(~np.isnan(ratios))
    ratios = ratios[both]
    better = ratios > 0 if rule.higher_is_better else ratios < 0
    pair = Pair(
        a=block.cells[a],
        b=block.cells[b],
        rounds=len(ratios),
        won=int(better.sum()),
        tied=int((ratios == 0).sum()),
    )
    if not len(ratios):
        return _Measured(pair=pair)
    x, y, mean = block.values[both, a], block.values[both, b], float(ratios.mean())
    delta, ends = cliffs_delta(x, y), cliffs_interval(x, y, rule.alpha)
    resolution = pair_resolution(block, both, a, b)
    known = resolution is not None and np.isfinite(resolution)
    pair = dataclasses.replace(
        pair,
        ratio=float(np.exp(mean)),
        difference=float(np.exp(logs[both, a].mean()) - np.exp(logs[both, b].mean())),
        instrument=float(np.exp(resolution)) if resolution is not None and known else None,
        delta=delta,
        delta_low=None if ends is None else ends[0],
        delta_high=None if ends is None else ends[1],
        a12=(delta + 1) / 2,
        a12_low=None if ends is None else (ends[0] + 1) / 2,
        a12_high=None if ends is None else (ends[1] + 1) / 2,
    )
    half = half_width(ratios, rule.alpha)
    if half is not None:
        error = float(np.std(ratios, ddof=1)) / np.sqrt(len(ratios))
        wide = half + resolution if resolution is not None and known else None
        pair = dataclasses.replace(
            pair,
            low=float(np.exp(mean - half)),
            high=float(np.exp(mean + half)),
            wide_low=None if wide is None else float(np.exp(mean - wide)),
            wide_high=None if wide is None else float(np.exp(mean + wide)),
            t=float(mean / error),
        )
    return _Measured(pair=pair, half=half, resolution=resolution)


def pair_resolution(block: Block, both: Flags, a: int, b: int) -> float | None:
    """How far the log ratio of two columns could be off by the instruments: see the top.

    Args:
        block: values with the instruments' intervals.
        both: the rounds that count.
        a: a column.
        b: another.
    """
    if block.low is None or block.high is None:
        return None
    value, low, high = (part[both][:, [a, b]] for part in (block.values, block.low, block.high))
    if np.isnan(low).any() or np.isnan(high).any():
        return None
    below = np.where(low > 0, np.log(value) - np.log(np.where(low > 0, low, 1)), np.inf)
    above = np.log(np.maximum(high, value)) - np.log(value)
    one_way = float((below[:, 0] + above[:, 1]).mean())
    other_way = float((above[:, 0] + below[:, 1]).mean())
    return max(one_way, other_way)
