"""The field's conventional tests on the same trials, for readers who expect them.

Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm, Games-Howell, Friedman, Conover. All but the
last two treat trials of a cell as independent and ignore rounds, so drift between rounds counts as
noise; `text.disagreement` says where it contradicts the comparison, and why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from slm_energy.analysis.result.comparison import (
    Conventional,
    ConventionalCell,
    ConventionalPair,
    Pair,
)
from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.effect_size import Floats, holm
from slm_energy.analysis.stats.games_howell import games_howell
from slm_energy.analysis.stats.letters import letters

FEWEST = 3


def chain(
    block: Block, pairs: Sequence[Pair], alpha: float, family: str
) -> tuple[Conventional | None, list[LeftOut]]:
    """Run the tests.

    Args:
        block: the values of one family.
        pairs: of the comparison; the result's pairs are in their order.
        alpha: level of the compact letters.
        family: what messages call the family.

    Returns:
        None when fewer than two cells have enough trials or nothing varies, and what was left out.
    """
    groups = _groups(block)
    why = _unusable(groups)
    if why:
        return None, [LeftOut(scope="test", name=f"conventional tests{family}", reason=why)]
    cells, values = tuple(groups), list(groups.values())
    varies = [np.ptp(sample) > 0 for sample in values]
    h, p = stats.kruskal(*values)
    levene = stats.levene(*values, center="median") if any(varies) else None
    dunn = _dunn(values)
    shown = _letters(cells, dunn, alpha)
    howell = games_howell(values) if all(varies) else None
    friedman = _friedman(block.of(cells).values)
    total = sum(len(sample) for sample in values)
    result = Conventional(
        cells=tuple(_cell(*cell) for cell in zip(cells, values, shown, strict=True)),
        levene_w=None if levene is None else float(levene.statistic),
        levene_p=None if levene is None else float(levene.pvalue),
        kruskal_h=float(h),
        kruskal_p=float(p),
        epsilon_squared=float(h) / (total - 1),
        friedman_chi2=friedman.chi2,
        friedman_p=friedman.p,
        friedman_rounds=friedman.rounds,
        kendall_w=None
        if friedman.chi2 is None
        else friedman.chi2 / (friedman.rounds * (len(cells) - 1)),
        pairs=_pairs(pairs, cells, dunn, howell, friedman.conover),
    )
    missing = _left_out(family, howell is None, friedman.chi2 is None and len(cells) > 2)
    return result, missing


def _groups(block: Block) -> dict[str, Floats]:
    """The values of each cell that has enough of them."""
    columns = zip(block.cells, block.values.T, strict=True)
    groups = {cell: values[~np.isnan(values)] for cell, values in columns}
    return {cell: values for cell, values in groups.items() if len(values) >= FEWEST}


def _unusable(groups: Mapping[str, Floats]) -> str:
    """Why there is nothing to test; empty when there is."""
    if len(groups) < 2:
        return f"it needs two cells with {FEWEST} valid trials each"
    if len(np.unique(np.concatenate(list(groups.values())))) == 1:
        return "all values are the same"
    return ""


def _left_out(family: str, no_howell: bool, no_friedman: bool) -> list[LeftOut]:
    left_out = []
    if no_friedman:
        why = "they need two rounds complete for these cells, and values that vary"
        name = f"Friedman and Conover{family}"
        left_out.append(LeftOut(scope="test", name=name, reason=why))
    if no_howell:
        why = "it needs two different values in every cell"
        left_out.append(LeftOut(scope="test", name=f"Games-Howell{family}", reason=why))
    return left_out


def _cell(cell: str, values: Floats, shared: str) -> ConventionalCell:
    shapiro = stats.shapiro(values) if np.ptp(values) > 0 and len(values) <= 5000 else None
    return ConventionalCell(
        cell=cell,
        trials=len(values),
        shapiro_w=None if shapiro is None else float(shapiro.statistic),
        shapiro_p=None if shapiro is None else float(shapiro.pvalue),
        letters=shared,
    )


def _pairs(
    pairs: Sequence[Pair],
    cells: tuple[str, ...],
    dunn: Floats,
    howell: Floats | None,
    conover: Floats | None,
) -> tuple[ConventionalPair, ...]:
    """The k x k p-values of each test, pair by pair."""
    index = {cell: i for i, cell in enumerate(cells)}
    return tuple(
        ConventionalPair(
            a=pair.a,
            b=pair.b,
            dunn_p=float(dunn[index[pair.a], index[pair.b]]),
            games_howell_p=_at(howell, index[pair.a], index[pair.b]),
            conover_p=_at(conover, index[pair.a], index[pair.b]),
        )
        for pair in pairs
        if pair.a in index and pair.b in index
    )


def _at(table: Floats | None, row: int, column: int) -> float | None:
    return None if table is None or np.isnan(table[row, column]) else float(table[row, column])


def _dunn(samples: Sequence[Floats]) -> Floats:
    import scikit_posthocs  # 2 s: not for reports that end before this line

    return _holm(np.asarray(scikit_posthocs.posthoc_dunn(list(samples)), dtype=float))


def _holm(table: Floats) -> Floats:
    """Adjust a symmetric table of p-values; scikit-posthocs is slow at it."""
    upper = np.triu_indices(len(table), 1)
    adjusted = np.ones_like(table)
    adjusted[upper] = holm(table[upper])
    return np.minimum(adjusted, adjusted.T)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Friedman:
    """Friedman's statistic and p, Conover's k x k p-values, and the rounds they rest on."""

    rounds: int
    chi2: float | None = None
    p: float | None = None
    conover: Floats | None = None


def _friedman(values: Floats) -> _Friedman:
    import scikit_posthocs

    table = values[~np.isnan(values).any(axis=1)]
    rounds, cells = table.shape
    if cells < 3 or rounds < 2 or np.all(np.ptp(table, axis=1) == 0):
        return _Friedman(rounds=rounds)
    chi2, p = stats.friedmanchisquare(*table.T)
    with np.errstate(divide="ignore", invalid="ignore"):  # every round may rank all cells alike
        conover = scikit_posthocs.posthoc_conover_friedman(table)
    return _Friedman(
        rounds=rounds,
        chi2=float(chi2),
        p=float(p),
        conover=_holm(np.asarray(conover, dtype=float)),
    )


def _letters(cells: Sequence[str], dunn: Floats, alpha: float) -> list[str]:
    """Each cell's letters, which are given out in the order of cell ids."""
    order = sorted(range(len(cells)), key=cells.__getitem__)
    display = letters(dunn[np.ix_(order, order)] < alpha)
    by_cell = dict(zip((cells[i] for i in order), display, strict=True))
    return [by_cell[cell] for cell in cells]
