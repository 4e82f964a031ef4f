"""Part of a result: how steady the trials and the machine were."""

from __future__ import annotations

import dataclasses
from typing import Literal

from slm_energy.analysis.result.verdict import Verdict


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
        with_gain_low: of the lower ends of the intervals that also cover the gain of the sensors:
            for the absolute figure; None likewise.
        with_gain_high: of the upper ends.
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
    with_gain_low: float | None = None
    with_gain_high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One valid trial in the diagnostics of a metric.

    Attributes:
        run_id: its MLflow run.
        cell: its cell's id.
        round: its round.
        order: its position in the planned order over all rounds, from 1.
        value: the metric.
        low: lower end of the measurement's own interval; None if there is none.
        high: upper end.
        residual: log value less its cell's mean log.
        score: how far it is from what its round and cell make of it, in spreads of its cell; None
            where it has none (`Diagnostics`).
        outlier: flagged, and used nevertheless.
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
    """Least-squares slope of the log metric on a covariate.

    The trials of a round share what is particular to it, so they say nothing independent of each
    other about differences between rounds. The slope over rounds is that of one value per round;
    those within rounds have a mean for each cell and each round.

    Attributes:
        against: `round`; within rounds `place` (the position in the round) or `temperature` (at a
            trial's start); `time`, of which the study is one unit. Reports of earlier versions have
            `order`.
        slope_pct: change per step, degree or unit, in per cent.
        low_pct: lower end of its t interval.
        high_pct: upper end.
        p: of no slope.
        trials: how many values it rests on: trials, or rounds.
        p_adjusted: p, adjusted with Holm over the slopes of its metric; None where it is the only
            one.
    """

    against: Literal["order", "round", "place", "temperature", "time"]
    slope_pct: float
    low_pct: float
    high_pct: float
    p: float
    trials: int
    p_adjusted: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """A verdict that rests on flagged trials.

    Attributes:
        a: a cell id.
        b: another.
        verdict: with all trials: the one that counts.
        without: with flagged trials removed.
    """

    a: str
    b: str
    verdict: Verdict
    without: Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostics:
    """What could make the trials of a metric less alike than the comparison takes them to be.

    A trial is flagged when its score, the residual of a median polish of rounds and cells over its
    cell's spread, is above what the largest score of a study without outliers exceeds in a share
    alpha of draws (`stats.outliers`); cells need five trials that vary. Flagged trials are kept: an
    extreme trial of an energy study is a fact about the machine.

    Attributes:
        points: one per valid trial, in planned order.
        drifts: slopes that can be computed.
        residual_sd_pct: standard deviation of the residuals of round + cell, in per cent; the noise
            that the comparison sees. None with fewer than two rounds.
        residual_shapiro_p: normality of these residuals; None with fewer than three or no spread.
        changed: verdicts that would change without flagged trials.
        flagged_above: the score above which a trial is flagged; None where no trial has a score.
    """

    points: tuple[Point, ...]
    drifts: tuple[Drift, ...]
    residual_sd_pct: float | None
    residual_shapiro_p: float | None
    changed: tuple[Changed, ...]
    flagged_above: float | None = None

    @classmethod
    def unknown(cls) -> Diagnostics:
        """Of a metric whose trials could not be diagnosed."""
        return cls(points=(), drifts=(), residual_sd_pct=None, residual_shapiro_p=None, changed=())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sentinel:
    """One metric of the cell that ran once more at the start of each round, in no comparison.

    Attributes:
        label: its name.
        hours: from the first to the last of its trials.
        points: one per valid trial, in planned order.
        drift: against time; None with fewer than three trials.
    """

    label: str
    hours: float
    points: tuple[Point, ...]
    drift: Drift | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MetricNoise:
    """What one cell under several names shows of one metric.

    Attributes:
        name: of the metric.
        ratio: geometric mean of the two names that differ most.
        low: lower end of its t interval.
        high: upper end.
        sd_pct: standard deviation of one trial on logs, rounds taken out, in per cent.
        trials: how many that rests on.
    """

    name: str
    ratio: float
    low: float
    high: float
    sd_pct: float
    trials: int

    @property
    def largest_pct(self) -> float:
        """The largest difference between the names that the interval holds, in per cent."""
        return 100 * (max(self.high, 1 / self.low) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NoiseFloor:
    """What a machine shows where there is no difference: one cell under several names.

    Attributes:
        study: where it was measured.
        machine: on which.
        cell: model, engine and provider.
        day: of its last trial, as 2026-11-30; empty where it is not known.
        rounds: how many.
        metrics: those with a spread, the one that decides first.
        node_kind: of the cluster's nodes that it was measured on; empty where that is not known, or
            it was no cluster.
    """

    study: str
    machine: str
    cell: str
    day: str
    rounds: int
    metrics: tuple[MetricNoise, ...]
    node_kind: str = ""

    def of(self, name: str) -> MetricNoise | None:
        """What it shows of a metric; None where it has none of that name."""
        return next((noise for noise in self.metrics if noise.name == name), None)
