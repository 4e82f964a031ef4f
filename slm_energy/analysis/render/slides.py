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

TALLEST = 1400
"""Pixels of a picture: a taller one fits no slide and no page."""

_DPI, _MARGIN = 200, 16
_INK, _SOFT, _RULE, _MARK = "#1c2430", "#5b6777", "#d5dbe3", "#1f6f8b"
_WARM, _GOOD, _PALE = "#b4532a", "#2f7d4f", "#dfeaf0"
_LINES: dict[str, dict[str, Any]] = {
    "rule": {"color": _RULE, "linewidth": 0.7},
    "axis": {"color": _SOFT, "linewidth": 0.7},
    "thin": {"color": _SOFT, "linewidth": 0.7},
    "zero": {"color": _SOFT, "linewidth": 0.7, "linestyle": (0, (3, 3))},
    "bar": {"color": _MARK, "linewidth": 9, "alpha": 0.28, "capstyle": "butt"},
    "clique": {"color": _MARK, "linewidth": 2.2, "capstyle": "butt"},
    "front": {"color": _GOOD, "linewidth": 1.2},
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
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 1}},  # a tenth larger, in half the time
    "pdf": {"metadata": {"CreationDate": None}},
}
_POINTS = 0.72  # per pixel: WIDTH pixels are 8.2 inches


def slides(svg: str) -> dict[str, bytes]:
    """A figure as `png` and `pdf`; none of a figure above `TALLEST`.

    Args:
        svg: from `svg.Picture.svg` or `svg.standalone`.

    Raises:
        KeyError: it has an element whose style is not known here.
    """
    from matplotlib import rc_context

    made: dict[str, bytes] = {}
    root = ElementTree.fromstring(svg)
    if float(root.get("height", "")) > TALLEST:
        return made
    with rc_context({"pdf.fonttype": 42, "hatch.linewidth": 0.8}):  # text stays text
        figure = _drawn(root)
        for form, options in _OPTIONS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=_DPI, **options)
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
    """Draw the elements of a picture in their order, neighbours of one kind together.

    Args:
        axes: matplotlib's, in pixels of the picture.
        parent: the picture, or one within it.
        estimated: its marks are hollow and hatched.
        at: where it begins.
        orders: numbers them: later ones lie over earlier ones.
    """
    from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection

    def add(collection: Any) -> None:
        axes.add_collection(collection, autolim=False)

    def kind(element: ElementTree.Element) -> tuple[str, str]:
        return element.tag.rpartition("}")[2], element.get("class", "")

    for (tag, style), run in itertools.groupby(parent, kind):
        elements, order = list(run), next(orders)
        match tag:
            case "line":
                ends = [[_point(each, "x1", "y1"), _point(each, "x2", "y2")] for each in elements]
                add(LineCollection(ends, zorder=order, **_LINES[style]))
            case "rect" if style:
                corners = [_corners(each) for each in elements]
                add(PolyCollection(corners, zorder=order, **_fill(style, estimated)))
            case "circle":
                sizes = [2 * _px(each, "r") for each in elements]
                places = [_point(each, "cx", "cy") for each in elements]
                circles = EllipseCollection(
                    sizes, sizes, [0], units="x", offsets=places, zorder=order,
                    offset_transform=axes.transData, **_fill(style, estimated),
                )  # fmt: skip
                add(circles)
            case "path" if style == "dots":
                found = re.findall(r"M(\S+) ([^h]+)h0", elements[0].get("d", ""))
                x, y = zip(*[(float(x), float(y)) for x, y in found], strict=True)
                axes.plot(x, y, zorder=order, **_LINES[style])
            case "path":  # a diamond
                ends = [[(at[0] + x, at[1] + y) for x, y in ((-6, 0), (0, -6), (6, 0), (0, 6))]]
                add(PolyCollection(ends, zorder=order, **_fill(style, estimated)))
            case "polyline":
                pairs = [pair.split(",") for pair in elements[0].get("points", "").split()]
                ends = [[(float(x), float(y)) for x, y in pairs]]
                add(LineCollection(ends, zorder=order, **_LINES[style]))
            case "text":
                for each in elements:
                    axes.text(
                        *_point(each, "x", "y"), each.text or "",
                        fontsize=_POINTS * (11.5 if "small" in style else 13),
                        fontweight="bold" if "head" in style else "normal",
                        color=_SOFT if "soft" in style else _INK, parse_math=False,
                        ha=_ANCHORS[each.get("text-anchor", "start")], va="baseline", zorder=order,
                    )  # fmt: skip
            case "svg":
                for each in elements:
                    _draw(axes, each, estimated, _point(each, "x", "y"), orders)


def _fill(style: str, estimated: bool) -> dict[str, Any]:
    fill = {"linewidth": 0.8} | _FILLS[style.split()[-1]]
    if estimated and style in ("dot", "mean", "best"):
        fill |= {"facecolor": "white", "edgecolor": _GOOD if style == "best" else _MARK}
    if estimated and style.startswith("part "):
        fill |= {"facecolor": "white", "edgecolor": fill["facecolor"], "hatch": "/////"}
    return fill


def _corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    """Of a rectangle."""
    (x, y), (width, height) = _point(element, "x", "y"), _point(element, "width", "height")
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _point(element: ElementTree.Element, x: str, y: str) -> tuple[float, float]:
    return _px(element, x), _px(element, y)


def _px(element: ElementTree.Element, name: str) -> float:
    """A length in pixels; a share is one of the width."""
    text = element.get(name, "0")
    return WIDTH * float(text[:-1]) / 100 if text.endswith("%") else float(text)
