"""The result of an analysis: plain data from which every page, table and figure is rendered.

    Report
      options, provenance        what was requested, of which trials
      factors, cells, audit      the design, and how each slot of the plan ended
      left_out, notes            what was not used, and why
      metrics                    one MetricResult per metric and kind of energy
        descriptive              one row per cell
        diagnostics              drift, outliers, one point per trial
        sentinel                 drift of the cell that ran once more in each round
        families                 cells that are compared with each other
          pairs, savings         the comparison
          conventional           the field's tests on the same trials
          disagreements          where the two differ, and why
          power                  differences that these rounds can detect, and rounds needed
          rests_on               rounds without which a stated verdict would be another
        effects                  the factors' share
        population               configurations over models in general
      solved                     whether the generated code works, and joules per solved task
      recommendations            the cheapest configuration of each family
      across                     cells of two machines against each other
      pareto                     energy against latency and quality
      trials                     one row per trial
      noise_floor                how much the machine varies where nothing differs
      methods, findings          paragraphs
      footprint                  grams of CO2e and money, where the options ask for them
      failures                   sections that errors kept out
      registration               what was declared in advance, and whether the study follows it

Values are in the unit that ends the metric's name (J, s, MB, 1/s); `Metric.scale` and `Metric.unit`
turn them into what a page shows. None means unknown, and the nearest `reason` says why; there is no
NaN. Cells are named by id; `Report.labels` gives the name. `serialization.to_plain` and
`serialization.from_plain` turn a report into JSON and back.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.design import Audit, Cell, Factor, LeftOut, Provenance, TrialRow
from slm_energy.analysis.result.diagnostics import Descriptive, Diagnostics, NoiseFloor, Sentinel
from slm_energy.analysis.result.effects import Effects
from slm_energy.analysis.result.failure import Failure
from slm_energy.analysis.result.footprint import Footprint
from slm_energy.analysis.result.machines import AcrossMachines
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.population import Population
from slm_energy.analysis.result.recommendation import Recommendation
from slm_energy.analysis.result.registration import RegistrationCheck
from slm_energy.analysis.result.solved import AnswerCounts, Solved
from slm_energy.config.options import AnalysisOptions

SCHEMA = 3
"""3: has `solved`, `unscored` and `recommendations`; all else is as in 2.
2: verdicts, `Pair.p_equivalent` and `Pair.reason` rest on simultaneous intervals, which pairs
have; in 1 verdicts rested on the interval of each pair alone (`Pair.low`, `Pair.high`).
Drift is tested on one value per round (no `order`), outliers without rounds, effects with a noise
of its own for each cell; `Power` and `Pair.more_rounds` are about a verdict; the intervals of delta
and A12 of separated cells are Newcombe's."""

MOST_WHOLE = 2000
"""Trials up to which the JSON text of a report has all their values, as trials.parquet has."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MetricResult:
    """One metric of one kind, over the cells that have it.

    Attributes:
        metric: which; `metric.estimated` joules come from a model and meet no measured ones.
        descriptive: one row per cell with a value, family by family, best first.
        diagnostics: of its trials.
        families: the comparisons.
        effects: of the factors.
        sentinel: what the sentinel shows of it; None where there is none.
        population: configurations over models in general; None with fewer than two.
    """

    metric: Metric
    descriptive: tuple[Descriptive, ...]
    diagnostics: Diagnostics
    families: tuple[Family, ...]
    effects: Effects
    sentinel: Sentinel | None = None
    population: Population | None = None

    @property
    def repeated(self) -> bool:
        """Whether any cell has more than one value."""
        return any(row.trials > 1 for row in self.descriptive)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All results about a study.

    Attributes:
        study: its name.
        machine: where it ran.
        origin: whose data it is, where slm_energy did not measure it; else empty.
        noise_floor: of the machine: this study's own, where it has one cell under several names,
            else the latest that is stored; None where there is none.
        scope: what measured energy covers, in words (`scope.Scope.words`); empty where it is not
            known.
        stopped: why the study ended before its last round (`study.precision_pct`), as `after 5
            rounds ...`; empty if it did not.
        options: as given.
        provenance: the trials and versions that it rests on.
        factors: those that vary.
        shared: what all cells have in common, as `provider cpu`.
        cells: family by family, best first; cells without a value last.
        audit: the design as carried out.
        left_out: what was not used.
        metrics: the deciding metric first (measured, then estimated), then the others.
        pareto: one per pair of metrics.
        trials: in planned order.
        methods: what was done, in paragraphs.
        findings: the verdict, in sentences.
        notes: what a reader needs to interpret the tables.
        failures: sections that errors kept out of the report.
        registration: how the study compares with its registration; None without one.
        solved: one per kind of energy; empty where nothing was scored.
        unscored: why not, where that is so; else empty.
        answers: how the answers of each cell passed or failed.
        recommendations: one per family and kind of energy, without conditions.
        planned_rounds: how many the last sweep was to have; 0 where it is not known.
        across: cells of two machines against each other; empty where there is one.
        footprint: what its joules emit and cost; None where that is not asked for.
        hardware: what the study ran on, as a reader knows it: `processor` to its name, ...
        schema: version of this format.
    """

    study: str
    machine: str
    options: AnalysisOptions
    provenance: Provenance
    factors: tuple[Factor, ...]
    shared: tuple[str, ...]
    cells: tuple[Cell, ...]
    audit: Audit
    left_out: tuple[LeftOut, ...]
    metrics: tuple[MetricResult, ...]
    pareto: tuple[Pareto, ...]
    trials: tuple[TrialRow, ...]
    methods: tuple[str, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    origin: str = ""
    noise_floor: NoiseFloor | None = None
    stopped: str = ""
    scope: str = ""
    failures: tuple[Failure, ...] = ()
    registration: RegistrationCheck | None = None
    solved: tuple[Solved, ...] = ()
    unscored: str = ""
    answers: tuple[AnswerCounts, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    planned_rounds: int = 0
    across: tuple[AcrossMachines, ...] = ()
    footprint: Footprint | None = None
    hardware: dict[str, str] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, and what carbon and money rest on."""
        return self.notes if self.footprint is None else (*self.notes, self.footprint.note)

    @property
    def labels(self) -> dict[str, str]:
        """Cell id to name."""
        return {cell.id: cell.label for cell in self.cells}

    def short_label(self, cell: str) -> str:
        """A cell's name where its family is named: without the level that this one shares."""
        named = next(each for each in self.cells if each.id == cell)
        return named.label.removeprefix(f"{named.family} / ")

    @property
    def compared(self) -> tuple[Family, ...]:
        """The comparisons of all metrics: families with at least one pair that has p."""
        return tuple(
            family
            for result in self.metrics
            for family in result.families
            if any(pair.p is not None for pair in family.pairs)
        )

    @property
    def deciding(self) -> tuple[MetricResult, ...]:
        """The results of the first metric: of one kind, or measured and estimated."""
        first = self.metrics[0].metric.quantity
        return tuple(result for result in self.metrics if result.metric.quantity == first)

    def to_json(self) -> str:
        """All figures, unrounded and in SI units, as JSON text.

        With more than `MOST_WHOLE` trials, each has the values of the compared metrics only.
        """
        report = self
        if len(self.trials) > MOST_WHOLE:
            compared = {result.metric.name for result in self.metrics}
            trials = []
            for trial in self.trials:
                values = {name: v for name, v in trial.values.items() if name in compared}
                trials.append(dataclasses.replace(trial, values=values))
            report = dataclasses.replace(self, trials=tuple(trials))
        return json.dumps(report, default=_fields, allow_nan=False)


def _fields(part: Any) -> dict[str, Any]:
    """One level of it: `to_plain` would be a second copy of everything."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
