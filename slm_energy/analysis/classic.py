"""The field's conventional chain on the same trials, for readers who expect it.

Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm, Games-Howell, Friedman, Conover. All but the
last two take trials of a cell as independent and ignore rounds, so drift between rounds counts as
noise; `disagreements` says where that leads elsewhere than the comparison, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from slm_energy.analysis.compare import Block
from slm_energy.analysis.effect import Floats, holm
from slm_energy.analysis.result import (
    Conventional,
    ConventionalCell,
    ConventionalPair,
    Disagreement,
    LeftOut,
    Pair,
)

FEWEST = 3
MOST_GAMES_HOWELL = 30
"""The studentised range is integrated numerically, about 1 ms a pair."""


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
    columns = {cell: block.values[:, i] for i, cell in enumerate(block.cells)}
    groups = {cell: values[~np.isnan(values)] for cell, values in columns.items()}
    groups = {cell: values for cell, values in groups.items() if len(values) >= FEWEST}
    if len(groups) < 2:
        why = f"it needs two cells with {FEWEST} valid trials each"
        return None, [LeftOut(scope="test", name=f"conventional chain{family}", reason=why)]
    if len(np.unique(np.concatenate(list(groups.values())))) == 1:
        why = "all values are the same"
        return None, [LeftOut(scope="test", name=f"conventional chain{family}", reason=why)]
    left_out = []
    values = list(groups.values())
    h, p = stats.kruskal(*values)
    varies = any(np.ptp(row) > 0 for row in values)
    levene = stats.levene(*values, center="median") if varies else None
    dunn = _dunn(groups)
    conover, chi2, friedman_p, rounds = _friedman(block, tuple(groups))
    if chi2 is None and len(groups) > 2:
        why = "they need two rounds complete for these cells, and values that vary"
        name = f"Friedman and Conover{family}"
        left_out.append(LeftOut(scope="test", name=name, reason=why))
    howell = _games_howell(groups)
    if howell is None:
        why = f"it needs two different values in every cell, and at most {MOST_GAMES_HOWELL} cells"
        left_out.append(LeftOut(scope="test", name=f"Games-Howell{family}", reason=why))
    letters = _letters(dunn, alpha)
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
    ), left_out


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


def _games_howell(groups: Mapping[str, Floats]) -> pd.DataFrame | None:
    import scikit_posthocs

    if len(groups) > MOST_GAMES_HOWELL or any(np.ptp(row) == 0 for row in groups.values()):
        return None
    found = scikit_posthocs.posthoc_games_howell(_tall(groups), val_col="value", group_col="cell")
    return pd.DataFrame(found)


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


_WHY = {
    "rounds": "Dunn takes drift between rounds as noise and ranks over all cells, so it needs more "
    "rounds",
    "few": "With so few trials no difference can reach Dunn-Holm's level, however large",
    "dunn": "Dunn takes the trials of one round as independent and adjusts by ranks; within rounds "
    "the difference is not larger than the noise",
    "margin": "Dunn asks for any difference; within rounds p is not small enough for so many pairs",
}


def disagreements(
    conventional: Conventional, pairs: Sequence[Pair], cells: int, alpha: float
) -> tuple[Disagreement, ...]:
    """Pairs in which the comparison finds a difference and Dunn-Holm does not, or the reverse.

    Args:
        conventional: the chain.
        pairs: the comparison.
        cells: how many the comparison has; with two its interval decides, not p.
        alpha: level of both.
    """
    theirs = {(pair.a, pair.b): pair.dunn_p for pair in conventional.pairs}
    trials = [cell.trials for cell in conventional.cells]
    found = []
    for pair in pairs:
        dunn_p = theirs.get((pair.a, pair.b))
        ours = differs(pair, cells, alpha)
        if dunn_p is None or ours is None or ours == (dunn_p <= alpha):
            continue
        if ours:
            why = "few" if _smallest_dunn(trials) > alpha else "rounds"
        else:
            inside = pair.low is not None and pair.high is not None and pair.low <= 1 <= pair.high
            why = "dunn" if inside else "margin"
        found.append(
            Disagreement(
                a=pair.a,
                b=pair.b,
                found_by="rounds" if ours else "dunn",
                p=pair.p,
                dunn_p=dunn_p,
                why=_WHY[why],
            )
        )
    return tuple(found)


def differs(pair: Pair, cells: int, alpha: float) -> bool | None:
    """Whether the comparison finds any difference: p or, with two cells, the interval says it."""
    if cells > 2:
        return None if pair.p is None else pair.p <= alpha
    return None if pair.low is None or pair.high is None else not pair.low <= 1 <= pair.high


def _smallest_dunn(trials: Sequence[int]) -> float:
    """The smallest Dunn-Holm p of the extreme pair when the cells do not overlap at all."""
    total, cells, n = sum(trials), len(trials), min(trials)
    apart = total - n
    error = np.sqrt(total * (total + 1) / 12 * 2 / n)
    return float(2 * stats.norm.sf(apart / error) * cells * (cells - 1) / 2)
