"""Joules per request and latency against the load, a line for each configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from slm_energy.analysis.render.figures import axis_name, draw_axis, draw_upright_axis, wide
from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.under_load import LoadFamily, LoadPoint
from slm_energy.analysis.text.phrases import confidence, number, shown, titled
from slm_energy.analysis.text.under_load import at, quantity
from slm_energy.svg import ROW, WIDTH, Picture, Scale, scale

_PANEL = 210.0
_LEFT, _RIGHT = 56.0, WIDTH - 28
_COLOURS = 4
_MOST_TICKS = 8
_LOG_FROM = 4
"""Ratio of the largest load to the smallest from which on their axis is logarithmic."""
_LINE = 11.0
"""Pixels between the numbers of curves that end together."""
_APART = 5.0
"""Pixels between configurations at the same load."""


class _Panel(NamedTuple):
    metric: Metric
    value: Callable[[LoadPoint], Amount | None]
    limits: tuple[float, ...]


def title(report: Report, family: LoadFamily) -> str:
    """What the figure shows, for its title and its caption."""
    of = f" of {family.name}" if family.name else ""
    names = [family.metric, *map(lambda name: Metric(name=name), family.latencies)]
    heads = [f"{each.heading[:1].lower()}{each.heading[1:]}" if i else each.heading
             for i, each in enumerate(names)]  # fmt: skip
    return f"{', '.join(heads)}{of} against {quantity(family)}{titled(report, family.metric)}"


def caption(report: Report, family: LoadFamily) -> str:
    """The title and what the marks mean."""
    ringed = any(point.saturated for curve in family.curves for point in curve.points)
    return (
        f"{title(report, family)}: bars, {confidence(report)} intervals over trials"
        + "; dashed, the promised limit" * bool(family.limits)
        + "; ringed, saturated" * ringed
    )


def to_svg(report: Report, family: LoadFamily) -> str:
    """Panels below each other: joules, then each latency; saturated points are not joined."""
    panels = [_Panel(family.metric, lambda point: point.energy, ())]
    for name in family.latencies:
        panel = _Panel(
            Metric(name=name),
            lambda point, name=name: point.latencies.get(name),  # type: ignore[misc]
            family.limits.get(name, ()),
        )
        panels.append(panel)
    panels = [
        panel for panel in panels if any(panel.value(p) for c in family.curves for p in c.points)
    ]
    top = ROW * len(family.curves) + 8
    height = top + _PANEL * len(panels) + 44
    words = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{shown(family.metric, p.energy.value)} at {at(family, p.level)}"
                    for p in curve.points)
        for curve in family.curves
    )  # fmt: skip
    estimated = family.metric.estimated
    picture = Picture(WIDTH, height, title(report, family), words, estimated=estimated)
    for i, curve in enumerate(family.curves):
        y = ROW * i + 10
        picture.line(0, y, 0.04 * WIDTH, y, f"curve{i % _COLOURS}")
        picture.circle(0.02 * WIDTH, y, 4.5, f"part part{i % _COLOURS}")
        picture.text(0.055 * WIDTH, y + 4, f"{i + 1}  {curve.name}")
    levels = sorted({point.level for curve in family.curves for point in curve.points})
    across = scale(levels, _LEFT, _RIGHT, log=levels[-1] >= _LOG_FROM * levels[0])
    for position, panel in enumerate(panels):
        _draw_panel(picture, family, panel, across, top + _PANEL * position)
    ticks = levels if len(levels) <= _MOST_TICKS else None
    draw_axis(picture, across, height - 40, quantity(family), "", ticks)
    return picture.svg()


def _draw_panel(
    picture: Picture, family: LoadFamily, panel: _Panel, across: Scale, top: float
) -> None:
    factor, curves = panel.metric.scale, family.curves
    values = [
        end * factor
        for curve in curves
        for point in curve.points
        if (amount := panel.value(point)) is not None
        for end in (amount.value, amount.low, amount.high)
        if end is not None
    ]
    values += [limit * factor for limit in panel.limits]
    up = scale(values, top + _PANEL - 12, top + 34, log=wide(values))
    head = axis_name(up, panel.metric.heading, panel.metric.unit)
    head += "".join(f"; limit {shown(panel.metric, limit)}" for limit in panel.limits)
    picture.text(0, top + 12, head, "small soft")
    draw_upright_axis(picture, up, _RIGHT, "", ",.6g")
    for limit in panel.limits:
        picture.line(_LEFT, up(limit * factor), _RIGHT, up(limit * factor), "zero")
    ends: list[tuple[float, float, str]] = []
    for i, curve in enumerate(curves):
        shift = _APART * (i - (len(curves) - 1) / 2)
        known = [
            (point, amount, across(point.level) + shift, up(amount.value * factor))
            for point in curve.points
            if (amount := panel.value(point)) is not None
        ]
        line = f"curve{i % _COLOURS}"
        joined: Sequence[tuple[float, float]] = [(x, y) for p, _, x, y in known if not p.saturated]
        if len(joined) > 1:
            picture.path(joined, line)
        for point, amount, x, y in known:
            if amount.low is not None and amount.high is not None:
                picture.line(x, up(amount.low * factor), x, up(amount.high * factor), line)
            tip = f"{curve.name}, {at(family, point.level)}: {number(amount.value * factor)}"
            picture.circle(x, y, 4.5, f"part part{i % _COLOURS}", tip)
            if point.saturated:
                picture.circle(x, y, 8, "flag")
        if known:
            ends.append((known[-1][2] - shift, known[-1][3] + 4, str(i + 1)))
    lowest: dict[float, float] = {}
    for x, y, name in sorted(ends, key=lambda end: end[1]):
        lowest[x] = max(y, lowest.get(x, 0) + _LINE)
        picture.text(x + 16, lowest[x], name, "small soft")
