"""A trial's power, processor load and windows over time, as a small SVG."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence

from slm_energy.record import UNITS_PER_JOULE, Capture, Series
from slm_energy.svg import Picture, Scale, standalone

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 900, 150, 70, 30, 46
_WINDOW_FILLS = {
    "load": "#c9d6e8",
    "baseline": "#e4e4e4",
    "warmup": "#f3e3c3",
    "prefill": "#e6d3ee",
    "serve": "#d3ead2",
}
_STYLE = "\n.fig .window{fill:#eeeeee} .fig .title{font-weight:bold} " + " ".join(
    f".fig .window-{name}{{fill:{colour}}}" for name, colour in _WINDOW_FILLS.items()
)
_SHORTEST_NS = 50_000_000
"""Counters are read densely at ticks and edges; shorter slopes are quantisation noise."""

_MOST_POINTS = 4 * _WIDTH
"""Per line; more could not be told apart."""

Points = list[tuple[float, float]]


def power_svg(capture: Capture) -> str:
    """Draw every energy source's power, and the processor's utilization.

    Returns:
        A stand-alone SVG document with a title and a text alternative.
    """
    panels = [
        (_title(s), "W", _visible(_power(s))) for s in capture.series if s.source.kind != "gauge"
    ]
    panels += [
        ("processor utilization", "%", _visible(_values(s)))
        for s in capture.series
        if s.source.id == "cpu_utilization_percentage"
    ]
    panels = [panel for panel in panels if panel[2]]
    start_ns, end_ns = capture.windows[0].start_ns, capture.windows[-1].end_ns
    height = _TOP + len(panels) * (_HEIGHT + _GAP) + 20
    title = "Power and processor load over the trial"
    picture = Picture(_WIDTH, height, title, _description(capture, panels))
    across = Scale(low=start_ns, high=max(end_ns, start_ns + 1), left=_LEFT, right=_WIDTH - 10)
    for number, (name, unit, points) in enumerate(panels):
        top = _TOP + number * (_HEIGHT + _GAP)
        inside = [(t, value) for t, value in points if start_ns <= t <= end_ns]
        highest = max(value for _, value in points) or 1.0
        up = Scale(low=0, high=highest, left=top + _HEIGHT, right=top + 18)
        _draw_windows(picture, capture, across, top)
        picture.path([(across(t), up(value)) for t, value in inside], "line")
        picture.text(_LEFT, top - 8, name, "title")
        picture.text(_LEFT - 6, top + 18, f"{highest:.3g} {unit}", anchor="end")
        picture.text(_LEFT - 6, top + _HEIGHT, "0", anchor="end")
    seconds = (end_ns - start_ns) / 1e9
    picture.text(_WIDTH - 10, height - 8, f"{seconds:.1f} s", anchor="end")
    return standalone(picture.svg(), _STYLE, _WIDTH)


def _draw_windows(picture: Picture, capture: Capture, across: Scale, top: int) -> None:
    for window in capture.windows:
        left, right = across(window.start_ns), across(window.end_ns)
        picture.rect(left, top, right - left, _HEIGHT, f"window window-{window.name}")
        if right - left > 50:
            picture.text(left + 4, top + 14, window.name)


def _title(series: Series) -> str:
    """The source's name; an estimate is marked as such."""
    estimated = " (estimated, not measured)" if series.source.kind == "estimate" else ""
    return series.source.id + estimated


def _description(capture: Capture, panels: Sequence[tuple[str, str, Points]]) -> str:
    windows = ", ".join(f"{w.name} {w.duration_s:.1f} s" for w in capture.windows)
    peaks = ", ".join(f"{name} up to {max(v for _, v in p):.3g} {unit}" for name, unit, p in panels)
    return f"Windows: {windows}. {peaks or 'No readings'}."


def _visible(points: Points) -> Points:
    """Thin out many points: the lowest and highest of every few, in order of time."""
    few, value = -(-2 * len(points) // _MOST_POINTS), operator.itemgetter(1)
    if few <= 2:
        return points
    kept = Points()
    for begin in range(0, len(points), few):
        own = points[begin : begin + few]
        kept += sorted({min(own, key=value), max(own, key=value)})
    return kept


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
    # Between two new values: a repeated one carries no information about the time since.
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
