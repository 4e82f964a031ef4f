"""Does it hold for models in general? Configurations compared over a random sample of models.

The unit is the model. Its log ratio of two configurations is one value, and models differ in it (an
interaction), so the t interval over models says what holds for models like these: with as many
rounds as one likes, the interval of these very models becomes narrow, that of other models does
not. For data that are complete this is the exact analysis of a mixed model with random effects of
model and of configuration by model. The statistic of a pair is its own paired t over the models
that have both, so configurations may vary between models by different amounts, and together.

All pairs have one error rate: their smallest p is compared with the smallest of draws in which the
interactions are independent and equally large (Westfall and Young 1993, single step). Each pair's
own p is exact whatever they are; how their smallest one is distributed depends little on it.
`benchmarks/simulated_lab.py --diagnostics` prints both errors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from slm_energy.analysis.result.population import ModelRatio, Population, PopulationPair
from slm_energy.analysis.result.verdict import COARSE, Verdict
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.effect_size import Flags, Floats, half_width, welch_half_width
from slm_energy.analysis.stats.paired import pair_resolution

FEWEST = 3
"""Models: two say nearly nothing of a third."""

_DRAWS = 4999
_FEWEST_DRAWS = 999
_MOST_WORK = 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelBlock:
    """The cells of one model.

    Attributes:
        model: its name.
        block: its values; cells are named by their configurations.
        rounds: the rows are rounds; else a cell's values are independent repetitions.
    """

    model: str
    block: Block
    rounds: bool = True


def population(blocks: list[ModelBlock], rule: Rule) -> Population:
    """Compare configurations over models.

    Args:
        blocks: one per model.
        rule: how to decide; its draws are not used beyond 5,000.
    """
    names = tuple(dict.fromkeys(name for block in blocks for name in block.block.cells))
    logs = np.array([_levels(block, names) for block in blocks])
    shared = (~np.isnan(logs)).sum(axis=0) > 1
    names = tuple(itertools.compress(names, shared))
    logs = logs[:, shared]
    order = _ranking(logs, rule)
    names, logs = tuple(names[i] for i in order), logs[:, order]
    pairs = [
        _pair(blocks, names[i], names[j], logs[:, i] - logs[:, j], rule)
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    judged = _judged([pair for pair in pairs if len(pair.models) > 1], logs, rule)
    most = max((len(pair.models) for pair in judged), default=1)
    return Population(
        models=tuple(block.model for block in blocks),
        ranked=names,
        pairs=tuple(judged),
        reason="" if any(pair.p is not None for pair in judged) else _too_few(most),
    )


def _too_few(models: int) -> str:
    return f"that takes {FEWEST} models that share two configurations, and this study has {models}"


def _levels(block: ModelBlock, names: tuple[str, ...]) -> Floats:
    """Mean log of each configuration: over complete rounds, or else over all values it has."""
    logs = np.full((len(block.block.values), len(names)), np.nan)
    logs[:, [names.index(name) for name in block.block.cells]] = np.log(block.block.values)
    valued = ~np.isnan(logs).all(axis=0)
    complete = ~np.isnan(logs[:, valued]).any(axis=1) & block.rounds
    result = np.full(len(names), np.nan)
    if valued.any():
        used = logs[complete] if complete.any() else logs
        result[valued] = np.nanmean(used[:, valued], axis=0)
    return result


def _ranking(logs: Floats, rule: Rule) -> list[int]:
    """Configurations from best to worst: by the mean over models of their distance to the rest."""
    logs = logs[~np.isnan(logs).all(axis=1)]
    if not logs.size:
        return []
    level = np.nanmean(logs - np.nanmean(logs, axis=1, keepdims=True), axis=0)
    return [int(i) for i in np.argsort(-level if rule.higher_is_better else level, kind="stable")]


def _pair(blocks: list[ModelBlock], a: str, b: str, apart: Floats, rule: Rule) -> PopulationPair:
    models = []
    for block, mean in zip(blocks, apart.tolist(), strict=True):
        if math.isnan(mean):
            continue
        half, resolution = _on_model(block, a, b, rule)
        models.append(
            ModelRatio(
                model=block.model,
                ratio=math.exp(mean),
                low=None if half is None else math.exp(mean - half),
                high=None if half is None else math.exp(mean + half),
                instrument=math.exp(resolution) if math.isfinite(resolution) else None,
            )
        )
    better = apart > 0 if rule.higher_is_better else apart < 0
    ratio = float(np.exp(np.nanmean(apart))) if models else math.nan
    return PopulationPair(a=a, b=b, models=tuple(models), won=int(better.sum()), ratio=ratio)


def _on_model(block: ModelBlock, a: str, b: str, rule: Rule) -> tuple[float | None, float]:
    """Half the width of the log ratio's interval, and how far the instruments could be off."""
    i, j = block.block.cells.index(a), block.block.cells.index(b)
    logs = np.log(block.block.values[:, [i, j]])
    if not block.rounds:
        x, y = (column[~np.isnan(column)] for column in logs.T)
        return welch_half_width(x, y, rule.alpha), 0.0
    both: Flags = np.asarray(~np.isnan(logs).any(axis=1))
    resolution = pair_resolution(block.block, both, i, j) if both.any() else None
    return half_width(logs[both, 0] - logs[both, 1], rule.alpha), resolution or 0.0


def _judged(pairs: list[PopulationPair], logs: Floats, rule: Rule) -> list[PopulationPair]:
    """The pairs with what is known of each over models."""
    means = [np.log([model.ratio for model in pair.models]) for pair in pairs]
    tested = [half_width(m, rule.alpha) is not None and len(m) >= FEWEST for m in means]
    if not any(tested):
        return pairs
    smallest = _smallest_p(~np.isnan(logs), rule)
    rank = rule.own_alpha * (1 + len(smallest))
    level = float(smallest[max(int(rank) - 1, 0)])
    twice = float(smallest[max(int(2 * rank) - 1, 0)])
    return [
        _with_verdict(pair, mean, smallest, (level, twice), rule) if known else pair
        for pair, mean, known in zip(pairs, means, tested, strict=True)
    ]


def _with_verdict(
    pair: PopulationPair, logs: Floats, smallest: Floats, levels: tuple[float, float], rule: Rule
) -> PopulationPair:
    """One pair, by its t interval over models.

    Args:
        pair: without figures over models.
        logs: log ratio on each model.
        smallest: from `_smallest_p`.
        levels: of the simultaneous interval, and of the one that equivalence is judged by.
        rule: how to decide.
    """
    n, mean = len(logs), float(logs.mean())
    error = float(np.std(logs, ddof=1)) / math.sqrt(n)
    own, joint, within = (
        error * float(stdtrit(n - 1, 1 - level / 2)) for level in (rule.alpha, *levels)
    )
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    reached = int(np.searchsorted(smallest, p * (1 + 1e-9), side="right"))
    adjusted = (1 + reached) / (1 + len(smallest))
    resolution = float(np.mean([math.log(m.instrument or math.inf) for m in pair.models]))
    verdict: Verdict = "inconclusive"
    if abs(mean) + within < rule.band:
        verdict = "equivalent" if abs(mean) + within + resolution < rule.band else COARSE
    elif abs(mean) - joint > rule.band:
        better = (mean > 0) == rule.higher_is_better
        verdict = ("gains" if rule.higher_is_better else "saves") if better else "worse"
        if abs(mean) - joint <= resolution:
            verdict = COARSE
    return dataclasses.replace(
        pair,
        low=math.exp(mean - own),
        high=math.exp(mean + own),
        joint_low=math.exp(mean - joint),
        joint_high=math.exp(mean + joint),
        p=min(1.0, rule.sharing * adjusted),
        verdict=verdict,
    )


def _smallest_p(there: Flags, rule: Rule) -> Floats:
    """The smallest p of all pairs in each draw without any difference, in order.

    Args:
        there: models x configurations.
        rule: the seed of the draws.
    """
    pairs = [
        (i, j, both)
        for i, j in itertools.combinations(range(there.shape[1]), 2)
        if (both := there[:, i] & there[:, j]).sum() >= FEWEST
    ]
    draws = max(_FEWEST_DRAWS, min(rule.draws, _DRAWS, _MOST_WORK // (there.size * len(pairs))))
    drawn = np.random.default_rng(rule.seed).standard_normal((draws, *there.shape))
    if len(pairs) == 1:  # p itself, without the noise of draws
        return np.asarray((np.arange(draws) + 1) / (1 + draws))
    smallest = np.ones(draws)
    for i, j, both in pairs:
        smallest = np.minimum(smallest, _p(drawn[:, both, i] - drawn[:, both, j]))
    return np.sort(smallest)


def _p(apart: npt.NDArray[np.float64]) -> Floats:
    """Two-sided p of a t test of each row."""
    n = apart.shape[1]
    t = apart.mean(axis=1) / (apart.std(axis=1, ddof=1) / math.sqrt(n))
    return np.asarray(2 * stdtr(n - 1, -np.abs(t)))
