"""Which configuration of a study costs least under conditions, as an object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from slm_energy.analysis.render.solved_tables import candidates
from slm_energy.analysis.render.terminal import print_grid, print_sentences
from slm_energy.analysis.result.recommendation import Recommendation
from slm_energy.analysis.result.report import Report
from slm_energy.api import display
from slm_energy.api.options import with_defaults
from slm_energy.api.stores import Tracking, tracking_config
from slm_energy.config.check import checked
from slm_energy.config.options import RecommendOptions
from slm_energy.running.report import study_recommendations
from slm_energy.store.tracking import open_existing

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StudyRecommendation:
    """The cheapest configuration of a study. In a notebook it shows sentences; `print` does too.

    Attributes:
        result: the comparison that it rests on, unrounded and in SI units.
        recommendations: one per family and kind of energy, measured before estimated.
    """

    result: Report
    recommendations: tuple[Recommendation, ...]

    @property
    def recommended(self) -> str | None:
        """Label of the first recommended configuration; None where nothing meets the conditions."""
        best = [each.eligible[0] for each in self.recommendations if each.eligible]
        return self.result.labels[best[0].cell] if best else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it in words."""
        return tuple(line for each in self.recommendations for line in each.sentences)

    @property
    def candidates(self) -> pd.DataFrame:
        """One row per configuration and recommendation, the recommended one first.

        Columns: `metric` (what is minimised; its name ends in the unit of `cost`), `family`,
        `label`, then the fields of `analysis.result.recommendation.Candidate`: `cost` with its
        interval `low` to `high`, `ratio` (of the recommended one to this one) with its simultaneous
        interval, `verdict`, `excluded` (why, if it is), ... and one column for each condition's
        metric.
        """
        import pandas as pd

        return pd.DataFrame(
            {"metric": made.metric.name, "family": made.family}
            | {"label": self.result.labels[row.cell], "tied": row.tied}
            | {
                f.name: getattr(row, f.name)
                for f in dataclasses.fields(row)
                if f.name != "readings"
            }
            | {
                limit.metric.name: seen.value
                for limit, seen in zip(made.conditions, row.readings, strict=True)
            }
            for made in self.recommendations
            for row in made.candidates
        )

    def _repr_html_(self) -> str:
        """The sentences, and what was chosen from."""
        import pandas as pd

        parts = []
        for made in self.recommendations:
            first, *rest = made.sentences
            grid = candidates(self.result, made)
            table = pd.DataFrame(grid.rows, columns=list(grid.head))
            parts += [display.paragraph(first, strong=True), *map(display.paragraph, rest)]
            parts.append(display.table(table, grid.title))
        return display.block(*parts)

    def __repr__(self) -> str:
        what = self.recommended or "nothing meets the conditions"
        return f"Recommendation for study {self.result.study}: {what}"

    def __str__(self) -> str:
        return display.as_text(self._show)

    def _show(self, console: Console) -> None:
        for made in self.recommendations:
            print_sentences(made.sentences, console)
            print_grid(candidates(self.result, made), console)


def recommend(
    study: str,
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    tracking: Tracking = None,
    **options: Any,
) -> StudyRecommendation:
    """Which configuration of a study costs least under conditions, and how sure is that?

    Args:
        study: its name.
        at_least: name of a metric to its smallest acceptable value: `{"pass_at_1": 0.3}`.
        at_most: name of a metric to its largest acceptable value: `{"latency/e2e_p95_s": 2}`.
        tracking: a folder with a store, an MLflow tracking URI, or None for `mlruns`.
        options: other keys of conf/recommend.yaml, such as `families=["model"]` or `margin=0.05`.

    Raises:
        ConfigError: an option is not valid, or a condition names no metric of the study.
        TrackingError: there is no such store or study.
        AnalysisError: the trials cannot be compared.
    """
    limits = {"at_least": dict(at_least or {}), "at_most": dict(at_most or {})}
    given = {"study": study, **limits, **options}
    composed = with_defaults("recommend", given, ["study=null"], keys=["study"])
    asked = checked(RecommendOptions, composed, "recommend")
    made = study_recommendations(open_existing(tracking_config(tracking)), asked)
    return StudyRecommendation(result=made.result, recommendations=made.recommendations)
