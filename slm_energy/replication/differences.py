"""What differs between a file as claimed and as made again, value by value."""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

_TOLERANCE = 1e-9
"""Relative difference of two unrounded numbers that may come from another processor or library."""
_WIDTH = 120


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One value that is not as claimed.

    Attributes:
        file: in the package.
        where: the value in the file: dotted keys, or a line; empty for the whole file.
        claimed: what the package has.
        found: what was computed from its captures.
        why: what explains it; empty where nothing does.
    """

    file: str
    where: str
    claimed: str
    found: str
    why: str = ""


def compare(file: str, claimed: bytes | None, made: bytes | None) -> list[Difference]:
    """Compare two versions of a file; None is a missing one."""
    if claimed == made:
        return []
    if claimed is None or made is None:
        states = ["missing" if content is None else "there" for content in (claimed, made)]
        return [Difference(file=file, where="", claimed=states[0], found=states[1])]
    if file.endswith(".parquet"):
        found = _tables(claimed, made)
    elif file.endswith(".json"):
        found = _json(claimed, made)
    else:
        found = _lines(claimed.decode(errors="replace"), made.decode(errors="replace"))
    return [
        Difference(file=file, where=where, claimed=_short(old), found=_short(new))
        for where, old, new in found
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]} ..."


_Values = Iterator[tuple[str, Any, Any]]


def _json(claimed: bytes, made: bytes) -> _Values:
    try:
        old = json.loads(claimed)
    except ValueError:
        yield "", "not JSON", "JSON"
        return
    yield from values(old, json.loads(made))


def values(claimed: Any, made: Any, where: str = "") -> _Values:
    """Key, claimed and found value wherever nested data differ."""
    if isinstance(claimed, Mapping) and isinstance(made, Mapping):
        for key in dict.fromkeys([*claimed, *made]):
            inner = f"{where}.{key}" if where else str(key)
            yield from values(claimed.get(key, "absent"), made.get(key, "absent"), inner)
    elif isinstance(claimed, list) and isinstance(made, list) and len(claimed) == len(made):
        for number, (old, new) in enumerate(zip(claimed, made, strict=True)):
            yield from values(old, new, f"{where}[{number}]")
    elif not _equal(claimed, made):
        yield where, claimed, made


def _equal(claimed: Any, made: Any) -> bool:
    numbers = all(type(value) in (int, float) for value in (claimed, made))
    if numbers and float in (type(claimed), type(made)):
        both_nan = claimed != claimed and made != made
        return both_nan or math.isclose(claimed, made, rel_tol=_TOLERANCE)
    return type(claimed) is type(made) and bool(claimed == made)


def _lines(claimed: str, made: str) -> _Values:
    old, new = claimed.splitlines(), made.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, begin, end, other_begin, other_end in matcher.get_opcodes():
        if kind != "equal":
            where = f"line {begin + 1}"
            yield where, *_around(" ".join(old[begin:end]), " ".join(new[other_begin:other_end]))
    if old == new:
        yield "", "other line ends", ""


def _around(old: str, new: str) -> tuple[str, str]:
    """Two texts from a little before the place where they begin to differ: lines may be long."""
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    begin = max(0, same - 40)
    return old[begin:], new[begin:]


def _tables(claimed: bytes, made: bytes) -> _Values:
    import pandas as pd

    try:
        old = pd.read_parquet(io.BytesIO(claimed))
    except (OSError, ValueError):
        yield "", "not a Parquet file", "a Parquet file"
        return
    new = pd.read_parquet(io.BytesIO(made))
    if list(old.columns) != list(new.columns) or len(old) != len(new):
        yield "", f"{len(old)} rows, columns {[*old]}", f"{len(new)} rows, columns {[*new]}"
        return
    for name in old.columns:
        pairs = zip(old[name].tolist(), new[name].tolist(), strict=True)
        for row, (a, b) in enumerate(pairs):
            if not _equal(a, b):
                yield f"row {row + 1}, {name}", str(a), str(b)
