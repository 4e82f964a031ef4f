"""What the sections of a report's page are made of, as plain data; `html` lays them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

from slm_energy.analysis.render.tables import Grid

MOST_OPEN = 30
"""Rows that a table or a figure shows without being opened."""


class Field(NamedTuple):
    """One field of a matrix: what it shows, its class, and its text for screen readers."""

    text: str
    style: str
    spoken: str


EMPTY = Field("", "", "")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A paragraph; style `finding` is larger, `muted` is paler."""

    text: str
    style: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """Of what follows, up to the next one."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A picture that this package drew; `svg` is markup."""

    svg: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table that is always shown."""

    grid: Grid


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """Figures and tables that are folded until a reader opens them."""

    title: str
    grids: tuple[Grid, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Rows of fields; with `heads`, these head the columns, else the numbers of the rows do."""

    caption: str
    labels: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]
    heads: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Generated code: untrusted text."""

    title: str
    text: str


Block = Text | Heading | Bullets | Figure | Table | Fold | Matrix | Code


class Part(NamedTuple):
    """A part of a section: its name, and what makes its blocks; none where it shows nothing.

    Neighbours with the same `fold` are folded together under it.
    """

    name: str
    blocks: Callable[[], Iterable[Block]]
    fold: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A titled part of the page; one whose parts show nothing is left out."""

    id: str
    title: str
    parts: tuple[Part, ...]


def filled(*grids: Grid) -> list[Block]:
    """The tables that have rows."""
    return [Table(grid=grid) for grid in grids if grid.rows]


def folded(grid: Grid, most: int = MOST_OPEN, title: str = "") -> list[Block]:
    """A table that is folded if it has more than `most` rows."""
    if len(grid.rows) > most:
        return [Fold(title=title or grid.title, grids=(grid,))]
    return filled(grid)
