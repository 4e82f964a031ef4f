"""How much each factor matters: a blocked linear model of the log metric.

    log metric = round + factors + their two-way interactions + noise

Ordinary least squares with sum-to-zero coding; type II sums of squares, so that a term is tested
after all others that do not contain it. What the design cannot separate is not guessed: a term
whose columns depend on those before it is removed and reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from slm_energy.analysis.result.design import Factor, LeftOut
from slm_energy.analysis.result.effects import Effect, Effects, LevelEffect
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.effect_size import Floats

_BLOCK = "round"
_Term = tuple[str, ...]
Rounds = npt.NDArray[np.int64]


def effects(
    block: Block, levels: Sequence[dict[str, str]], factors: Sequence[Factor], alpha: float
) -> tuple[Effects, list[LeftOut]]:
    """Estimate the factors' effects on one metric.

    Args:
        block: its values; cells without any are not used.
        levels: per cell of the block, factor key to level.
        factors: those to estimate.
        alpha: intervals have confidence 1 - alpha.

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
    design = np.hstack([np.ones((len(y), 1)), *columns.values(), blocks])
    freedom = len(y) - design.shape[1]
    if freedom < 1:
        return _none("there are no more trials than terms", len(y)), left_out
    import statsmodels.api as sm  # 1 s: not for reports that end before this line

    fit = sm.OLS(y, design).fit(method="qr")
    rest = float(fit.ssr)
    if rest < 1e-20:
        return _none("the values do not vary within the terms", len(y)), left_out
    terms = []
    start = 1
    for term in columns:
        explained = _explained(term, columns, y, rounds)
        ends: tuple[LevelEffect, ...] = ()
        width = columns[term].shape[1]
        if len(term) == 1:
            names = _coded([row[varying[term[0]].key] for row in used])[1]
            ends = _levels(names, start, fit, alpha)
        terms.append(_effect(" x ".join(term), explained, width, rest, freedom, ends))
        start += width
    if blocks.shape[1]:
        explained = _residual(columns, y, np.zeros_like(rounds)) - rest
        terms.append(_effect(_BLOCK, explained, blocks.shape[1], rest, freedom, ()))
    return Effects(
        formula=f"log metric = {' + '.join(effect.term for effect in terms)}",
        trials=len(y),
        df_residual=freedom,
        r_squared=float(fit.rsquared),
        residual_sd_pct=100 * math.expm1(math.sqrt(rest / freedom)),
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


def _residual(columns: dict[_Term, Floats], y: Floats, rounds: Rounds) -> float:
    """Residual sum of squares of a model of these terms and rounds."""
    design = np.hstack([np.zeros((len(y), 0)), *columns.values()])
    # What the last column of a QR keeps for itself is what the columns before it leave of it.
    both = _within(np.hstack([design, y[:, None]]), rounds)
    triangle = np.asarray(np.linalg.qr(both, mode="r"))
    return float(triangle[-1, -1] ** 2)


def _explained(term: _Term, columns: dict[_Term, Floats], y: Floats, rounds: Rounds) -> float:
    """Sum of squares of one term after rounds and all terms that do not contain it (type II)."""
    others = {t: c for t, c in columns.items() if t != term and not set(term) < set(t)}
    return _residual(others, y, rounds) - _residual(others | {term: columns[term]}, y, rounds)


def _effect(
    term: str, explained: float, df: int, rest: float, freedom: int, ends: tuple[LevelEffect, ...]
) -> Effect:
    explained = max(explained, 0.0)
    f = explained / df / (rest / freedom)
    return Effect(
        term=term,
        df=df,
        f=f,
        p=float(stats.f.sf(f, df, freedom)),
        partial_eta_squared=explained / (explained + rest),
        levels=ends,
    )


def _levels(names: list[str], start: int, fit: Any, alpha: float) -> tuple[LevelEffect, ...]:
    """Each level's coefficient; the last one's is what makes the sum zero."""
    last = len(names) - 1
    params, cover = np.asarray(fit.params), np.asarray(fit.cov_params())
    edge = float(stats.t.ppf(1 - alpha / 2, fit.df_resid))
    result = []
    for i, name in enumerate(names):
        weights = np.zeros(len(params))
        if i == last:
            weights[start : start + last] = -1.0
        else:
            weights[start + i] = 1.0
        value, error = float(weights @ params), math.sqrt(float(weights @ cover @ weights))
        result.append(
            LevelEffect(
                level=name,
                ratio=math.exp(value),
                low=math.exp(value - edge * error),
                high=math.exp(value + edge * error),
            )
        )
    return tuple(result)
