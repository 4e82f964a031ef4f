"""The figures of a report, as SVG with a text alternative. Each takes plain results.

strip         every trial of a metric, cell by cell, with the mean's interval
forest        every cell's ratio to the reference, with the margin
drift         residuals in the order in which trials ran
pareto        two metrics, with the front of best trade-offs
stacked_bars  where the energy goes: components, or phases
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.diagnostics import Point
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.verdict import mirrored
from slm_energy.analysis.text.phrases import number, percent, titled
from slm_energy.svg import CHARACTER, ROW, WIDTH, Picture, Scale, room, scale, shortened

_RIGHT = WIDTH - 32
"""Where axes end: the last tick's figure needs room."""

MOST_TIPS = 2000
"""Trials of a figure up to which each is an element with a tooltip; more are drawn as one."""

_NAMED = 14
"""Cells on a front that are named beside it."""

_VERDICT = 230.0
"""Room for the verdict at the right."""


def strip(report: Report, result: MetricResult) -> str:
    """Every trial as a dot, the geometric mean as a diamond on its t interval.

    The thin line under a mean spans the instruments' own interval. Flagged trials have a ring.
    """
    metric, rows = result.metric, result.descriptive
    points: dict[str, list[Point]] = {}
    for point in result.diagnostics.points:
        points.setdefault(point.cell, []).append(point)
    many = len(result.diagnostics.points) > MOST_TIPS
    values = [v * metric.scale for row in rows for v in (row.minimum, row.maximum)]
    values += [
        v * metric.scale
        for row in rows
        for v in (row.low, row.high, row.instrument_low, row.instrument_high)
        if v is not None
    ]
    left = room(report.labels[row.cell] for row in rows)
    axis = _axis(values, left)
    height = len(rows) * ROW + 56
    title = f"{metric.heading}, every trial{titled(report, metric)}"
    words = _means(report, result)
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    draw_axis(picture, axis, height - 40, f"{metric.heading}, {metric.unit}".strip(", "))
    for position, row in enumerate(rows):
        y = 16 + position * ROW
        draw_label(picture, report.labels[row.cell], left, y)
        if row.instrument_low is not None and row.instrument_high is not None:
            low, high = row.instrument_low * metric.scale, row.instrument_high * metric.scale
            picture.line(axis(low), y + 9, axis(high), y + 9, "thin")
        if row.low is not None and row.high is not None:
            picture.span(axis(row.low * metric.scale), axis(row.high * metric.scale), y)
        own = points.get(row.cell, [])
        if many:
            picture.dots(((axis(p.value * metric.scale), y) for p in own), 1)
        for point in own:
            shown = point.value * metric.scale
            tip = f"round {point.round}: {number(shown)}"
            if not many or point.outlier:
                picture.circle(axis(shown), y, 4, "dot", tip)
            if point.outlier:
                picture.circle(axis(shown), y, 7, "flag")
        picture.diamond(axis(row.mean * metric.scale), y, "mean")
    return picture.svg()


def forest(report: Report, metric: Metric, family: Family) -> str:
    """Ratio of each cell to the reference with its interval, against the margin."""
    rows = [_Against(metric, pair, family.reference) for pair in family.headline]
    known = [row for row in rows if row.ratio is not None]
    margin = report.options.margin
    band = (1 - margin, 1 / (1 - margin))
    values = [*band, *(v for row in known for v in row.ends())]
    left = room(report.labels[row.cell] for row in rows)
    axis = scale(values, left, WIDTH - _VERDICT, log=True)
    height = len(rows) * ROW + 56
    title = f"{metric.heading}: ratio to {report.labels[family.reference]}"
    title += titled(report, metric)
    words = "; ".join(
        f"{report.labels[row.cell]} {number(row.ratio)}" for row in known if row.ratio is not None
    )
    words = words or "No ratio is known."
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    picture.rect(axis(band[0]), 4, axis(band[1]) - axis(band[0]), height - 48, "band")
    picture.line(axis(1), 4, axis(1), height - 44, "zero")
    draw_axis(picture, axis, height - 40, f"ratio to {report.labels[family.reference]}")
    for position, row in enumerate(rows):
        y = 16 + position * ROW
        draw_label(picture, report.labels[row.cell], left, y)
        if row.wide is not None:
            picture.line(axis(row.wide[0]), y, axis(row.wide[1]), y, "thin")
        if row.interval is not None:
            picture.span(axis(row.interval[0]), axis(row.interval[1]), y)
        if row.ratio is not None:
            picture.diamond(axis(row.ratio), y, "mean")
        picture.text(WIDTH - _VERDICT + 12, y + 4, row.verdict, "small soft")
    return picture.svg()


class _Against:
    """A cell against the reference, whichever of the two the pair names first."""

    def __init__(self, metric: Metric, pair: Pair, reference: str) -> None:
        turned = pair.a == reference
        self.cell = pair.b if turned else pair.a

        def side(low: float | None, high: float | None) -> tuple[float, float] | None:
            if low is None or high is None or low <= 0:
                return None
            return (1 / high, 1 / low) if turned else (low, high)

        known = pair.ratio is not None and pair.ratio > 0
        self.ratio = (1 / pair.ratio if turned else pair.ratio) if known and pair.ratio else None
        self.interval = side(pair.joint_low, pair.joint_high)
        self.wide = side(pair.joint_wide_low, pair.joint_wide_high)
        about = mirrored(pair.verdict, metric.higher_is_better) if turned else pair.verdict
        self.verdict = str(about) if pair.is_tested else "not tested"

    def ends(self) -> list[float]:
        """All values that must fit into the picture."""
        ends = [] if self.ratio is None else [self.ratio]
        return [*ends, *(self.interval or ()), *(self.wide or ())]


def drift(report: Report, result: MetricResult) -> str:
    """Each trial's residual from its cell's mean, in planned order; the sentinel's are diamonds."""
    points = result.diagnostics.points
    sentinel = () if result.sentinel is None else result.sentinel.points
    height, left = 240.0, 64.0
    across = scale([p.order for p in (*points, *sentinel)], left, _RIGHT)
    up = scale([100 * p.residual for p in (*points, *sentinel)] + [0.0], height - 48, 12)
    slopes = [
        f"{d.slope_pct:+.2g} % per {_STEPS[d.against]} (p {number(d.p)})"
        for d in result.diagnostics.drifts
    ]
    title = f"{result.metric.heading}: residuals in execution order"
    estimated = result.metric.estimated
    picture = Picture(WIDTH, height, title, "; ".join(slopes), estimated=estimated)
    picture.line(left, up(0), _RIGHT, up(0), "zero")
    for tick in up.ticks():
        picture.text(left - 8, up(tick) + 4, f"{tick:+.3g} %" if tick else "0", "small soft", "end")
    draw_axis(picture, across, height - 40, "position in the planned order")
    many, labels = len(points) > MOST_TIPS, report.labels
    if many:
        picture.dots(((across(p.order), up(100 * p.residual)) for p in points), 2)
    for point in points:
        x, y = across(point.order), up(100 * point.residual)
        tip = f"{labels[point.cell]}, round {point.round}: {100 * point.residual:+.2f} %"
        if not many or point.outlier:
            picture.circle(x, y, 4, "dot", tip)
        if point.outlier:
            picture.circle(x, y, 7, "flag")
    for point in sentinel:
        picture.diamond(across(point.order), up(100 * point.residual), "mean")
    return picture.svg()


_STEPS = {
    "order": "trial",
    "round": "round",
    "place": "position in the round",
    "temperature": "degree at the start",
}


def pareto(report: Report, front: Pareto) -> str:
    """Cells on the plane of two metrics; the front is joined and named, bars are t intervals."""
    x, y = front.x, front.y
    height, left, right = 380.0, 76.0, 660.0
    pixels_x = scale(_ends(x, [(p.x, p.x_low, p.x_high) for p in front.points]), left, right)
    pixels_y = scale(_ends(y, [(p.y, p.y_low, p.y_high) for p in front.points]), height - 52, 24)
    on_front = [p for p in front.points if p.front]
    words = ", ".join(report.labels[p.cell] for p in on_front)
    title = f"{y.heading} against {x.heading[:1].lower()}{x.heading[1:]}"
    estimated = x.estimated or y.estimated
    picture = Picture(WIDTH, height, title, f"On the front: {words}.", estimated=estimated)
    draw_axis(picture, pixels_x, height - 42, f"{x.heading}, {x.unit}".strip(", "))
    for tick in pixels_y.ticks():
        picture.text(left - 8, pixels_y(tick) + 4, f"{tick:,.6g}", "small soft", "end")
        picture.line(left, pixels_y(tick), right, pixels_y(tick), "rule")
    picture.text(left, 14, f"{y.heading}, {y.unit}".strip(", "), "small soft")
    corners = [(pixels_x(p.x * x.scale), pixels_y(p.y * y.scale)) for p in on_front]
    picture.path(sorted(corners), "front")
    for p in sorted(front.points, key=lambda p: p.front):
        at = pixels_x(p.x * x.scale), pixels_y(p.y * y.scale)
        if p.x_low is not None and p.x_high is not None:
            ends = pixels_x(p.x_low * x.scale), pixels_x(p.x_high * x.scale)
            picture.line(ends[0], at[1], ends[1], at[1], "thin")
        if p.y_low is not None and p.y_high is not None:
            ends = pixels_y(p.y_low * y.scale), pixels_y(p.y_high * y.scale)
            picture.line(at[0], ends[0], at[0], ends[1], "thin")
        tip = f"{report.labels[p.cell]}: on the front in {100 * p.probability:.0f} % of resamples"
        picture.circle(*at, 6 if p.front else 4.5, "best" if p.front else "dot", tip)
        if p.front:
            picture.text(at[0] + 9, at[1] - 7, str(on_front.index(p) + 1), "small")
    picture.text(right + 30, 14, "On the front; in % of resamples", "small soft")
    for position, p in enumerate(on_front[:_NAMED]):
        words = f"{position + 1}  {shortened(report.labels[p.cell])}, {100 * p.probability:.0f} %"
        picture.text(right + 30, 38 + 20 * position, words)
    if len(on_front) > _NAMED:
        picture.text(right + 30, 38 + 20 * _NAMED, f"and {len(on_front) - _NAMED} more", "soft")
    return picture.svg()


def stacked_bars(
    title: str,
    unit: str,
    labels: Sequence[str],
    values: Mapping[str, Sequence[float]],
    *,
    estimated: bool,
) -> str:
    """Stacked bars.

    Args:
        title: what is shown.
        unit: of the values.
        labels: (n,) one per bar.
        values: part to its (n,) values.
        estimated: they come from a model.
    """
    left = room(labels)
    sums = [sum(column) for column in zip(*values.values(), strict=True)]
    axis = Scale(low=0, high=max(sums) * 1.05, left=left, right=_RIGHT)
    height = len(labels) * ROW + 78
    words = "; ".join(f"{label} {number(total)}" for label, total in zip(labels, sums, strict=True))
    words = f"{', '.join(values)}. In all, {unit}: {words}."
    picture = Picture(WIDTH, height, title, words, estimated=estimated)
    at = left
    for position, name in enumerate(values):
        picture.rect(at, 4, 12, 12, f"part part{position}")
        picture.text(at + 17, 14, name, "small")
        at += 30 + len(name) * CHARACTER
    draw_axis(picture, axis, height - 40, unit)
    for row, label in enumerate(labels):
        y, start = 38 + row * ROW, axis(0)
        draw_label(picture, label, left, y)
        for position, column in enumerate(values.values()):
            width = axis(column[row]) - axis(0)
            picture.rect(start, y - 8, width, 16, f"part part{position}")
            start += width
    return picture.svg()


def _means(report: Report, result: MetricResult) -> str:
    return "; ".join(
        f"{report.labels[row.cell]} {number(row.mean * result.metric.scale)} {result.metric.unit}"
        + ("" if row.low is None or row.high is None else _interval(row.low, row.high, row.mean))
        for row in result.descriptive
    )


def _interval(low: float, high: float, mean: float) -> str:
    return f" (-{percent(1 - low / mean)} % to +{percent(high / mean - 1)} %)"


def _axis(values: Sequence[float], left: float) -> Scale:
    wide = min(values) > 0 and max(values) / min(values) > 8
    return scale(values, left, _RIGHT, log=wide)


def _ends(metric: Metric, rows: Sequence[tuple[float, float | None, float | None]]) -> list[float]:
    return [value * metric.scale for row in rows for value in row if value is not None]


def draw_axis(picture: Picture, axis: Scale, y: float, name: str) -> None:
    """A horizontal axis with its ticks and what it shows."""
    picture.line(axis.left, y, axis.right, y, "axis")
    for tick in axis.ticks():
        picture.line(axis(tick), y, axis(tick), y + 4, "axis")
        picture.text(axis(tick), y + 16, f"{tick:,.6g}", "small soft", "middle")
    picture.text(axis.right, y + 33, name, "small soft", "end")


def draw_label(picture: Picture, label: str, left: float, y: float, style: str = "") -> None:
    """A label that ends at the left of the plot."""
    picture.text(left - 10, y + 4, shortened(label), style, "end")
