"""One trial drawn over time: power and processor load, with its windows, as a small SVG.

Drawn by hand because importing a plotting library after each trial would cost more than the trial's
own bookkeeping.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from xml.sax.saxutils import escape

from slm_energy.record import UNITS_PER_JOULE, Capture, Series

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 900, 150, 70, 30, 46
_WINDOW_FILLS = {
    "load": "#c9d6e8",
    "baseline": "#e4e4e4",
    "warmup": "#f3e3c3",
    "prefill": "#e6d3ee",
    "serve": "#d3ead2",
}
_SHORTEST_NS = 50_000_000
"""A counter is read densely at ticks and edges; its slope over less than this is quantisation."""

Points = list[tuple[float, float]]


def power_svg(capture: Capture) -> str:
    """Draw every energy source's power, and the processor's utilization.

    Returns:
        A stand-alone SVG document with a title and a text alternative.
    """
    panels = [(_title(s), "W", _power(s)) for s in capture.series if s.source.kind != "gauge"]
    panels += [
        ("processor utilization", "%", _values(s))
        for s in capture.series
        if s.source.id == "cpu_utilization_percentage"
    ]
    panels = [panel for panel in panels if panel[2]]
    start_ns, end_ns = capture.windows[0].start_ns, capture.windows[-1].end_ns
    height = _TOP + len(panels) * (_HEIGHT + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" font-size="13">',
        "<title>Power and processor load over the trial</title>",
        f"<desc>{escape(_description(capture, panels))}</desc>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (name, unit, points) in enumerate(panels):
        top = _TOP + number * (_HEIGHT + _GAP)
        parts += _panel(name, unit, points, top, capture, start_ns, end_ns)
    seconds = (end_ns - start_ns) / 1e9
    parts.append(
        f'<text x="{_WIDTH - 10}" y="{height - 8}" text-anchor="end">{seconds:.1f} s</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _title(series: Series) -> str:
    """The source's name; an estimate says that it is one."""
    estimated = " (estimated, not measured)" if series.source.kind == "estimate" else ""
    return series.source.id + estimated


def _panel(
    name: str,
    unit: str,
    points: Points,
    top: int,
    capture: Capture,
    start_ns: int,
    end_ns: int,
) -> list[str]:
    highest = max(value for _, value in points) or 1.0
    span = max(1, end_ns - start_ns)

    def x(time_ns: float) -> float:
        return _LEFT + (time_ns - start_ns) / span * (_WIDTH - _LEFT - 10)

    def y(value: float) -> float:
        return top + _HEIGHT - value / highest * (_HEIGHT - 18)

    parts = []
    for window in capture.windows:
        left, right = x(window.start_ns), x(window.end_ns)
        fill = _WINDOW_FILLS.get(window.name, "#eeeeee")
        parts.append(
            f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{_HEIGHT}"'
            f' fill="{fill}"/>'
        )
        if right - left > 50:
            parts.append(
                f'<text x="{left + 4:.1f}" y="{top + 14}" fill="#333">{window.name}</text>'
            )
    inside = [(t, v) for t, v in points if start_ns <= t <= end_ns]
    line = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in inside)
    parts += [
        f'<polyline points="{line}" fill="none" stroke="#1a4f8a" stroke-width="1.5"/>',
        f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{escape(name)}</text>',
        f'<text x="{_LEFT - 6}" y="{top + 18}" text-anchor="end">{highest:.3g} {unit}</text>',
        f'<text x="{_LEFT - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>',
    ]
    return parts


def _description(capture: Capture, panels: Sequence[tuple[str, str, Points]]) -> str:
    windows = ", ".join(f"{w.name} {w.duration_s:.1f} s" for w in capture.windows)
    peaks = ", ".join(f"{name} up to {max(v for _, v in p):.3g} {unit}" for name, unit, p in panels)
    return f"Windows: {windows}. {peaks or 'No readings'}."


def _values(series: Series) -> Points:
    return [
        (float(before), float(raw))
        for before, raw in zip(series.before_ns, series.raw, strict=True)
        if raw is not None
    ]


def _power(series: Series) -> Points:
    """Watts over time: the power itself, or the slope of a counter."""
    values = _values(series)
    if series.source.kind == "power":
        return [(t, v / 1_000) for t, v in values]
    per_joule = UNITS_PER_JOULE[series.source.unit]
    shortest_ns = max(_SHORTEST_NS, (series.source.update_period_ns or 0) // 2)
    # Between two new values: an old one that is read again says nothing about the time since.
    renewed = [two for one, two in itertools.pairwise(values) if two[1] != one[1]]
    points = []
    since = renewed[:1]
    for t1, v1 in renewed[1:]:
        t0, v0 = since[0]
        if t1 - t0 >= shortest_ns:
            if v1 >= v0:
                points.append((t1, (v1 - v0) / per_joule / ((t1 - t0) / 1e9)))
            since = [(t1, v1)]
    return points
