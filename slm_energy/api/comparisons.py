"""One study against another, as an object: what got worse from A to B?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from slm_energy.analysis import regression
from slm_energy.analysis.regression import StudyComparison as Comparison
from slm_energy.analysis.render.study_comparison import scope_in_words, to_terminal
from slm_energy.api import display
from slm_energy.api.options import with_defaults
from slm_energy.api.stores import Tracking, tracking_config
from slm_energy.errors import AnalysisError
from slm_energy.running.report import open_sides

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StudyComparison:
    """Study B against study A. In a notebook it shows its tables; `print` does too.

    Attributes:
        result: all figures, unrounded and in SI units.
    """

    result: Comparison

    @property
    def regressed(self) -> bool:
        """Whether any cell got worse in any metric."""
        return self.result.exit_code == 1

    @property
    def cells(self) -> pd.DataFrame:
        """One row per metric and cell that both studies have.

        Columns: `metric` (its name ends in the unit of the values), then the fields of
        `analysis.stats.welch.CellChange`: `cell` (label), `a` and `b` (geometric means), `ratio`
        (b / a) with its own interval `low` to `high` and the simultaneous one `joint_low` to
        `joint_high`, which the verdict rests on, `p` (adjusted), `verdict` (about B), `reason`, ...
        """
        import pandas as pd

        return pd.DataFrame(
            {"metric": change.metric.name, **dataclasses.asdict(cell)}
            for change in self.result.metrics
            for cell in change.cells
        )

    @property
    def differences(self) -> pd.DataFrame:
        """What else differs between the studies, one row per fact."""
        import pandas as pd

        return pd.DataFrame(dataclasses.asdict(row) for row in self.result.differences)

    def _repr_html_(self) -> str:
        """The verdicts, cell by cell, and what else differs."""
        columns = ["metric", "cell", "a", "b", "ratio", "low", "high", "p", "verdict", "reason"]
        scope = scope_in_words(self.result)
        return display.block(
            display.paragraph(repr(self), strong=True),
            *([display.paragraph(f"Measured: {scope}")] if scope else []),
            *(display.paragraph(f"Warning: {line}.") for line in self.result.warnings),
            display.table(self.cells[columns]),
            display.table(self.differences, "What differs besides the cells"),
        )

    def __repr__(self) -> str:
        verdict = "at least one regression" if self.regressed else "no regression"
        return f"{self.result.b} against {self.result.a}: {verdict}"

    def __str__(self) -> str:
        return display.as_text(lambda console: to_terminal(self.result, console))


def compare(a: str, b: str, *, tracking: Tracking = None, **options: Any) -> StudyComparison:
    """Compare two studies, cell by cell: what got worse from A to B?

    Args:
        a: a study: `NAME`, or `NAME@FOLDER` or `NAME@URI` where it is in another store.
        b: the study that is judged, likewise.
        tracking: the store of a study that names none; None for `mlruns`.
        options: keys of conf/compare.yaml, such as `metrics=[...]` or `allow=["versions"]`.

    Raises:
        ConfigError: both are the same study, or an option is not valid.
        TrackingError: there is no such store or study.
        AnalysisError: nothing can be decided: the studies differ in facts that `allow` does not
            name, no cell is in both, or no cell can be judged.
    """
    keys = with_defaults("compare", options)
    del keys["out"]  # nothing is written
    asked = regression.options(keys)
    first, second = open_sides(a, b, tracking_config(tracking))
    result = regression.build(first, second, asked)
    if result.refusal:
        raise AnalysisError(result.refusal)
    return StudyComparison(result=result)
