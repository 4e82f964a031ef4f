"""What a comparison takes and gives: one metric's values, the rule that decides, all pairs."""

from __future__ import annotations

import dataclasses

import numpy as np

from slm_energy.analysis.result.comparison import Pair, Savings
from slm_energy.analysis.result.verdict import Verdict, mirrored
from slm_energy.analysis.stats.effect_size import Floats


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One metric over the plan.

    Attributes:
        cells: k ids.
        values: rounds x k; positive, NaN where there is no valid value.
        low: lower ends of the measurement's own intervals, same shape; None if there are none.
        high: upper ends.
        with_gain: lower and upper ends of the intervals that also cover the gain of the sensors,
            for absolute figures; None if they are unknown.
        lasting: m x k, errors of the log values that are the same in each round, such as those of
            the choice of tasks: m independent sources, each with these standard deviations, signed;
            None if there are none.
    """

    cells: tuple[str, ...]
    values: Floats
    low: Floats | None = None
    high: Floats | None = None
    with_gain: tuple[Floats, Floats] | None = None
    lasting: Floats | None = None

    def of(self, cells: tuple[str, ...]) -> Block:
        """The block of some of its cells, in their order."""
        columns = [self.cells.index(cell) for cell in cells]
        low, high = (None if part is None else part[:, columns] for part in (self.low, self.high))
        with_gain = self.with_gain and (
            self.with_gain[0][:, columns],
            self.with_gain[1][:, columns],
        )
        return Block(
            cells=cells,
            values=self.values[:, columns],
            low=low,
            high=high,
            with_gain=with_gain,
            lasting=None if self.lasting is None else self.lasting[:, columns],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a comparison decides.

    Attributes:
        alpha: error rate of all comparisons together; intervals have confidence 1 - alpha.
        margin: a smaller relative difference does not matter.
        draws: of the reference that p is read from.
        seed: of the draws.
        higher_is_better: True for throughput.
        sharing: comparisons that share alpha in equal parts (Bonferroni): 1, or all of a study.
    """

    alpha: float = 0.05
    margin: float = 0.02
    draws: int = 9999
    seed: int = 0
    higher_is_better: bool = False
    sharing: int = 1

    @property
    def own_alpha(self) -> float:
        """Error rate of one comparison."""
        return self.alpha / self.sharing

    @property
    def band(self) -> float:
        """The margin on the log scale; the same whichever cell of a pair is named first."""
        return -float(np.log1p(-self.margin))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One metric over the cells of one family; see `result.Family` and `MaxT`."""

    ranked: tuple[str, ...]
    complete_rounds: int
    draws: int
    exact: bool
    reason: str
    pairs: tuple[Pair, ...]
    prior_df: float = 0.0

    def verdicts(self, higher_is_better: bool) -> dict[tuple[str, str], Verdict]:
        """About either cell of each pair, by that cell and the other one."""
        turned = {(p.b, p.a): mirrored(p.verdict, higher_is_better) for p in self.pairs}
        return turned | {(pair.a, pair.b): pair.verdict for pair in self.pairs}


def ranking(block: Block, rule: Rule) -> tuple[str, ...]:
    """Cells with a value from best to worst; see `result.Family.ranked`."""
    valued = np.flatnonzero(~np.isnan(block.values).all(axis=0))
    logs = np.log(block.values[:, valued])
    complete = ~np.isnan(logs).any(axis=1)
    level = np.nanmean(logs[complete] if complete.any() else logs, axis=0)
    order = np.argsort(-level if rule.higher_is_better else level, kind="stable")
    return tuple(block.cells[i] for i in valued[order])


def savings(comparison: Comparison, rule: Rule) -> Savings:
    """The pairs as a matrix, rows and columns in the order of rank."""
    cells = comparison.ranked
    index = {cell: i for i, cell in enumerate(cells)}
    size = len(cells)
    saved: list[list[float | None]] = [[None] * size for _ in cells]
    verdicts: list[list[Verdict | None]] = [[None] * size for _ in cells]
    sign = -1 if rule.higher_is_better else 1
    for pair in comparison.pairs:
        i, j = index[pair.a], index[pair.b]
        verdicts[i][j] = pair.verdict
        verdicts[j][i] = mirrored(pair.verdict, rule.higher_is_better)
        if pair.ratio is not None:
            saved[i][j] = 100 * sign * (1 - pair.ratio)
            saved[j][i] = 100 * sign * (1 - 1 / pair.ratio)
    return Savings(
        cells=cells,
        saving_pct=tuple(map(tuple, saved)),
        verdicts=tuple(map(tuple, verdicts)),
    )
