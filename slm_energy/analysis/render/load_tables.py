"""Joules and latency against the load, as tables and as rows."""

from __future__ import annotations

from typing import Any

from slm_energy.analysis.render.solved_data import to_csv
from slm_energy.analysis.render.tables import Grid, figure, unit
from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.under_load import LoadCurve, LoadFamily, LoadPoint
from slm_energy.analysis.text.phrases import between, confidence, number, share, titled
from slm_energy.analysis.text.under_load import good, quantity


def families(report: Report) -> tuple[LoadFamily, ...]:
    """Those that there are curves of."""
    return () if report.under_load is None else report.under_load.families


def grid(report: Report, family: LoadFamily) -> Grid:
    """A row for each configuration and load."""
    latencies = [Metric(name=name) for name in family.latencies]
    rows = [
        (
            curve.name,
            f"{point.level:g}",
            "-" if point.delivered_per_s is None else number(point.delivered_per_s),
            _text(family.metric, point.energy),
            "-" if (per := point.per_good_request) is None else figure(family.metric, per.value),
            *(_text(metric, point.latencies.get(metric.name)) for metric in latencies),
            "-" if point.good is None else good(point.good).replace(" %", ""),
            share(point.idle_share),
            _note(curve, point),
        )
        for curve in family.curves
        for point in curve.points
    ]
    of = f" of {family.name}" if family.name else ""
    head = (
        "Configuration",
        quantity(family).capitalize(),
        "Delivered, 1/s",
        f"{family.metric.heading}, {unit(family.metric)}",
        "Per good request",
        *(f"{metric.heading}, {unit(metric)}" for metric in latencies),
        "Good, %" if family.limits else "Answered, %",
        "Idle power, %",
        "Note",
    )
    title = f"Under load{of}, {confidence(report)} intervals{titled(report, family.metric)}"
    return Grid(title=title, head=head, rows=tuple(rows)).without_empty()


def short(report: Report, family: LoadFamily) -> Grid:
    """What of it fits into a terminal."""
    return grid(report, family).without("Delivered, 1/s", "Per good request", "Idle power, %")


def _text(metric: Metric, amount: Amount | None) -> str:
    if amount is None:
        return "-"
    if amount.low is None or amount.high is None:
        return figure(metric, amount.value)
    return f"{figure(metric, amount.value)} ({between(metric, amount.low, amount.high)})"


def _note(curve: LoadCurve, point: LoadPoint) -> str:
    notes = []
    if point.saturated:
        notes.append(f"saturated in {point.saturated} of {point.trials}")
    elif point.promise in ("broken", "uncertain"):
        notes.append(f"promise {point.promise}")
    if curve.cheapest == point.level:
        notes.append("cheapest")
    if curve.knee is not None and curve.knee.level == point.level:
        notes.append("knee")
    return ", ".join(notes) or "-"


def data(report: Report) -> str:
    """One row per configuration and load, unrounded and in SI units, as CSV; empty without."""
    rows = []
    for family in families(report):
        names = dict.fromkeys(name for each in families(report) for name in each.latencies)
        for curve in family.curves:
            for point in curve.points:
                flat: dict[str, Any] = {
                    "family": family.name,
                    "configuration": curve.name,
                    "cell": point.cell,
                    "load": family.key,
                    "level": point.level,
                    "trials": point.trials,
                    "saturated": point.saturated,
                    "promise": point.promise,
                    "delivered_per_s": point.delivered_per_s,
                    "metric": family.metric.name,
                    **_ends("energy", point.energy),
                    **_ends("per_good_request", point.per_good_request),
                    **_ends("good_share", point.good),
                }
                for name in names:
                    flat |= _ends(name.partition("/")[2], point.latencies.get(name))
                rows.append(flat)
    return to_csv(rows) if rows else ""


def _ends(name: str, amount: Amount | None) -> dict[str, float | None]:
    ends = ("", "value"), ("_low", "low"), ("_high", "high")
    return {
        f"{name}{end}": None if amount is None else getattr(amount, field) for end, field in ends
    }
