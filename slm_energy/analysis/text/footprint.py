"""What grams and money rest on, in sentences."""

from __future__ import annotations

from typing import Literal

from slm_energy.analysis.result.footprint import Footprint
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import confidence, number

Conversion = Literal["g_co2e", "cost"]
"""Field of `FootprintRow`."""


def basis(footprint: Footprint, what: Conversion) -> str:
    """What converts joules, for titles: `France 2023, 56.0 gCO2e/kWh, PUE 1.2`."""
    if what == "cost":
        per_kwh = f"{footprint.price_per_kwh:g} per kWh"
    else:
        assert footprint.factor is not None
        factor = footprint.factor
        per_kwh = f"{factor.name} {factor.year}, {number(factor.g_per_kwh)} gCO2e/kWh"
    return f"{per_kwh}, PUE {footprint.pue:g}"


def note(report: Report, footprint: Footprint) -> str:
    """What the figures follow from, cover and leave out."""
    if not footprint.rows:
        return (
            "Nothing is converted to carbon or money: no valid trial has joules per request, output"
            " token or solved task."
        )
    estimated = {row.metric.estimated for row in footprint.rows}
    kinds = ["measured" + (f" ({report.scope})" if report.scope else "")] * (False in estimated)
    kinds += ["estimated by a model of the machine"] * (True in estimated)
    if report.origin:
        kinds = ["as their authors declare them"]
    outside = "loading, idle time, the network, the making of the hardware"
    if footprint.pue == 1:
        outside += ", cooling and other losses of a data centre"
    return " ".join(
        [
            f"Carbon and money follow from the joules of serving requests, {' or '.join(kinds)}"
            + ("." if footprint.pue == 1 else f", times the PUE of {footprint.pue:g}."),
            *_factor(footprint),
            _intervals(report, footprint),
            f"Factor and price are taken as exact. Not included: {outside}.",
        ]
    )


def _factor(footprint: Footprint) -> list[str]:
    factor = footprint.factor
    if factor is None:
        return []
    return [
        f"Factor: {number(factor.g_per_kwh)} gCO2e per kWh, {factor.name}, mean of {factor.year}"
        f" ({factor.source})."
    ]


def _intervals(report: Report, footprint: Footprint) -> str:
    with_interval = {row.metric.name for row in footprint.rows if row.kwh.low is not None}
    if not with_interval:
        return "There are no intervals, which take several trials of a cell."
    covered = f"The {confidence(report)} intervals cover the spread over trials"
    if with_interval <= set(footprint.with_gain):
        return f"{covered} and the sensors with their gain."
    if metrics := ", ".join(footprint.with_gain):
        return f"{covered} and, where it is known, the gain of the sensors: {metrics}."
    return f"{covered} alone: how far the joules themselves may be off is not known."
