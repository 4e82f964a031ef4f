"""The sentences about cells of two machines."""

from __future__ import annotations

from collections.abc import Iterator

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.machines import AcrossMachines
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import confidence, number, than


def findings(report: Report) -> tuple[str, ...]:
    """The best cells of each two machines by the metric that decides, or why they have no ratio."""
    deciding = {result.metric for result in report.deciding}
    return tuple(
        line
        for found in report.across
        if found.metric in deciding
        for line in _sentence(report, found)
    )


def _sentence(report: Report, found: AcrossMachines) -> Iterator[str]:
    where = f", {found.family}" if found.family else ""
    start = f"{' against '.join(found.machines)}{where}"
    if found.reason:
        yield f"{start}, {found.metric.title}: no ratio. {found.reason}."
        return
    pair = found.pairs[0]
    yield f"{start}: {than_other(report, found, pair)}{span(report, found, pair)}: {verdict(pair)}."


def than_other(report: Report, found: AcrossMachines, pair: Pair) -> str:
    """The first cell of a pair against the second."""
    assert pair.ratio is not None
    names = report.labels
    return f"{names[pair.a]} {than(found.metric, pair.ratio, names[pair.b])}"


def span(report: Report, found: AcrossMachines, pair: Pair) -> str:
    """The interval of the ratio after a comma; empty where there is none."""
    if pair.joint_wide_low is None or pair.joint_wide_high is None:
        return ""
    name = f"{confidence(report)} interval"
    name = name if found.candidates == 1 else f"simultaneous {name}"
    gain = " with the gain of the sensors" if found.metric.is_energy else ""
    return (
        f", {name} of the ratio{gain}"
        f" {number(pair.joint_wide_low)} to {number(pair.joint_wide_high)}"
    )


def verdict(pair: Pair) -> str:
    """The verdict, with its reason where it is none."""
    return f"{pair.verdict}, {pair.reason}" if pair.reason else pair.verdict
