"""The header of a GGUF file: its metadata, and the list of its tensors.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package's reader
takes ten seconds for a vocabulary of 150 000 tokens, and this a tenth of one.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
"""numpy's name of each type of value (enum gguf_metadata_value_type)."""
_STRING, _ARRAY = 8, 9


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One tensor.

    Attributes:
        name: as llama.cpp calls it.
        shape: its dimensions, the innermost first.
        kind: number of its type (enum ggml_type).
        offset: of its data in the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file says of itself.

    Attributes:
        values: metadata by key; arrays are lists.
        tensors: in the order of the file.
    """

    values: dict[str, Any]
    tensors: tuple[TensorInfo, ...]


def read(file: Path) -> Header:
    """Read a file's header; a file is read once per process unless it changes.

    Raises:
        ModelError: it is of another format, or cut off.
        OSError: it cannot be read.
    """
    status = file.stat()
    return _read(file, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(file: Path, size: int, changed_ns: int) -> Header:
    try:
        with file.open("rb") as stream:
            header = _header(stream)
    except (
        EOFError,
        struct.error,
        UnicodeDecodeError,
        KeyError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ModelError(f"{file} is cut off or damaged: fetch it again") from error
    except ValueError as error:
        raise ModelError(f"{file} {error}: set another model.source") from error
    if header.tensors and max(tensor.offset for tensor in header.tensors) >= size:
        raise ModelError(f"{file} is cut off: fetch it again")
    return header


def _header(stream: io.BufferedReader) -> Header:
    if stream.read(4) != _MAGIC:
        raise ValueError("is no GGUF file")
    version, tensor_count, value_count = _unpack(stream, "<IQQ")
    if version not in _VERSIONS:
        raise ValueError(f"is GGUF of version {version}, which is not known here")
    values = {_string(stream): _value(stream, *_unpack(stream, "<I")) for _ in range(value_count)}
    listed = [_tensor(stream) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", _ALIGNMENT)
    start = math.ceil(stream.tell() / alignment) * alignment
    tensors = tuple(dataclasses.replace(each, offset=start + each.offset) for each in listed)
    return Header(values=values, tensors=tensors)


def _tensor(stream: io.BufferedReader) -> TensorInfo:
    name = _string(stream)
    (dimensions,) = _unpack(stream, "<I")
    *shape, kind, offset = _unpack(stream, f"<{dimensions}QIQ")
    return TensorInfo(name=name, shape=tuple(shape), kind=kind, offset=offset)


def _value(stream: io.BufferedReader, kind: int) -> Any:
    if kind == _STRING:
        return _string(stream)
    if kind == _ARRAY:
        inner, count = _unpack(stream, "<IQ")
        if inner in (_STRING, _ARRAY):
            return [_value(stream, inner) for _ in range(count)]
        return _scalars(stream, inner, count)
    return _scalars(stream, kind, 1)[0]


def _scalars(stream: io.BufferedReader, kind: int, count: int) -> list[Any]:
    dtype = np.dtype(_SCALARS[kind])
    values: list[Any] = np.frombuffer(_bytes(stream, count * dtype.itemsize), dtype).tolist()
    return values


def _string(stream: io.BufferedReader) -> str:
    return _bytes(stream, *_unpack(stream, "<Q")).decode("utf-8", errors="replace")


def _unpack(stream: io.BufferedReader, format: str) -> tuple[int, ...]:
    return struct.unpack(format, _bytes(stream, struct.calcsize(format)))


def _bytes(stream: io.BufferedReader, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
