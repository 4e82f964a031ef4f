"""PNG and PDF of figures, for slides and for papers that take no SVG.

matplotlib is installed with MLflow and brings its own fonts, so that text looks alike on every
machine. A figure has few kinds of elements, all made by `svg.Picture`; their style is what
`svg.STYLE` says of their classes, on white.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from slm_energy.svg import WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI, _MARGIN = 200, 16
_INK, _SOFT, _RULE, _MARK = "#1c2430", "#5b6777", "#d5dbe3", "#1f6f8b"
_WARM, _GOOD, _PALE = "#b4532a", "#2f7d4f", "#dfeaf0"
_LINES: dict[str, dict[str, Any]] = {
    "rule": {"color": _RULE, "linewidth": 0.7},
    "axis": {"color": _SOFT, "linewidth": 0.7},
    "thin": {"color": _SOFT, "linewidth": 0.7},
    "zero": {"color": _SOFT, "linewidth": 0.7, "linestyle": (0, (3, 3))},
    "bar": {"color": _MARK, "linewidth": 9, "alpha": 0.28, "solid_capstyle": "butt"},
    "clique": {"color": _MARK, "linewidth": 2.2, "solid_capstyle": "butt"},
    "front": {"color": _GOOD, "linewidth": 1.2},
    "curve0": {"color": _MARK, "linewidth": 1.2},
    "curve1": {"color": _WARM, "linewidth": 1.2},
    "curve2": {"color": _GOOD, "linewidth": 1.2},
    "curve3": {"color": _SOFT, "linewidth": 1.2},
    "dots": {"color": _MARK, "marker": "o", "linestyle": "", "markersize": 5, "alpha": 0.55},
}
_FILLS: dict[str, dict[str, Any]] = {
    "dot": {"facecolor": _MARK, "alpha": 0.55, "edgecolor": "white"},
    "flag": {"facecolor": "none", "edgecolor": _WARM},
    "mean": {"facecolor": _MARK, "edgecolor": "white"},
    "best": {"facecolor": _GOOD, "edgecolor": "white"},
    "band": {"facecolor": _PALE, "edgecolor": "none"},
    "span": {"facecolor": "white", "edgecolor": _MARK, "hatch": "/////"},
    "part0": {"facecolor": _MARK, "edgecolor": "white"},
    "part1": {"facecolor": _WARM, "edgecolor": "white"},
    "part2": {"facecolor": _GOOD, "edgecolor": "white"},
    "part3": {"facecolor": _SOFT, "edgecolor": "white"},
}
_ANCHORS: dict[str, Literal["left", "center", "right"]] = {
    "start": "left",
    "middle": "center",
    "end": "right",
}
_POINTS = 0.72  # per pixel: WIDTH pixels are 8.2 inches


def slides(svg: str) -> dict[str, bytes]:
    """A figure as `png` and `pdf`.

    Args:
        svg: from `svg.Picture.svg` or `svg.standalone`.

    Raises:
        KeyError: it has an element whose style is not known here.
    """
    from matplotlib import rc_context

    made = {}
    with rc_context({"pdf.fonttype": 42, "hatch.linewidth": 0.8}):  # text stays text
        figure = _drawn(ElementTree.fromstring(svg))
        for form in ("png", "pdf"):
            buffer = io.BytesIO()
            metadata = {"CreationDate": None} if form == "pdf" else None
            figure.savefig(buffer, format=form, dpi=_DPI, metadata=metadata)
            made[form] = buffer.getvalue()
    return made


def _drawn(root: ElementTree.Element) -> Figure:
    from matplotlib.figure import Figure

    height = float(root.get("height", ""))
    whole = WIDTH + 2 * _MARGIN, height + 2 * _MARGIN
    figure = Figure(figsize=(whole[0] / 100, whole[1] / 100))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, WIDTH + _MARGIN), ylim=(height + _MARGIN, -_MARGIN))
    axes.set_axis_off()
    _draw(axes, root, "estimated" in root.get("class", ""), (0.0, 0.0), itertools.count(1))
    return figure


def _draw(
    axes: Any,
    parent: ElementTree.Element,
    estimated: bool,
    at: tuple[float, float],
    orders: Iterator[int],
) -> None:
    """Draw the elements of a picture in their order.

    Args:
        axes: matplotlib's, in pixels of the picture.
        parent: the picture, or one within it.
        estimated: its marks are hollow and hatched.
        at: where it begins.
        orders: numbers the elements: later ones lie over earlier ones.
    """
    from matplotlib.patches import Ellipse, Polygon, Rectangle

    for element in parent:
        order, style = next(orders), element.get("class", "")
        match element.tag.rpartition("}")[2]:
            case "line":
                x, y = ([_px(element, f"{axis}{end}") for end in (1, 2)] for axis in ("x", "y"))
                axes.plot(x, y, zorder=order, **_LINES[style])
            case "rect" if style:
                corner = _px(element, "x"), _px(element, "y")
                size = _px(element, "width"), _px(element, "height")
                axes.add_patch(Rectangle(corner, *size, zorder=order, **_fill(style, estimated)))
            case "circle":
                radius = _px(element, "r")
                middle = _px(element, "cx"), _px(element, "cy")
                size = 2 * radius, 2 * radius
                axes.add_patch(Ellipse(middle, *size, zorder=order, **_fill(style, estimated)))
            case "path" if style == "dots":
                places = [
                    place.split() for place in re.findall(r"M([^h]*)h0", element.get("d", ""))
                ]
                x, y = ([float(place[i]) for place in places] for i in (0, 1))
                axes.plot(x, y, zorder=order, **_LINES[style])
            case "path":  # a diamond
                ends = [(at[0] + x, at[1] + y) for x, y in ((-6, 0), (0, -6), (6, 0), (0, 6))]
                axes.add_patch(Polygon(ends, zorder=order, **_fill(style, estimated)))
            case "polyline":
                points = [pair.split(",") for pair in element.get("points", "").split()]
                x, y = ([float(pair[i]) for pair in points] for i in (0, 1))
                axes.plot(x, y, zorder=order, **_LINES[style])
            case "text":
                axes.text(
                    _px(element, "x"), _px(element, "y"), element.text or "",
                    fontsize=_POINTS * (11.5 if "small" in style else 13),
                    fontweight="bold" if "head" in style else "normal",
                    color=_SOFT if "soft" in style else _INK, parse_math=False,
                    ha=_ANCHORS[element.get("text-anchor", "start")], va="baseline", zorder=order,
                )  # fmt: skip
            case "svg":
                _draw(axes, element, estimated, (_px(element, "x"), _px(element, "y")), orders)


def _fill(style: str, estimated: bool) -> dict[str, Any]:
    fill = {"linewidth": 0.8} | _FILLS[style.split()[-1]]
    if estimated and style in ("dot", "mean", "best"):
        fill |= {"facecolor": "white", "edgecolor": _GOOD if style == "best" else _MARK}
    if estimated and style.startswith("part "):
        fill |= {"facecolor": "white", "edgecolor": fill["facecolor"], "hatch": "/////"}
    return fill


def _px(element: ElementTree.Element, name: str) -> float:
    """A length in pixels; a share is one of the width."""
    text = element.get(name, "0")
    return WIDTH * float(text[:-1]) / 100 if text.endswith("%") else float(text)
