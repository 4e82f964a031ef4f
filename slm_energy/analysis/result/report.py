"""The result of an analysis: plain data from which every page, table and figure is rendered.

    Report
      options, provenance        what was asked, of what
      factors, cells, audit      the design, and what came of each slot of the plan
      left_out, notes            what was not used, and why
      metrics                    one MetricResult per metric and kind of energy
        descriptive              one row per cell
        diagnostics              drift, outliers, one point per trial
        sentinel                 drift of the cell that ran once more in each round
        families                 cells that are compared with each other
          pairs, savings         the comparison
          conventional           the field's tests on the same trials
          disagreements          where the two differ, and why
          power                  what these rounds can find, and rounds needed
        effects                  the factors' share
      pareto                     energy against latency and quality
      trials                     one row per trial
      noise_floor                what the machine shows where there is no difference
      methods, findings          paragraphs

Values are in the unit that ends the metric's name (J, s, MB, 1/s); `Metric.scale` and `Metric.unit`
turn them into what a page shows. None means unknown, and the nearest `reason` says why; there is no
NaN. Cells are named by id; `Report.labels` gives the name. `plain.to_plain` and `plain.from_plain`
turn a report into JSON and back.
"""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console

from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.render import text
from slm_energy.analysis.result.comparison import (
    Conventional,
    ConventionalCell,
    ConventionalPair,
    Disagreement,
    Family,
    Pair,
    Power,
    PowerRow,
    Savings,
)
from slm_energy.analysis.result.design import (
    Audit,
    Cell,
    Factor,
    LeftOut,
    Provenance,
    Scope,
    Slot,
    SlotOutcome,
    TrialRow,
)
from slm_energy.analysis.result.diagnostics import (
    Changed,
    Diagnostics,
    Drift,
    MetricNoise,
    NoiseFloor,
    Point,
    Sentinel,
)
from slm_energy.analysis.result.metric import Metric
from slm_energy.serialization import to_plain

__all__ = [
    "SCHEMA",
    "Audit",
    "Cell",
    "Changed",
    "Conventional",
    "ConventionalCell",
    "ConventionalPair",
    "Descriptive",
    "Diagnostics",
    "Disagreement",
    "Drift",
    "Effect",
    "Effects",
    "Factor",
    "Family",
    "LeftOut",
    "LevelEffect",
    "MetricNoise",
    "MetricResult",
    "NoiseFloor",
    "Pair",
    "Pareto",
    "ParetoPoint",
    "Point",
    "Power",
    "PowerRow",
    "Provenance",
    "Report",
    "Savings",
    "Scope",
    "Sentinel",
    "Slot",
    "SlotOutcome",
    "TrialRow",
]

SCHEMA = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Descriptive:
    """One metric of one cell over its valid trials.

    Attributes:
        cell: its id.
        trials: how many have a usable value.
        mean: geometric mean.
        low: lower end of its t interval (on logs); None with one trial or without any variation.
        high: upper end.
        median: of the values.
        cv_pct: standard deviation over arithmetic mean, in per cent; None with one trial.
        minimum: smallest value.
        maximum: largest value.
        instrument_low: geometric mean of the lower ends of the measurement's own intervals; None
            where there are none or one of them is zero.
        instrument_high: of the upper ends.
    """

    cell: str
    trials: int
    mean: float
    low: float | None
    high: float | None
    median: float
    cv_pct: float | None
    minimum: float
    maximum: float
    instrument_low: float | None
    instrument_high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LevelEffect:
    """One level of a factor against the geometric mean over the factor's levels.

    Attributes:
        level: its name.
        ratio: to that mean, other terms held equal.
        low: lower end of its t interval.
        high: upper end.
    """

    level: str
    ratio: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One term of the linear model.

    Attributes:
        term: factor name, `round`, or two names joined by ` x `.
        df: degrees of freedom.
        f: F statistic (type II sums of squares).
        p: its p.
        partial_eta_squared: sum of squares over itself plus the residual one.
        levels: of a main effect; empty for interactions and rounds.
    """

    term: str
    df: int
    f: float
    p: float
    partial_eta_squared: float
    levels: tuple[LevelEffect, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """Ordinary least squares of the log metric: round + factors + two-way interactions.

    Attributes:
        formula: the model in words.
        trials: how many.
        df_residual: degrees of freedom of the residual.
        r_squared: of the model.
        residual_sd_pct: residual standard deviation, in per cent.
        effects: terms, rounds last; empty when nothing could be fitted.
        reason: why nothing was fitted; empty otherwise. Terms that the design cannot tell apart are
            in `Report.left_out`.
    """

    formula: str
    trials: int
    df_residual: int
    r_squared: float | None
    residual_sd_pct: float | None
    effects: tuple[Effect, ...]
    reason: str


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
    """

    metric: Metric
    descriptive: tuple[Descriptive, ...]
    diagnostics: Diagnostics
    families: tuple[Family, ...]
    effects: Effects
    sentinel: Sentinel | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParetoPoint:
    """One cell on the plane of two metrics.

    Attributes:
        cell: its id.
        x: geometric mean of the front's metric x (arithmetic for a share such as quality).
        y: of metric y.
        x_low: lower end of its t interval; None where unknown.
        x_high: upper end.
        y_low: lower end of its t interval; None where unknown.
        y_high: upper end.
        front: no other cell is at least as good in both and better in one.
        probability: share of resamples of the rounds in which it is on the front.
    """

    cell: str
    x: float
    y: float
    x_low: float | None
    x_high: float | None
    y_low: float | None
    y_high: float | None
    front: bool
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pareto:
    """Which cells are the best trade-off of two metrics, over all families of a kind of energy.

    Attributes:
        x: the metric of energy.
        y: latency or quality.
        points: cells that have both, in order of x.
    """

    x: Metric
    y: Metric
    points: tuple[ParetoPoint, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All that is said about a study.

    Attributes:
        study: its name.
        machine: where it ran.
        origin: whose data it is, where slm_energy did not measure it; else empty.
        noise_floor: of the machine: this study's own, where it has one cell under several names,
            else the latest that is stored; None where there is none.
        stopped: why the study ended before its last round (`study.precision_pct`), as `after 5
            rounds ...`; empty if it did not.
        options: as asked.
        provenance: what it rests on.
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
        notes: what a reader must know to read the tables right.
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
    schema: int = SCHEMA

    @property
    def labels(self) -> dict[str, str]:
        """Cell id to name."""
        return {cell.id: cell.label for cell in self.cells}

    @property
    def deciding(self) -> tuple[MetricResult, ...]:
        """The results of the first metric: of one kind, or measured and estimated."""
        first = self.metrics[0].metric.quantity
        return tuple(result for result in self.metrics if result.metric.quantity == first)

    def to_terminal(self, console: Console) -> None:
        """Print it; fits in 100 columns."""
        text.to_terminal(self, console)

    def to_markdown(self) -> str:
        """The same as Markdown."""
        return text.to_markdown(self)

    def to_json(self) -> str:
        """All figures, unrounded and in SI units, as JSON text."""
        return json.dumps(to_plain(self), allow_nan=False)
