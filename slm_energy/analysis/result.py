"""The result of an analysis: plain data from which every page, table and figure is rendered.

    Report
      options, provenance        what was asked, of what
      factors, cells, audit      the design, and what came of each slot of the plan
      left_out, notes            what was not used, and why
      metrics                    one MetricResult per metric and kind of energy
        descriptive              one row per cell
        diagnostics              drift, outliers, one point per trial
        families                 cells that are compared with each other
          pairs, savings         the comparison
          conventional           the field's tests on the same trials
          disagreements          where the two differ, and why
          power                  what these rounds can find, and rounds needed
        effects                  the factors' share
      pareto                     energy against latency and quality
      trials                     one row per trial
      methods, findings          paragraphs

Values are in the unit that ends the metric's name (J, s, MB, 1/s); `Metric.scale` and `Metric.unit`
turn them into what a page shows. None means unknown, and the nearest `reason` says why; there is no
NaN. Cells are named by id; `Report.labels` gives the name. `plain.to_plain` and `plain.from_plain`
turn a report into JSON and back.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

from rich.console import Console

from slm_energy.analysis.design import (
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
from slm_energy.analysis.family import (
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
from slm_energy.analysis.metric import Metric
from slm_energy.analysis.options import AnalysisOptions
from slm_energy.analysis.output import text
from slm_energy.analysis.verdict import Verdict
from slm_energy.plain import to_plain

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
    "MetricResult",
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
class Point:
    """One valid trial in the diagnostics of a metric.

    Attributes:
        run_id: its MLflow run.
        cell: its cell's id.
        round: its round.
        order: its place in the planned order over all rounds, from 1.
        value: the metric.
        low: lower end of the measurement's own interval; None if there is none.
        high: upper end.
        residual: log value less its cell's mean log.
        score: robust z score within the cell; None where it has none (`Diagnostics`).
        outlier: flagged, and used all the same.
        temperature_c: at the start, where a sensor gave it.
    """

    run_id: str
    cell: str
    round: int
    order: int
    value: float
    low: float | None
    high: float | None
    residual: float
    score: float | None
    outlier: bool
    temperature_c: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Least-squares slope of the log metric on a covariate, cells having levels of their own.

    Attributes:
        against: `order`, `round`, `place` (in its round; rounds have levels of their own as well)
            or `temperature`.
        slope_pct: change per step (or degree), in per cent.
        low_pct: lower end of its t interval.
        high_pct: upper end.
        p: of no slope.
        trials: how many it rests on.
    """

    against: Literal["order", "round", "place", "temperature"]
    slope_pct: float
    low_pct: float
    high_pct: float
    p: float
    trials: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """A verdict that rests on flagged trials.

    Attributes:
        a: a cell id.
        b: another.
        verdict: with all trials: the one that counts.
        without: when flagged trials are taken out.
    """

    a: str
    b: str
    verdict: Verdict
    without: Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostics:
    """What could make the trials of a metric less alike than the comparison takes them to be.

    A trial is flagged when its robust z score |log x - median| / (1.4826 MAD) within its cell is
    above 3.5 (Iglewicz and Hoaglin 1993); cells need five trials and a MAD above zero. Flagged
    trials stay in: an energy study's extreme trial is a fact about the machine.

    Attributes:
        points: one per valid trial, in planned order.
        drifts: slopes that can be computed.
        residual_sd_pct: standard deviation of the residuals of round + cell, in per cent; the noise
            that the comparison sees. None with fewer than two rounds.
        residual_shapiro_p: normality of these residuals; None with fewer than three or no spread.
        changed: verdicts that would be others without flagged trials.
    """

    points: tuple[Point, ...]
    drifts: tuple[Drift, ...]
    residual_sd_pct: float | None
    residual_shapiro_p: float | None
    changed: tuple[Changed, ...]


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
    """

    metric: Metric
    descriptive: tuple[Descriptive, ...]
    diagnostics: Diagnostics
    families: tuple[Family, ...]
    effects: Effects


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
