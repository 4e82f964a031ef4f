"""One figure per cell, and savings as arXiv 2412.15441 defines them.

The figure is the median of a cell's repetitions, or the published aggregate. A saving is
100 - 100 x lowest / highest figure of the cells that are compared; what is published is its range
over models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pandas as pd

from slm_energy.analysis.result.metric import Metric
from slm_energy.cell import joined_levels


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavingsRange:
    """Savings of the cheapest cell against the most expensive one of its family, over families.

    Attributes:
        metric: of what.
        group: levels that these families share, such as `CUDA`; empty when all are meant.
        families: how many have two cells or more.
        least_pct: the smallest saving.
        least_in: the family that has it.
        largest_pct: the largest.
        largest_in: the family that has it.
    """

    metric: Metric
    group: str
    families: int
    least_pct: float
    least_in: str
    largest_pct: float
    largest_in: str

    def sentence(self) -> str:
        """For a report's findings."""
        where = f"{self.group}: t" if self.group else "T"
        what = f"of {self.metric.title} against the most expensive of its family"
        if self.families == 1:
            return (
                f"{where}he cheapest cell saves {self.least_pct:.2f} % {what} ({self.least_in}, by "
                "medians)."
            )
        return (
            f"{where}he cheapest cell saves {self.least_pct:.2f} % ({self.least_in}) to "
            f"{self.largest_pct:.2f} % ({self.largest_in}) {what}, over {self.families} families "
            "(by medians)."
        )


def cell_medians(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: its settings, and the median of each metric over its rows."""
    metrics = [name for name in frame.columns if "/" in str(name)]
    settings = [name for name in frame.columns if "." in str(name) and name not in metrics]
    return frame.groupby("cell", sort=False).agg(
        {**dict.fromkeys(settings, "first"), **dict.fromkeys(metrics, "median")}
    )


def ranges(
    medians: pd.DataFrame, metric: Metric, families: Sequence[str]
) -> tuple[SavingsRange, ...]:
    """Savings over models, one range for each combination of the other factors of `families`.

    Args:
        medians: one row per cell, from `cell_medians`.
        metric: a cost; there are none of a metric that should be high.
        families: settings that make a family; cells are compared within.
    """
    keys = [setting(name) for name in families if setting(name) in medians]
    if metric.higher_is_better or not keys:
        return ()
    outer = [key for key in keys if key != "model.name"]
    result = []
    for name, rows in groups(medians, outer):
        savings: dict[str, float] = {}
        for family, cells in groups(rows, [key for key in keys if key not in outer]):
            values = cells[metric.name].dropna()
            if len(values) > 1 and values.min() > 0:
                savings[family] = saving_pct(values.min(), values.max())
        if savings:
            least = min(savings, key=savings.__getitem__)
            largest = max(savings, key=savings.__getitem__)
            result.append(
                SavingsRange(
                    metric=metric,
                    group=name,
                    families=len(savings),
                    least_pct=savings[least],
                    least_in=least,
                    largest_pct=savings[largest],
                    largest_in=largest,
                )
            )
    return tuple(result)


def setting(name: str) -> str:
    """The column of a factor: `engine` is short for `engine.name`."""
    return name if "." in name else f"{name}.name"


def groups(rows: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows with the same levels, under these; all rows under an empty name without any key."""
    if not keys:
        yield "", rows
        return
    for levels, cells in rows.groupby(list(keys), sort=False):
        yield joined_levels([str(level) for level in levels]), cells


def saving_pct(low: float, high: float) -> float:
    """How much less `low` is than `high`, in per cent; negative when it is more."""
    return float(100 - 100 * low / high)
