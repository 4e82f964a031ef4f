"""Whether a verdict rests on one round: the comparison again without each round in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from slm_energy.analysis.result.comparison import Pair, RoundLeftOut
from slm_energy.analysis.stats.comparison import Block, Comparison

MOST_TRIALS = 400
"""Trials of a family up to which this is done: it costs a comparison for each round."""


def rests_on(
    block: Block,
    stated: Sequence[Pair],
    compare: Callable[[Block], Comparison],
    higher_is_better: bool,
) -> tuple[RoundLeftOut, ...] | None:
    """The rounds without which a pair would have another verdict.

    Args:
        block: the values of one family.
        stated: the pairs to look at, with their verdicts.
        compare: how the family was compared; it need have no other pairs.
        higher_is_better: True for throughput and quality.

    Returns:
        Pair by pair, in the order of rounds; None with a single round, or for a family of more than
        `MOST_TRIALS` trials.
    """
    there = ~np.isnan(block.values)
    rounds = np.flatnonzero(there.any(axis=1))
    if len(rounds) < 2 or int(there.sum()) > MOST_TRIALS:
        return None
    found: dict[tuple[str, str], list[RoundLeftOut]] = {(pair.a, pair.b): [] for pair in stated}
    for row in rounds:
        verdicts = compare(_without(block, int(row))).verdicts(higher_is_better)
        for pair in stated:
            without = verdicts.get((pair.a, pair.b), "inconclusive")
            if without != pair.verdict:
                gone = RoundLeftOut(a=pair.a, b=pair.b, round=int(row) + 1, verdict=without)
                found[pair.a, pair.b].append(gone)
    return tuple(gone for each in found.values() for gone in each)


def _without(block: Block, row: int) -> Block:
    """The block less a row, with what a comparison needs."""
    low, high = (
        None if part is None else np.delete(part, row, axis=0) for part in (block.low, block.high)
    )
    values = np.delete(block.values, row, axis=0)
    return dataclasses.replace(block, values=values, low=low, high=high, with_gain=None)
