"""The field's conventional chain on the same trials, for readers who expect it.

Shapiro-Wilk, Levene, Kruskal-Wallis, Dunn with Holm, Vargha-Delaney. It takes trials of a cell as
independent and ignores rounds, so drift between rounds counts as noise; the report says where it
disagrees with the block comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from slm_energy.analysis.compare import Block, Comparison, Pair
from slm_energy.analysis.effect import Floats, cliffs_delta
from slm_energy.analysis.words import number

FEWEST = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dunn:
    """Dunn's test of one pair.

    Attributes:
        a: a cell id.
        b: another.
        p: adjusted with Holm over all pairs of cells.
        a12: Vargha-Delaney: how likely a trial of `a` is larger than one of `b`; ties count half.
        block_p: the block comparison's adjusted p.
        block_differs: whether it finds a difference: p at most alpha or, with two cells, an
            interval without 1; None where it could not tell.
    """

    a: str
    b: str
    p: float
    a12: float
    block_p: float | None
    block_differs: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """The conventional tests over the cells with at least `FEWEST` valid trials.

    Attributes:
        alpha: level of all tests.
        cells: which cells.
        shapiro_p: per cell, normality of its values; None where they do not vary.
        levene_p: equal variances (about the median).
        kruskal_h: Kruskal-Wallis H.
        kruskal_p: its p.
        epsilon_squared: its effect size, H / (n - 1).
        dunn: the pairs that the report compares.
    """

    alpha: float
    cells: tuple[str, ...]
    shapiro_p: dict[str, float | None]
    levene_p: float | None
    kruskal_h: float
    kruskal_p: float
    epsilon_squared: float
    dunn: tuple[Dunn, ...]

    def lines(self, labels: Mapping[str, str]) -> list[str]:
        """The chain's results, and where it disagrees with the block comparison."""
        skewed = sum(p is not None and p < self.alpha for p in self.shapiro_p.values())
        spread = "-" if self.levene_p is None else f"{self.levene_p:.2g}"
        found = sum(pair.p <= self.alpha for pair in self.dunn)
        lines = [
            f"Conventional chain (ignores rounds): Shapiro-Wilk rejects normality in {skewed} of "
            f"{len(self.cells)} cells; Levene p = {spread}; Kruskal-Wallis "
            f"H = {number(self.kruskal_h)}, p = {self.kruskal_p:.2g}, epsilon squared = "
            f"{self.epsilon_squared:.2f}; Dunn with Holm finds a difference in {found} of "
            f"{len(self.dunn)} pairs."
        ]
        for block_finds, why in _DISAGREE.items():
            apart = [
                d for d in self.dunn if d.block_differs is block_finds is not (d.p <= self.alpha)
            ]
            if apart:
                first, more = apart[0], f" and {len(apart) - 1} more" if len(apart) > 1 else ""
                block_p = "-" if first.block_p is None else f"{first.block_p:.2g}"
                lines.append(
                    f"They disagree on {labels[first.a]} against {labels[first.b]}{more}: "
                    f"max-T p = {block_p}, Dunn-Holm p = {first.p:.2g}. {why}"
                )
        return lines


_DISAGREE = {
    True: "Only the block comparison finds a difference: Dunn takes drift between rounds as noise "
    "and ranks over all cells, so it needs more rounds.",
    False: "Only Dunn finds a difference: it takes trials of one round as independent.",
}


def chain(block: Block, comparison: Comparison, alpha: float) -> Chain | None:
    """Run the chain; None when fewer than two cells have enough trials or nothing varies.

    Args:
        block: the values.
        comparison: the block comparison of the same values.
        alpha: level of all tests.
    """
    columns = {cell: block.values[:, i] for i, cell in enumerate(block.cells)}
    groups = {cell: values[~np.isnan(values)] for cell, values in columns.items()}
    groups = {cell: values for cell, values in groups.items() if len(values) >= FEWEST}
    if len(groups) < 2 or len(np.unique(np.concatenate(list(groups.values())))) == 1:
        return None
    import scikit_posthocs  # 2 s: not for reports that end before this line

    values = list(groups.values())
    h, p = stats.kruskal(*values)
    tall = pd.DataFrame(
        [(cell, float(value)) for cell, row in groups.items() for value in row],
        columns=["cell", "value"],
    )
    table = scikit_posthocs.posthoc_dunn(
        tall, val_col="value", group_col="cell", p_adjust="holm" if len(groups) > 2 else None
    )
    varies = any(np.ptp(row) > 0 for row in values)
    return Chain(
        alpha=alpha,
        cells=tuple(groups),
        shapiro_p={
            cell: float(stats.shapiro(row).pvalue) if np.ptp(row) > 0 else None
            for cell, row in groups.items()
        },
        levene_p=float(stats.levene(*values, center="median").pvalue) if varies else None,
        kruskal_h=float(h),
        kruskal_p=float(p),
        epsilon_squared=float(h) / (len(tall) - 1),
        dunn=tuple(
            Dunn(
                a=pair.a,
                b=pair.b,
                p=float(table.loc[pair.a, pair.b]),
                a12=_a12(groups[pair.a], groups[pair.b]),
                block_p=pair.p,
                block_differs=_differs(pair, len(comparison.ranked), alpha),
            )
            for pair in comparison.pairs
            if pair.a in groups and pair.b in groups
        ),
    )


def _differs(pair: Pair, cells: int, alpha: float) -> bool | None:
    if cells > 2:
        return None if pair.p is None else pair.p <= alpha
    return None if pair.low is None or pair.high is None else not pair.low <= 1 <= pair.high


def _a12(x: Floats, y: Floats) -> float:
    return (cliffs_delta(x, y) + 1) / 2
