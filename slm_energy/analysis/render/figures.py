"""The figures of a report, as SVG with a text alternative. Each takes plain results.

strip         every trial of a metric, cell by cell, with the mean's interval
forest        every cell's ratio to the reference, with the margin
drift         residuals in the order in which trials ran
pareto        two metrics, with the front of best trade-offs
breakdown     where the energy goes: components, or phases

Names are above what they name, not beside it: a phone has room for them there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from slm_energy.analysis.render.against import against_reference
from slm_energy.analysis.render.energy_breakdown import Breakdown
from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.diagnostics import Descriptive, Point
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.pareto import Pareto
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import number, of_reference, percent, shown, titled
from slm_energy.svg import ROW, WIDTH, Picture, Scale, scale, shortened

MARKED = 40.0
"""Height of a row with a name and, below it, marks."""

MOST_ROWS = 24
"""Of that height in one figure: a printed page has room for them, and a slide."""

_LEFT, _RIGHT = 8.0, WIDTH - 8
"""Where axes begin and end."""

MOST_TIPS = 2000
"""Trials of a figure up to which each is an element with a tooltip; more are drawn as one."""

_NAMED = 14
"""Cells on a front that are named below it."""


def parts(rows: int, each: int = 1) -> list[slice]:
    """Of the rows of a figure: as few as there can be, alike, and none longer than a page.

    Args:
        rows: how many there are.
        each: names with marks in one of them.
    """
    count = min(rows, -(-rows * each // MOST_ROWS))
    ends = [round(n * rows / count) for n in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def strip(
    report: Report, result: MetricResult, best: int | None = None, part: slice | None = None
) -> str:
    """Every trial as a dot on its cell's t interval; the geometric mean is a diamond.

    Each cell states its mean and how it compares with the reference of its family, whose mean is
    the dashed line. The thin line below spans the instruments' own interval. Flagged trials have a
    ring.

    Args:
        report: where the metric is from.
        result: the metric.
        best: cells of each family that are shown, with its reference; None for all.
        part: of the rows, one of `parts`; the axis is that of all of them.
    """
    metric = result.metric
    groups = [(family, _best(family, group, best)) for family, group in _by_family(result)]
    rows = [row for _, group in groups for row in group]
    axis = value_axis([v * metric.scale for row in rows for v in _values(row)])
    if part is not None:
        rows = rows[part]
        groups = [(f, [row for row in group if row in rows]) for f, group in groups]
        groups = [(family, group) for family, group in groups if group]
    points: dict[str, list[Point]] = {row.cell: [] for row in rows}
    for point in result.diagnostics.points:
        if point.cell in points:
            points[point.cell].append(point)
    many = len(result.diagnostics.points) > MOST_TIPS
    height = len(rows) * MARKED + ROW * sum(bool(f.name) for f, _ in groups) + 56
    title = f"{metric.heading}, every trial{titled(report, metric)}"
    words = _means(report, metric, rows)
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    means = {row.cell: row.mean for row in result.descriptive}
    y = 4.0
    for family, group in groups:
        if family.name:
            picture.text(0, y + 14, family.name, "head")
            if best is not None and len(group) < len(family.ranked):
                said = f"{len(group)} of {len(family.ranked)} cells"
                picture.text(WIDTH, y + 14, said, "small soft", "end")
            y += ROW
        if family.headline and family.reference in means:
            at = axis(means[family.reference] * metric.scale)
            picture.line(at, y, at, y + len(group) * MARKED, "zero")
        ratios = {row.cell: row.ratio for row in against_reference(metric, family)}
        for row in group:
            said = shown(metric, row.mean)
            if (ratio := ratios.get(row.cell)) is not None:
                said += f", {of_reference(ratio)}"
            elif family.headline and row.cell == family.reference:
                said += ", reference"
            label = report.short_label(row.cell)
            middle = draw_name(picture, label, y, said)
            _draw_cell(picture, axis, middle, row, metric, points[row.cell], many)
            y += MARKED
    draw_axis(picture, axis, height - 40, metric.heading, metric.unit)
    return picture.svg()


def best_of_many(result: MetricResult) -> int | None:
    """Cells of each family that a figure shows where all are too many; None where they are not."""
    if len(result.descriptive) <= MOST_ROWS:
        return None
    return max(2, MOST_ROWS // max(1, len(result.families)))


def _best(family: Family, group: list[Descriptive], most: int | None) -> list[Descriptive]:
    """The first cells of a family, the last of which makes room for a reference further down."""
    if most is None or len(group) <= most:
        return group
    named = [row for row in group[most:] if row.cell == family.reference]
    return group[: most - len(named)] + named


def _by_family(result: MetricResult) -> Iterator[tuple[Family, list[Descriptive]]]:
    """The families, each with the rows of its cells, best first."""
    rows = {row.cell: row for row in result.descriptive}
    for family in result.families:
        if group := [rows.pop(cell) for cell in family.ranked if cell in rows]:
            yield family, group
    if rows:  # an error kept their comparison out
        yield Family.not_compared("", tuple(rows), ""), list(rows.values())


def _values(row: Descriptive) -> list[float]:
    """All values of a row that must fit into the picture."""
    ends = (row.low, row.high, row.instrument_low, row.instrument_high)
    return [row.minimum, row.maximum, *(v for v in ends if v is not None)]


def _draw_cell(
    picture: Picture,
    axis: Scale,
    y: float,
    row: Descriptive,
    metric: Metric,
    points: Sequence[Point],
    many: bool,
) -> None:
    if row.instrument_low is not None and row.instrument_high is not None:
        ends = row.instrument_low * metric.scale, row.instrument_high * metric.scale
        picture.line(axis(ends[0]), y + 9, axis(ends[1]), y + 9, "thin")
    if row.low is not None and row.high is not None:
        picture.span(axis(row.low * metric.scale), axis(row.high * metric.scale), y)
    picture.diamond(axis(row.mean * metric.scale), y, "mean")
    if many:
        picture.dots(((axis(point.value * metric.scale), y) for point in points), 1)
    for point in points:
        value = point.value * metric.scale
        if not many or point.outlier:
            picture.circle(axis(value), y, 3.5, "dot", f"round {point.round}: {number(value)}")
        if point.outlier:
            picture.circle(axis(value), y, 7, "flag")


def forest(report: Report, metric: Metric, family: Family, part: slice | None = None) -> str:
    """Ratio of each cell to the reference with its interval, against the margin.

    Args:
        report: where the metric is from.
        metric: what the ratios are of.
        family: the cells.
        part: of those that are not the reference, one of `parts`; the axis is that of all of them.
    """
    rows = against_reference(metric, family)
    known = [row for row in rows if row.ratio is not None]
    ends = [v for row in known for v in (row.ratio, *(row.interval or ()), *(row.wide or ()))]
    axis = ratio_axis(report.options.margin, [v for v in ends if v is not None])
    rows = rows[part or slice(None)]
    height = len(rows) * MARKED + 56
    reference = report.short_label(family.reference)
    title = f"{metric.heading}: ratio to {report.labels[family.reference]}"
    title += titled(report, metric)
    words = "; ".join(
        f"{report.labels[row.cell]} {number(row.ratio)}" for row in rows if row.ratio is not None
    )
    words = words or "No ratio is known."
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    draw_ratio_axis(picture, axis, height, report.options.margin, f"ratio to {reference}")
    for position, row in enumerate(rows):
        said = row.stated if row.ratio is None else f"{of_reference(row.ratio)}: {row.stated}"
        label = report.short_label(row.cell)
        y = draw_name(picture, label, 4 + position * MARKED, said)
        if row.wide is not None:
            picture.line(axis(row.wide[0]), y, axis(row.wide[1]), y, "thin")
        if row.interval is not None:
            picture.span(axis(row.interval[0]), axis(row.interval[1]), y)
        if row.ratio is not None:
            picture.diamond(axis(row.ratio), y, "mean")
    return picture.svg()


def drift(report: Report, result: MetricResult) -> str:
    """Each trial's residual from its cell's mean, in planned order; the sentinel's are diamonds."""
    points = result.diagnostics.points
    sentinel = () if result.sentinel is None else result.sentinel.points
    height = 240.0
    across = scale([p.order for p in (*points, *sentinel)], _LEFT, _RIGHT)
    up = scale([100 * p.residual for p in (*points, *sentinel)] + [0.0], height - 48, 20)
    slopes = [
        f"{d.slope_pct:+.2g} % per {_STEPS[d.against]} (p {number(d.p)})"
        for d in result.diagnostics.drifts
    ]
    title = f"{result.metric.heading}: residuals in execution order"
    estimated = result.metric.estimated
    picture = Picture(WIDTH, height, title, "; ".join(slopes), estimated=estimated)
    _draw_upright_axis(picture, up, _RIGHT, "%", "+.3g")
    picture.line(0, up(0), _RIGHT, up(0), "zero")
    draw_axis(picture, across, height - 40, "position in the planned order", "")
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
    on_front = [p for p in front.points if p.front]
    plane = 380.0
    height = plane + ROW * (1 + min(len(on_front), _NAMED + 1))
    ends_x = _ends(x, [(p.x, p.x_low, p.x_high) for p in front.points])
    ends_y = _ends(y, [(p.y, p.y_low, p.y_high) for p in front.points])
    pixels_x = value_axis(ends_x, 56)
    pixels_y = scale(ends_y, plane - 52, 44, log=_wide(ends_y))
    words = ", ".join(report.labels[p.cell] for p in on_front)
    title = f"{y.heading} against {x.heading[:1].lower()}{x.heading[1:]}"
    estimated = x.estimated or y.estimated
    picture = Picture(WIDTH, height, title, f"On the front: {words}.", estimated=estimated)
    draw_axis(picture, pixels_x, plane - 42, x.heading, x.unit)
    _draw_upright_axis(picture, pixels_y, _RIGHT, "", ",.6g")
    picture.text(0, 14, _axis_name(pixels_y, y.heading, y.unit), "small soft")
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
        name = str(on_front.index(p) + 1) if p.front else report.short_label(p.cell)
        if p.front or len(front.points) <= _NAMED:
            late = at[0] > WIDTH * 0.6
            picture.text(at[0] + (-9 if late else 9), at[1] - 7, name, "small soft",
                         "end" if late else "start")  # fmt: skip
    picture.text(0, plane + 14, "On the front; in % of resamples", "small soft")
    for position, p in enumerate(on_front[:_NAMED]):
        words = f"{position + 1}  {shortened(report.labels[p.cell])}, {100 * p.probability:.0f} %"
        picture.text(0, plane + 14 + ROW * (position + 1), words)
    if len(on_front) > _NAMED:
        more = f"and {len(on_front) - _NAMED} more"
        picture.text(0, plane + 14 + ROW * (_NAMED + 1), more, "soft")
    return picture.svg()


def breakdown(report: Report, shown: Breakdown, part: slice | None = None) -> str:
    """Stacked bars of joules, a bar per cell; `part` is one of `parts`."""
    part = part or slice(None)
    sums = [sum(column) for column in zip(*shown.values.values(), strict=True)]
    axis = Scale(low=0, high=max(sums) * 1.05, left=0, right=_RIGHT)
    values = {name: column[part] for name, column in shown.values.items()}
    labels, sums = [report.labels[cell] for cell in shown.cells[part]], sums[part]
    height = ROW * len(values) + len(labels) * MARKED + 60
    words = "; ".join(f"{label} {number(total)}" for label, total in zip(labels, sums, strict=True))
    words = f"{', '.join(values)}. In all, J: {words}."
    picture = Picture(WIDTH, height, shown.title, words, estimated=shown.estimated)
    for position, name in enumerate(values):
        y = position * ROW
        picture.rect(0, y + 4, 14, 12, f"part part{position}")
        picture.text(0.05 * WIDTH, y + 14, name, "small")
    draw_axis(picture, axis, height - 40, "J", "")
    for row, label in enumerate(labels):
        top = ROW * len(values) + 4 + row * MARKED
        said = f"{number(sums[row])} = {' + '.join(number(c[row]) for c in values.values())}"
        y, start = draw_name(picture, label, top, said), axis(0)
        for position, column in enumerate(values.values()):
            width = axis(column[row]) - axis(0)
            picture.rect(start, y - 8, width, 16, f"part part{position}")
            start += width
    return picture.svg()


def _means(report: Report, metric: Metric, rows: Sequence[Descriptive]) -> str:
    return "; ".join(
        f"{report.labels[row.cell]} {number(row.mean * metric.scale)} {metric.unit}"
        + ("" if row.low is None or row.high is None else _interval(row.low, row.high, row.mean))
        for row in rows
    )


def _interval(low: float, high: float, mean: float) -> str:
    return f" (-{percent(1 - low / mean)} % to +{percent(high / mean - 1)} %)"


def value_axis(values: Sequence[float], left: float = _LEFT) -> Scale:
    """A horizontal axis over values; logarithmic if they range far."""
    return scale(values, left, _RIGHT, log=_wide(values))


def _wide(values: Sequence[float]) -> bool:
    """Whether values range so far that small ones need a logarithmic axis."""
    return min(values) > 0 and max(values) / min(values) > 8


def _ends(metric: Metric, rows: Sequence[tuple[float, float | None, float | None]]) -> list[float]:
    return [value * metric.scale for row in rows for value in row if value is not None]


def _axis_name(axis: Scale, name: str, unit: str) -> str:
    return ", ".join(filter(None, (name, unit, "logarithmic" * axis.log)))


def ratio_axis(margin: float, ratios: Sequence[float]) -> Scale:
    """A horizontal axis over ratios and the margin around 1."""
    return scale([1 - margin, 1 / (1 - margin), *ratios], _LEFT, _RIGHT, log=True)


def draw_ratio_axis(picture: Picture, axis: Scale, height: float, margin: float, name: str) -> None:
    """The axis, a line at 1 and the shaded margin."""
    low, high = axis(1 - margin), axis(1 / (1 - margin))
    picture.rect(low, 4, high - low, height - 48, "band")
    picture.line(axis(1), 4, axis(1), height - 44, "zero")
    draw_axis(picture, axis, height - 40, name, "")


def draw_axis(picture: Picture, axis: Scale, y: float, name: str, unit: str) -> None:
    """A horizontal axis with its ticks and what it shows."""
    picture.line(axis.left, y, axis.right, y, "axis")
    for tick in axis.ticks():
        at = axis(tick)
        picture.line(at, y, at, y + 4, "axis")
        anchor = "start" if at < WIDTH * 0.05 else "end" if at > WIDTH * 0.95 else "middle"
        picture.text(at, y + 16, f"{tick:,.6g}", "small soft", anchor)
    picture.text(axis.right, y + 33, _axis_name(axis, name, unit), "small soft", "end")


def _draw_upright_axis(picture: Picture, axis: Scale, right: float, unit: str, form: str) -> None:
    """Rules across the picture, each with its value above its left end."""
    for tick in axis.ticks():
        picture.line(0, axis(tick), right, axis(tick), "rule")
        picture.text(0, axis(tick) - 3, f"{tick:{form}} {unit}".strip(), "small soft")


def draw_name(picture: Picture, name: str, y: float, said: str) -> float:
    """What a row shows at the left, and a remark at the right; where its marks belong."""
    picture.text(0, y + 11, shortened(name))
    picture.text(WIDTH, y + 11, said, "small soft", "end")
    return y + 25
