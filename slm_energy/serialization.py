"""Dataclasses to JSON and back, with errors that name the key. Needs only the standard library."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import types
import typing
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from slm_energy.places import naming

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
T = TypeVar("T")

_DEPTH = 100
"""How many lists and objects may be inside each other: what follows them recurses."""


def to_plain(value: Any) -> Any:
    """Turn dataclasses, tuples and mappings into values that `json` can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, array):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], data: Any) -> T:
    """Build a dataclass (and the dataclasses inside it) from its JSON form.

    Raises:
        ValueError: a key is missing or unknown, or a value has the wrong shape.
    """
    return typing.cast(T, convert(kind, data, kind.__name__))


def convert(kind: Any, data: Any, where: str) -> Any:
    """Convert `data` to `kind`, a type annotation; `where` starts the error message.

    Raises:
        ValueError: it does not fit.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(data, float) and not math.isfinite(data):
        raise ValueError(f"{where}: expected a finite number, got {data!r}")
    if kind is Any or kind == Json:
        return data
    if origin is Literal:
        if data not in args:
            raise ValueError(f"{where}: {data!r} is not one of {', '.join(map(str, args))}")
        return data
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, data, where)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(typing.cast(type, kind), data, where)
    if origin in (tuple, Sequence):
        if not isinstance(data, list | tuple):
            raise ValueError(f"{where}: expected a list, got {data!r}")
        return tuple(convert(args[0], item, where) for item in data)
    if origin is dict:
        if not isinstance(data, Mapping):
            raise ValueError(f"{where}: expected a mapping, got {data!r}")
        return {key: convert(args[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise ValueError(f"{where}: expected a number below 1e308, got a larger one") from None
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"{where}: expected {kind.__name__}, got {data!r}")
    return data


def _convert_union(args: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in args:
        return None
    kinds = [arg for arg in args if arg is not type(None)]
    if type(data) in kinds:
        return data
    return convert(kinds[0], data, where)


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass, cached because Python evaluates them at each call."""
    return typing.get_type_hints(kind)


def _convert_dataclass(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {data!r}")
    hints = field_types(kind)
    if unknown := sorted(set(map(str, data)) - set(hints)):
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(hints)}")
    for field in dataclasses.fields(kind):
        defaults = (field.default, field.default_factory)
        if field.name not in data and defaults == (dataclasses.MISSING, dataclasses.MISSING):
            raise ValueError(f"{where}: {field.name} is missing")
    return kind(**{k: convert(hints[k], v, f"{where}.{k}") for k, v in data.items()})


def readable(value: Any) -> str:
    """Human-readable JSON: indented, not ASCII-escaped."""
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically: the file is complete or absent, even after a power loss."""
    with replacing(path) as file:
        json.dump(to_plain(value), file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Write a text file beside `path` that takes its place when it is complete, or is removed.

    Processes on several machines may replace the same file at the same time: the last is kept.
    """
    partial = path.with_name(f"{path.name}.{os.urandom(4).hex()}.partial")
    try:
        with naming(path), partial.open("x", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Sync everything in a folder to disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by name; folders in a name are created."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path):
            path.write_bytes(content)


def _items(value: Any) -> list[Any]:
    """The lists and objects directly inside a value of JSON."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in items if type(each) in (dict, list)]


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, or Python cannot hold it.
    """
    try:
        value = json.loads(text)
        level = [value]
        for _ in range(_DEPTH):
            level = [each for one in level for each in _items(one)]
        if level:
            raise RecursionError
        return value
    except RecursionError:
        raise ValueError(f"more than {_DEPTH} lists or objects inside each other") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise ValueError("a number of more than 4,300 digits") from None


def read_json(path: Path, kind: type[T]) -> T:
    """Read a file in the format of `write_json`.

    Raises:
        ValueError: it is not in that format.
    """
    return from_plain(kind, parse_json(path.read_text(encoding="utf-8")))
