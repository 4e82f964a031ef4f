"""A CSV file as it was saved: its dialect, its cells as text, and the numbers in them.

The separator is seen in the head. What a comma or a point within a number means is not guessed:
`1,234` and `1.234` are other numbers in another country, so such a file is refused with the key to
add.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from slm_energy.errors import AnalysisError, one_line
from slm_energy.escape import from_spreadsheet

Decimal = Literal["point", "comma"]
Thousands = Literal["point", "comma", "space", "apostrophe"]

ROW = "row of the file"
"""The column with the row of the file that each row of a table was, the head being row 1."""

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MARKED = re.compile(r"[+-]?(?=\d*\D)\d[\d.,'\u2019 \u00a0\u202f]*\d")
"""A number with a mark in it, of whatever meaning."""
_MARKS = {"point": ".", "comma": ",", "space": " \u00a0\u202f", "apostrophe": "'\u2019"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CsvFile:
    """A file as text.

    Attributes:
        table: its columns, stripped, and `ROW`.
        separator: in words, such as `semicolon`.
    """

    table: pd.DataFrame
    separator: str


def load(path: Path) -> CsvFile:
    """Read all columns as text.

    Raises:
        AnalysisError: it cannot be read, or is no table; with the row at fault.
    """
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            start = file.readline()
            named = re.fullmatch(r"sep=(.)", start.strip("\r\n"))  # as Excel writes it
            above = 1 if named else 0
            if not named:
                file.seek(0)
            mark = named[1] if named else _separator(start, path)
            lines = csv.reader(file, delimiter=mark, strict=True)
            head = [name.strip() for name in next(lines, [])]
            body = [
                (lines.line_num + above, line)
                for line in lines
                if any(text.strip() for text in line)
            ]
    except OSError as error:
        raise AnalysisError(f"data={path}: cannot be read ({error.strerror})") from None
    except (UnicodeError, csv.Error) as error:
        raise AnalysisError(
            f"data={path}: not a CSV file in UTF-8 or UTF-16 ({one_line(error)})"
        ) from None
    if not any(head) or not body:
        raise AnalysisError(f"data={path}: {'no data below its head' if any(head) else 'empty'}")
    if twice := [name for name in head if head.count(name) > 1]:
        raise AnalysisError(f"data={path}: two columns are named {twice[0]!r}; rename one")
    for number, line in body:
        if len(line) != len(head):
            raise AnalysisError(
                f"data={path}: row {number} has {len(line)} values and the head {len(head)}"
            )
    texts = [[from_spreadsheet(text.strip()) for text in line] for _, line in body]
    table = pd.DataFrame(texts, columns=head).assign(**{ROW: [number for number, _ in body]})
    return CsvFile(table=table, separator=_SEPARATORS.get(mark, mark))


def _encoding(path: Path) -> str:
    """UTF-16 if the file begins with its byte order mark, as Excel's "Unicode text" does."""
    with path.open("rb") as file:
        mark = file.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator(head: str, path: Path) -> str:
    """The mark that stands between the names of the head, outside quotes; a comma without any."""
    bare = re.sub(r'"[^"]*"', "", head)
    marks = [mark for mark in _SEPARATORS if mark in bare] or [","]
    if len(marks) > 1:
        lines = " or ".join(f"'sep={mark}'" for mark in marks)
        names = " and ".join(_SEPARATORS[mark] for mark in marks)
        raise AnalysisError(
            f"data={path}: its head has both {names}: write {lines} as the line above it"
        )
    return marks[0]


def as_numbers(
    texts: Sequence[str], decimal: Decimal | None, thousands: Thousands | None
) -> list[str]:
    """Numbers as Python writes them; empty for what is no number in this notation."""
    point = "," if decimal == "comma" else "."
    mark = re.escape(point)
    plain = re.compile(rf"[+-]?((\d+({mark}\d*)?|{mark}\d+)(e[+-]?\d+)?|inf(inity)?)", re.I)
    between = "" if thousands is None else _MARKS[thousands]
    grouped = re.compile(rf"[+-]?\d{{1,3}}([{between}]\d{{3}})+({mark}\d*)?") if between else None

    def number(text: str) -> str:
        if grouped is not None and grouped.fullmatch(text):
            text = text.translate(dict.fromkeys(map(ord, between)))
        return text.replace(point, ".") if plain.fullmatch(text) else ""

    return [number(text) for text in texts]


def notations(texts: Iterable[str]) -> list[str]:
    """The keys with which texts are numbers: one for each way to read them that gives others."""
    marked = [text for text in texts if _MARKED.fullmatch(text)]
    ways: dict[tuple[str, ...], str] = {}
    for thousands in (None, *get_args(Thousands)):
        for decimal in get_args(Decimal):
            numbers = tuple(as_numbers(marked, decimal, thousands))
            if marked and decimal != thousands and all(numbers):
                given = thousands is None or decimal != "point"
                keys = [f"columns.decimal={decimal}"] * given
                keys += [f"columns.thousands={thousands}"] * (thousands is not None)
                ways.setdefault(numbers, f"{' '.join(keys)} ({marked[0]} is {numbers[0]})")
    return list(ways.values())


def notation_in_words(decimal: Decimal | None, thousands: Thousands | None) -> str:
    """How numbers were read: `decimal comma, thousands separated by a point`."""
    group = f", thousands separated by {thousands}s" if thousands is not None else ""
    return f"decimal {decimal or 'point'}{group}"
