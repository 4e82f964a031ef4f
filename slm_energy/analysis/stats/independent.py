"""The comparison of repetitions that are not rounds: the counterpart of `paired`.

Nobody ran every cell once in a random order, so the repetitions of a cell are a sample of its own.
The verdict rests on intervals that hold for all pairs of the family together
(`independent_max_t`). Beside them are Welch's t interval of the pair alone and his t test, adjusted
with Holm within the family (`welch`).

What it does not know: whether the repetitions are independent. With one figure per cell there is no
spread, so there is a ratio and nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.verdict import COARSE, Verdict
from slm_energy.analysis.stats import welch
from slm_energy.analysis.stats.comparison import Block, Comparison, Rule, ranking
from slm_energy.analysis.stats.decision import judge, tested, with_intervals
from slm_energy.analysis.stats.effect_size import Floats, cliffs_delta, cliffs_interval
from slm_energy.analysis.stats.independent_max_t import FEWEST, independent_max_t
from slm_energy.analysis.stats.simultaneous import Simultaneous

NO_SPREAD = "values that do not vary, such as one per cell, leave nothing to test"
_CONSTANT = (
    "the values do not vary within cells, so no spread is known to test the difference against"
)
_SINGLE = "one value of a cell gives no spread to test the difference against"


def compare(block: Block, metric: Metric, rule: Rule, reference: str | None = None) -> Comparison:
    """Compare all cells of a block with each other.

    Args:
        block: the values of one family; which of a cell's values is in which row has no meaning.
        metric: what they are.
        rule: how to decide.
        reference: a cell that comes last in its pairs; the others have the better one first.
    """
    block = block.of(ranking(one_value_per_row(block), rule))
    columns = (block.values[:, i] for i in range(len(block.cells)))
    samples = [values[~np.isnan(values)] for values in columns]
    indices = list(itertools.combinations(range(len(samples)), 2))
    indices = [(j, i) if block.cells[i] == reference else (i, j) for i, j in indices]
    logs = [welch.Sample(logs=np.log(values)) for values in samples]
    # Its ratio is B / A.
    changes = welch.judge(
        [welch.IndependentPair(metric=metric, cell="", a=logs[j], b=logs[i]) for i, j in indices],
        margin=rule.margin,
        alpha=rule.alpha,
        floor=0.0,
    )
    fewest = FEWEST if len(samples) > 2 else 2
    enough = [i for i, values in enumerate(samples) if len(values) >= fewest]
    varied = any(change.low is not None for change in changes)
    family = _family([logs[i].logs for i in enough], rule)
    pairs = []
    for (i, j), change in zip(indices, changes, strict=True):
        reason = _SINGLE if min(len(samples[i]), len(samples[j])) < 2 else _CONSTANT
        pair = change_as_pair(block.cells[i], block.cells[j], change, metric, rule, reason)
        if change.low is not None and family is not None and i in enough and j in enough:
            test = tested(family, (enough.index(i), enough.index(j)), rule)
            assert test is not None
            verdict, reason, _ = judge(pair, test, 0.0, rule)
            pair = dataclasses.replace(pair, verdict=verdict, reason=reason)
            pair = with_intervals(pair, test, None, rule)
        elif change.low is not None:
            reason = f"a simultaneous interval needs {FEWEST} values of each cell"
            pair = dataclasses.replace(pair, verdict="inconclusive", reason=reason)
        pairs.append(_with_delta(pair, samples[i], samples[j], rule.alpha))
    return Comparison(
        ranked=block.cells,
        complete_rounds=0,
        draws=0,
        exact=False,
        reason="" if not indices or varied else NO_SPREAD,
        pairs=tuple(pairs),
    )


def _family(logs: Sequence[Floats], rule: Rule) -> Simultaneous | None:
    """The cells with enough values, tested together; None without two of them, or any spread."""
    if len(logs) < 2 or max(float(np.ptp(values)) for values in logs) < 1e-12:
        return None
    return independent_max_t(logs, rule.draws, rule.seed, band=rule.band, alpha=rule.own_alpha)


def one_value_per_row(block: Block) -> Block:
    """The same values with no two cells in one row, so that no row is taken for a round."""
    rows, columns = np.nonzero(~np.isnan(block.values))
    values = np.full((len(rows), len(block.cells)), np.nan)
    values[np.arange(len(rows)), columns] = block.values[rows, columns]
    return Block(cells=block.cells, values=values)


def one_row(block: Block) -> Block:
    """The same values as columns of one row, for a linear model without rounds."""
    rows, columns = np.nonzero(~np.isnan(block.values))
    return Block(
        cells=tuple(block.cells[i] for i in columns), values=block.values[rows, columns][None, :]
    )


def change_as_pair(
    a: str, b: str, change: welch.CellChange, metric: Metric, rule: Rule, reason: str
) -> Pair:
    """The change from `b` to `a` as a pair of one family; no rounds are shared."""
    verdict: Verdict = "inconclusive"
    if change.verdict == "equivalent":
        verdict = "equivalent"
    elif change.verdict == COARSE:
        verdict = COARSE
    elif change.verdict == "regression":
        verdict = "worse"
    elif change.verdict == "improvement":
        verdict = "gains" if metric.higher_is_better else "saves"
    return Pair(
        a=a,
        b=b,
        rounds=0,
        won=0,
        tied=0,
        ratio=change.ratio,
        low=change.low,
        high=change.high,
        difference=change.b - change.a,
        p=None if change.p is None else min(1.0, rule.sharing * change.p),
        verdict=verdict,
        reason=reason if verdict == "inconclusive" else "",
    )


def _with_delta(pair: Pair, x: Floats, y: Floats, alpha: float) -> Pair:
    """Add Cliff's delta and A12, which one value on a side cannot give."""
    interval = cliffs_interval(x, y, alpha)
    if interval is None:
        return pair
    delta, (low, high) = cliffs_delta(x, y), interval
    return dataclasses.replace(
        pair,
        delta=delta,
        delta_low=low,
        delta_high=high,
        a12=(delta + 1) / 2,
        a12_low=(low + 1) / 2,
        a12_high=(high + 1) / 2,
    )
