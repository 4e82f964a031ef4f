"""The field's conventional chain on the same trials, for readers who expect it.

Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm, Games-Howell, Friedman, Conover. All but the
last two take trials of a cell as independent and ignore rounds, so drift between rounds counts as
noise; `disagreement` says where that leads elsewhere than the comparison, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from slm_energy.analysis.result.report import (
    Conventional,
    ConventionalCell,
    ConventionalPair,
    LeftOut,
    Pair,
)
from slm_energy.analysis.stats.effect_size import Floats, holm
from slm_energy.analysis.stats.games_howell import games_howell
from slm_energy.analysis.stats.paired import Block

FEWEST = 3


def chain(
    block: Block, pairs: Sequence[Pair], alpha: float, family: str
) -> tuple[Conventional | None, list[LeftOut]]:
    """Run the chain.

    Args:
        block: the values of one family.
        pairs: of the comparison; the chain's pairs are in their order.
        alpha: level of the compact letters.
        family: what messages call the family.

    Returns:
        None when fewer than two cells have enough trials or nothing varies, and what was left out.
    """
    groups = _groups(block)
    why = _unusable(groups)
    if why:
        return None, [LeftOut(scope="test", name=f"conventional chain{family}", reason=why)]
    values = list(groups.values())
    varies = [np.ptp(row) > 0 for row in values]
    h, p = stats.kruskal(*values)
    levene = stats.levene(*values, center="median") if any(varies) else None
    dunn = _dunn(groups)
    letters = _letters(dunn, alpha)
    howell = _games_howell(groups) if all(varies) else None
    conover, chi2, friedman_p, rounds = _friedman(block, tuple(groups))
    total = sum(len(row) for row in values)
    return Conventional(
        cells=tuple(_cell(cell, row, letters[cell]) for cell, row in groups.items()),
        levene_w=None if levene is None else float(levene.statistic),
        levene_p=None if levene is None else float(levene.pvalue),
        kruskal_h=float(h),
        kruskal_p=float(p),
        epsilon_squared=float(h) / (total - 1),
        friedman_chi2=chi2,
        friedman_p=friedman_p,
        friedman_rounds=rounds,
        kendall_w=None if chi2 is None else chi2 / (rounds * (len(groups) - 1)),
        pairs=_pairs(pairs, tuple(groups), dunn, howell, conover),
    ), _left_out(family, howell is None, chi2 is None and len(groups) > 2)


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


def _left_out(family: str, howell: bool, friedman: bool) -> list[LeftOut]:
    found = []
    if friedman:
        why = "they need two rounds complete for these cells, and values that vary"
        name = f"Friedman and Conover{family}"
        found.append(LeftOut(scope="test", name=name, reason=why))
    if howell:
        why = "it needs two different values in every cell"
        found.append(LeftOut(scope="test", name=f"Games-Howell{family}", reason=why))
    return found


def _cell(cell: str, values: Floats, letters: str) -> ConventionalCell:
    found = stats.shapiro(values) if np.ptp(values) > 0 and len(values) <= 5000 else None
    return ConventionalCell(
        cell=cell,
        trials=len(values),
        shapiro_w=None if found is None else float(found.statistic),
        shapiro_p=None if found is None else float(found.pvalue),
        letters=letters,
    )


def _pairs(
    pairs: Sequence[Pair],
    cells: tuple[str, ...],
    dunn: pd.DataFrame,
    howell: pd.DataFrame | None,
    conover: pd.DataFrame | None,
) -> tuple[ConventionalPair, ...]:
    place = {cell: i for i, cell in enumerate(cells)}
    tables = [
        None if table is None else table.loc[list(cells), list(cells)].to_numpy(dtype=float)
        for table in (howell, conover)
    ]
    first = dunn.loc[list(cells), list(cells)].to_numpy(dtype=float)
    found = []
    for pair in pairs:
        if pair.a in place and pair.b in place:
            at = place[pair.a], place[pair.b]
            ours = [None if t is None or np.isnan(t[at]) else float(t[at]) for t in tables]
            found.append(
                ConventionalPair(
                    a=pair.a,
                    b=pair.b,
                    dunn_p=float(first[at]),
                    games_howell_p=ours[0],
                    conover_p=ours[1],
                )
            )
    return tuple(found)


def _tall(groups: Mapping[str, Floats]) -> pd.DataFrame:
    rows = [(cell, float(value)) for cell, row in groups.items() for value in row]
    return pd.DataFrame(rows, columns=["cell", "value"])


def _dunn(groups: Mapping[str, Floats]) -> pd.DataFrame:
    import scikit_posthocs  # 2 s: not for reports that end before this line

    return _holm(scikit_posthocs.posthoc_dunn(_tall(groups), val_col="value", group_col="cell"))


def _holm(table: pd.DataFrame) -> pd.DataFrame:
    """Adjust a symmetric table of p-values; by ourselves, as theirs collects garbage each time."""
    raw = table.to_numpy(dtype=float, copy=True)
    upper = np.triu_indices(len(raw), 1)
    adjusted = np.ones_like(raw)
    adjusted[upper] = holm(raw[upper])
    return pd.DataFrame(np.minimum(adjusted, adjusted.T), index=table.index, columns=table.columns)


def _games_howell(groups: Mapping[str, Floats]) -> pd.DataFrame:
    cells = list(groups)
    return pd.DataFrame(games_howell(list(groups.values())), index=cells, columns=cells)


def _friedman(
    block: Block, cells: tuple[str, ...]
) -> tuple[pd.DataFrame | None, float | None, float | None, int]:
    """Conover's p-values, Friedman's statistic and p, and the complete rounds they rest on."""
    import scikit_posthocs

    table = block.of(cells).values
    table = table[~np.isnan(table).any(axis=1)]
    if len(cells) < 3 or len(table) < 2 or np.all(np.ptp(table, axis=1) == 0):
        return None, None, None, len(table)
    chi2, p = stats.friedmanchisquare(*table.T)
    with np.errstate(divide="ignore", invalid="ignore"):  # every round may rank all cells alike
        conover = scikit_posthocs.posthoc_conover_friedman(pd.DataFrame(table, columns=list(cells)))
    return _holm(conover), float(chi2), float(p), len(table)


def _letters(dunn: pd.DataFrame, alpha: float) -> dict[str, str]:
    import scikit_posthocs

    found = scikit_posthocs.compact_letter_display(dunn, alpha=alpha)
    return {str(cell): str(letters) for cell, letters in found.items()}
