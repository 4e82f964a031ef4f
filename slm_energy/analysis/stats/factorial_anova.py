"""How much each factor matters: a blocked linear model of the log metric.

    log metric = round + factors + their two-way interactions + noise

Ordinary least squares with sum-to-zero coding; type II sums of squares, so that a term is tested
after all others that do not contain it. What the design cannot separate is not guessed: a term
whose columns depend on those before it is removed and reported.

F takes all cells to be equally noisy: with one noisy cell of twelve its p finds an effect where
there is none in 0.15 of studies. So p is not F's but that of `unequal_noise`, which has a noise of
its own for each cell, and so are the intervals of the levels; where fewer than two cells show a
spread, all are taken to be equally noisy. `benchmarks/simulated_lab.py --diagnostics` prints how
often an effect is found where none is.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from slm_energy.analysis.result.design import Factor, LeftOut
from slm_energy.analysis.result.effects import Effect, Effects, LevelEffect
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.effect_size import Floats
from slm_energy.analysis.stats.unequal_noise import CellNoise, cell_noise

_BLOCK = "round"
_Term = tuple[str, ...]
Rounds = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """A model of n trials.

    Attributes:
        weights: p x n, of the log values in the coefficients of all terms but the rounds.
        own: per term n x df, orthonormal: what it explains beyond all terms that do not contain it.
        rest: residual sum of squares.
        freedom: degrees of freedom of the residual.
    """

    weights: Floats
    own: dict[_Term, Floats]
    rest: float
    freedom: int


def effects(
    block: Block, levels: Sequence[dict[str, str]], factors: Sequence[Factor], rule: Rule
) -> tuple[Effects, list[LeftOut]]:
    """Estimate the factors' effects on one metric.

    Args:
        block: its values; cells without any are not used. A cell that occurs several times has
            one value in each of its columns, and there are no rounds.
        levels: per cell of the block, factor key to level.
        factors: those to estimate.
        rule: confidence of the intervals, draws and their seed.

    Returns:
        The effects, and the terms that the design cannot separate.
    """
    rounds, cells = np.nonzero(~np.isnan(block.values))
    y = np.log(block.values[rounds, cells])
    used = [levels[int(i)] for i in cells]
    varying = {f.name: f for f in factors if len({row[f.key] for row in used}) > 1}
    if not varying:
        return _none("no factor varies over the cells that have a value", len(y)), []
    columns: dict[_Term, Floats] = {
        (name,): _coded([row[f.key] for row in used])[0] for name, f in varying.items()
    }
    for a, b in itertools.combinations(varying, 2):
        columns[a, b] = _products(columns[a,], columns[b,])
    left_out = _take_out_aliased(columns, rounds)
    if not columns:
        return _none("the design cannot separate any factor from the others", len(y)), left_out
    blocks = _coded([str(number) for number in rounds])[0]
    if len(y) <= 1 + blocks.shape[1] + sum(block.shape[1] for block in columns.values()):
        return _none("there are no more trials than terms", len(y)), left_out
    fit = _fit(columns, blocks, rounds, y)
    if fit.rest < 1e-20:
        return _none("the values do not vary within the terms", len(y)), left_out
    noise, start, terms = cell_noise(block), 0, []
    p = None if noise is None else noise.p_values(y, list(fit.own.values()), rule)
    for position, (term, basis) in enumerate(fit.own.items()):
        effect = _effect(term, basis, y, fit, None if p is None else p[position])
        if len(term) == 1 and term[0] in varying:
            names = _coded([row[varying[term[0]].key] for row in used])[1]
            ends = _levels(names, start, fit, y, noise, rule.alpha)
            effect = dataclasses.replace(effect, levels=ends)
        terms.append(effect)
        start += basis.shape[1]
    return Effects(
        formula=f"log metric = {' + '.join(effect.term for effect in terms)}",
        trials=len(y),
        df_residual=fit.freedom,
        r_squared=1 - fit.rest / float(((y - y.mean()) ** 2).sum()),
        residual_sd_pct=100 * math.expm1(math.sqrt(fit.rest / fit.freedom)),
        effects=tuple(terms),
        reason="",
    ), left_out


def _none(reason: str, trials: int) -> Effects:
    return Effects(
        formula="", trials=trials, df_residual=0, r_squared=None, residual_sd_pct=None,
        effects=(), reason=reason,
    )  # fmt: skip


def _coded(values: Sequence[str]) -> tuple[Floats, list[str]]:
    """Sum-to-zero columns, one less than there are levels, and the levels in their order."""
    names = list(dict.fromkeys(values))
    index = {name: i for i, name in enumerate(names)}
    rows = np.vstack([np.eye(len(names) - 1), -np.ones(len(names) - 1)])
    return rows[[index[value] for value in values]], names


def _products(left: Floats, right: Floats) -> Floats:
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _within(values: Floats, rounds: Rounds) -> Floats:
    """Values less their round's mean: the same as giving each round a level of its own."""
    sums = np.zeros((int(rounds.max()) + 1, values.shape[1]))
    np.add.at(sums, rounds, values)
    return np.asarray(values - (sums / np.bincount(rounds).clip(1)[:, None])[rounds])


def _take_out_aliased(columns: dict[_Term, Floats], rounds: Rounds) -> list[LeftOut]:
    """Remove the terms that rounds and the terms before them make up, and name them."""
    removed = []
    while (bad := _first_aliased(columns, rounds)) is not None:
        why = (
            "some combinations of levels have no trial, so it cannot be estimated"
            if len(bad) > 1
            else "it is confounded with other factors or rounds, so it cannot be estimated"
        )
        removed.append(LeftOut(scope="factor", name=" x ".join(bad), reason=why))
        for term in [term for term in columns if set(bad) <= set(term)]:
            del columns[term]
    return removed


def _first_aliased(columns: dict[_Term, Floats], rounds: Rounds) -> _Term | None:
    start = 0
    design = _within(np.hstack([np.zeros((len(rounds), 0)), *columns.values()]), rounds)
    new = np.abs(np.diag(np.linalg.qr(design, mode="r")))
    for term, block in columns.items():
        end = start + block.shape[1]
        length = np.sqrt((block**2).sum(axis=0))
        if end > len(new) or (new[start:end] < 1e-9 * length).any():
            return term
        start = end
    return None


def _fit(columns: dict[_Term, Floats], blocks: Floats, rounds: Rounds, y: Floats) -> _Fit:
    """Fit all terms. Of the rounds, which may be hundreds, only their own term is decomposed.

    The other terms have the same coefficients and residuals where each column and the values are
    less their round's mean (theorem of Frisch, Waugh and Lovell).
    """
    within = {term: _within(block, rounds) for term, block in columns.items()}
    own = {}
    for term, block in within.items():
        others = [c for t, c in within.items() if t != term and not set(term) < set(t)]
        own[term] = _beyond(block, others)
    if blocks.shape[1]:
        own[_BLOCK,] = _beyond(blocks, [np.ones((len(y), 1)), *columns.values()])
    whole, triangle = np.linalg.qr(np.hstack([*within.values()]))
    [values] = _within(y[:, None], rounds).T
    return _Fit(
        weights=np.linalg.solve(triangle, whole.T),
        own=own,
        rest=float(((values - whole @ (whole.T @ values)) ** 2).sum()),
        freedom=len(y) - 1 - blocks.shape[1] - whole.shape[1],
    )


def _beyond(block: Floats, others: Sequence[Floats]) -> Floats:
    """Orthonormal columns of what a block explains beyond others."""
    if others:
        before = np.linalg.qr(np.hstack([*others]))[0]
        block = block - before @ (before.T @ block)
    return np.asarray(np.linalg.qr(block)[0])


def _effect(term: _Term, basis: Floats, y: Floats, fit: _Fit, p: float | None) -> Effect:
    """A term without its levels; without p, that of F."""
    explained, df = float(((y @ basis) ** 2).sum()), basis.shape[1]
    f = explained / df / (fit.rest / fit.freedom)
    return Effect(
        term=" x ".join(term),
        df=df,
        f=f,
        p=float(stats.f.sf(f, df, fit.freedom)) if p is None else p,
        partial_eta_squared=explained / (explained + fit.rest),
        levels=(),
        unequal_noise=p is not None,
    )


def _levels(
    names: list[str], start: int, fit: _Fit, y: Floats, noise: CellNoise | None, alpha: float
) -> tuple[LevelEffect, ...]:
    """Each level's coefficient; the last one's is what makes the sum zero."""
    own = fit.weights[start : start + len(names) - 1]
    alike = float(stats.t.ppf(1 - alpha / 2, fit.freedom)) * math.sqrt(fit.rest / fit.freedom)
    result = []
    for name, weights in zip(names, [*own, -own.sum(axis=0)], strict=True):
        value = float(weights @ y)
        half = (
            alike * float(np.linalg.norm(weights))
            if noise is None
            else noise.half_width(weights, alpha)
        )
        result.append(
            LevelEffect(
                level=name,
                ratio=math.exp(value),
                low=math.exp(value - half),
                high=math.exp(value + half),
            )
        )
    return tuple(result)
