"""A small SVG writer: what figures of reports and of single trials are drawn with.

A plotting library would take longer to import than a trial's bookkeeping takes. Colours are CSS
classes, so that a page can be light or dark; `STYLE` gives them their colours and `HATCHES` the
patterns of what is estimated. A page has both once; `standalone` puts them into a picture that is a
file of its own. All text is escaped.

A picture is as wide as its place: what is drawn at a pixel of `WIDTH` is stored as a share of the
width, while heights and text keep their size, so that a phone shows it as legibly as a desk.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from html import escape

from slm_energy.escape import visible

STYLE = """
.fig{overflow:visible;--ink:#1c2430;--soft:#5b6777;--rule:#d5dbe3;--face:#ffffff;--mark:#1f6f8b;
--warm:#b4532a;--good:#2f7d4f;--pale:#dfeaf0}
.fig text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink);
paint-order:stroke;stroke:var(--face);stroke-width:3px;stroke-linejoin:round}
.fig .head{font-weight:600} .fig .soft{fill:var(--soft)} .fig .small{font-size:11.5px}
.fig .rule{stroke:var(--rule);stroke-width:1} .fig .axis{stroke:var(--soft);stroke-width:1}
.fig .dot{fill:var(--mark);fill-opacity:.55;stroke:var(--face);stroke-width:.8}
.fig .dots{fill:none;stroke:var(--mark);stroke-opacity:.55;stroke-width:7;stroke-linecap:round}
.fig .flag{fill:none;stroke:var(--warm);stroke-width:1.6}
.fig .line{fill:none;stroke:var(--mark);stroke-width:1.5}
.fig .bar{stroke:var(--mark);stroke-width:12;stroke-opacity:.28}
.fig .clique{stroke:var(--mark);stroke-width:3} .fig .thin{stroke:var(--soft);stroke-width:1}
.fig .mean{fill:var(--mark);stroke:var(--face);stroke-width:1.2}
.fig .band{fill:var(--pale)} .fig .zero{stroke:var(--soft);stroke-dasharray:3 3}
.fig .front{fill:none;stroke:var(--good);stroke-width:1.6}
.fig .best{fill:var(--good);stroke:var(--face);stroke-width:1.2}
.fig .curve0{stroke:var(--mark)} .fig .curve1{stroke:var(--warm)}
.fig .curve2{stroke:var(--good)} .fig .curve3{stroke:var(--soft)}
.fig [class^=curve]{fill:none;stroke-width:1.6}
.fig .part{stroke:var(--face);stroke-width:1} .fig .part0{fill:var(--mark)}
.fig .part1{fill:var(--warm)} .fig .part2{fill:var(--good)} .fig .part3{fill:var(--soft)}
.estimated .dot{fill:var(--face);stroke:var(--mark);stroke-opacity:.6;fill-opacity:1}
.estimated .span{stroke:var(--mark);stroke-width:1.2}
.estimated .span,.estimated .part0{fill:url(#hatch-mark)}
.estimated .part1{fill:url(#hatch-warm)}
.estimated .best,.estimated .part2{fill:url(#hatch-good)} .estimated .part3{fill:url(#hatch-soft)}
.estimated .part0{stroke:var(--mark)} .estimated .part1{stroke:var(--warm)}
.estimated .best,.estimated .part2{stroke:var(--good)} .estimated .part3{stroke:var(--soft)}
.estimated .mean{fill:var(--face);stroke:var(--mark);stroke-width:1.8}
""".strip()

HATCHES = (
    "<defs>"
    + "".join(
        f'<pattern id="hatch-{colour}" width="6" height="6" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><rect width="6" height="6" style="fill:var(--face)"/>'
        f'<rect width="2.6" height="6" style="fill:var(--{colour})"/></pattern>'
        for colour in ("mark", "warm", "good", "soft")
    )
    + "</defs>"
)

WIDTH = 820.0
"""Of every picture at its widest, in pixels."""

ROW = 24.0
"""Height of a row of text."""

_LONGEST = 34
"""Characters of a label: a phone shows 13 px text of that length, and a figure beside it."""


class Picture:
    """A picture under construction; coordinates are pixels from the upper left corner.

    Args:
        width: in pixels.
        height: in pixels.
        title: what it shows, in a few words.
        description: the figures in words, for those who cannot see the picture.
        estimated: it shows a model's estimates, which are hatched and hollow.
    """

    def __init__(
        self, width: float, height: float, title: str, description: str, *, estimated: bool = False
    ) -> None:
        self._estimated = estimated
        self._width, self._height = width, height
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fig{" estimated" * estimated}"'
            f' role="img" width="100%" height="{height:.0f}">'
            f"<title>{_text(title)}</title><desc>{_text(description)}</desc>"
        )
        self._parts: list[str] = []

    def _across(self, x: float) -> str:
        return f"{100 * x / self._width:.2f}%"

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line class="{style}" x1="{self._across(x1)}" y1="{y1:.1f}"'
            f' x2="{self._across(x2)}" y2="{y2:.1f}"/>'
        )

    def span(self, x1: float, x2: float, y: float) -> None:
        """An interval: a line, or a hatched bar where it is an estimate's."""
        if self._estimated:
            self.rect(x1, y - 6, x2 - x1, 12, "span")
        else:
            self.line(x1, y, x2, y, "bar")

    def rect(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A filled rectangle."""
        self._parts.append(
            f'<rect class="{style}" x="{self._across(x)}" y="{y:.1f}"'
            f' width="{self._across(max(0.0, width))}" height="{height:.1f}"/>'
        )

    def circle(self, x: float, y: float, radius: float, style: str, tip: str = "") -> None:
        """A disc; `tip` is its tooltip."""
        inner = f"<title>{_text(tip)}</title>" if tip else ""
        self._parts.append(
            f'<circle class="{style}" cx="{self._across(x)}" cy="{y:.1f}" r="{radius:g}">'
            f"{inner}</circle>"
        )

    def dots(self, points: Iterable[tuple[float, float]], grid: float) -> None:
        """Many discs as one element; those at the same place of a grid, in pixels, are one."""
        places = sorted({(round(x / grid), round(y / grid)) for x, y in points})
        drawn = "".join(f"M{x * grid:g} {y * grid:g}h0" for x, y in places)
        self._stretched(f'<path class="dots" vector-effect="non-scaling-stroke" d="{drawn}"/>')

    def diamond(self, x: float, y: float, style: str) -> None:
        """A diamond, which is distinct from discs."""
        self._parts.append(
            f'<svg x="{self._across(x)}" y="{y:.1f}" width="1" height="1" overflow="visible">'
            f'<path class="{style}" d="M-6 0l6-6 6 6-6 6z"/></svg>'
        )

    def path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """An open line through points."""
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._stretched(
            f'<polyline class="{style}" vector-effect="non-scaling-stroke" points="{drawn}"/>'
        )

    def _stretched(self, element: str) -> None:
        """Add what has no shares of the width for its points."""
        self._parts.append(
            f'<svg width="100%" height="{self._height:.0f}" preserveAspectRatio="none"'
            f' viewBox="0 0 {self._width:.0f} {self._height:.0f}">{element}</svg>'
        )

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """One line of text; `anchor` is `start`, `middle` or `end`."""
        self._parts.append(
            f'<text class="{style}" x="{self._across(x)}" y="{y:.1f}"'
            f' text-anchor="{anchor}">{_text(text)}</text>'
        )

    def svg(self) -> str:
        """The picture as an element for a page."""
        return self._head + "".join(self._parts) + "</svg>"


def standalone(svg: str, style: str = "", width: float = WIDTH) -> str:
    """A picture as a file of its own, on white.

    Args:
        svg: from `Picture.svg`.
        style: CSS of classes that only this picture has.
        width: in pixels.
    """
    head, mark, rest = svg.replace('width="100%"', f'width="{width:.0f}"', 1).partition("</desc>")
    face = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return f"{head}{mark}<style>{STYLE}{style}</style>{HATCHES}{face}{rest}\n"


def shortened(label: str) -> str:
    """A label that leaves room for the picture; both ends are kept, as either may differ."""
    half = _LONGEST // 2
    return label if len(label) <= _LONGEST else f"{label[: half - 1]}…{label[-half:]}"


def _text(text: str) -> str:
    return escape(visible(text))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """From values to pixels.

    Attributes:
        low: value at the left end.
        high: value at the right end.
        left: its pixel.
        right: its pixel.
        log: logarithmic; both ends are positive.
    """

    low: float
    high: float
    left: float
    right: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self.left + (at - low) / (high - low) * (self.right - self.left)

    def ticks(self) -> list[float]:
        """About five round values within the range, as a phone has no room for more."""
        if self.log and self.high / self.low > 8:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1.0, 2.0, 5.0) if self.high / self.low < 60 else (1.0,)
            stride = 1 + len(decades) // 7
            ticks = [step * 10.0**decade for decade in decades[::stride] for step in steps]
        else:
            rough = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(rough))
            step = min((m * unit for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
            first = math.ceil(self.low / step)
            ticks = [n * step for n in range(first, math.floor(self.high / step) + 1)]
        return [value for value in ticks if self.low <= value <= self.high]


def scale(values: Sequence[float], left: float, right: float, *, log: bool = False) -> Scale:
    """A scale that holds all values with a margin around them.

    Args:
        values: at least one; all positive where `log` is True.
        left: pixel of the lower end.
        right: pixel of the upper end.
        log: logarithmic.
    """
    low, high = min(values), max(values)
    if log:
        air = (high / low) ** 0.06 if high > low else 1.1
        return Scale(low=low / air, high=high * air, left=left, right=right, log=True)
    air = (high - low) * 0.06 if high > low else abs(high) * 0.1 or 1.0
    return Scale(low=low - air, high=high + air, left=left, right=right)
