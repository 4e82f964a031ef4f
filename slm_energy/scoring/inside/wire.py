"""Messages between the judge of an answer and the process that runs it: values as data.

An answer's process is not trusted. It can send values, and nothing but values: no code (as with
pickle), no objects with an equality of their own, no verdict. What has no plain form travels as a
handle, which only the process that made it can open.

Values have a form of JSON's types, and frames carry forms: JSON from the answer, `marshal` to it.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

LONGEST = 32 * 2**20
"""Bytes of a frame."""

_EXACT = 2**53


class Closed(Exception):
    """The other side is gone, or does not keep to the format."""


class NotPlain(Exception):
    """A value has no plain form, and no handle is allowed for it."""


def channel() -> int:
    """Descriptor of the socket that is this process's standard input; that is empty from now on."""
    taken = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


def ready(descriptor: int) -> None:
    """Tell the scorer that this process serves; what it prints from now on is of no interest."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    send(descriptor, b"{}")


def send(descriptor: int, data: bytes) -> None:
    """Send one frame.

    Raises:
        Closed: the other side is gone.
        NotPlain: it is too long.
    """
    if len(data) > LONGEST:
        raise NotPlain(f"a value of {len(data)} bytes")
    rest = memoryview(len(data).to_bytes(4, "big") + data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            raise Closed(str(error)) from error


def receive(descriptor: int) -> bytes:
    """Receive one frame.

    Raises:
        Closed: the other side is gone, or sends too much.
    """
    length = int.from_bytes(_exactly(descriptor, 4), "big")
    if length > LONGEST:
        raise Closed("a message that is too long")
    return _exactly(descriptor, length)


def _exactly(descriptor: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        try:
            part = os.read(descriptor, min(length - len(data), 2**16))
        except OSError as error:
            raise Closed(str(error)) from error
        if not part:
            raise Closed("the process has ended")
        data += part
    return bytes(data)


def encode(value: Any, handle: Callable[[Any], list[Any]]) -> Any:
    """The form of a value; subclasses of plain types become these.

    Args:
        value: any.
        handle: gives the form of a value that has no plain one; raises `NotPlain`.

    Raises:
        NotPlain: it has none, or is nested too deeply.
    """
    try:
        return _encode(value, handle)
    except RecursionError:
        raise NotPlain("a value that is nested too deeply") from None


def _encode(value: Any, handle: Callable[[Any], list[Any]]) -> Any:
    # By the real type: what an object says of itself, and how its class reads it, may be a lie.
    kind = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if issubclass(kind, int):
        number = int.__int__(value)
        return number if abs(number) < _EXACT else ["int", hex(number)]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    for name, sequence in _SEQUENCES.items():
        if issubclass(kind, sequence):
            return [name, [_encode(item, handle) for item in sequence.__iter__(value)]]
    if issubclass(kind, dict):
        return ["dict", [[_encode(k, handle), _encode(v, handle)] for k, v in dict.items(value)]]
    if issubclass(kind, bytes | bytearray):
        return ["bytes" if issubclass(kind, bytes) else "bytearray", value.hex()]
    if kind is range:
        return ["range", [value.start, value.stop, value.step]]
    if kind is complex:
        return ["complex", str(value)]
    name = f"{kind.__module__}.{kind.__qualname__}"
    # The module is looked up, not imported: a value of its type exists only if it is loaded.
    if name in _LIBRARY and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind:
        return [name, str(value)]
    return handle(value)


def decode(form: Any, handle: Callable[[list[Any]], Any]) -> Any:
    """The value of a form.

    Args:
        form: see `encode`.
        handle: gives the value of a form that is not plain.

    Raises:
        Closed: it is no such form.
    """
    try:
        return _decode(form, handle)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise Closed(f"a value that cannot be read: {error}") from error


def _decode(form: Any, handle: Callable[[list[Any]], Any]) -> Any:
    if not isinstance(form, list):
        return form
    name, content = form[0], form[1]
    if name in _SEQUENCES:
        return _SEQUENCES[name](_decode(item, handle) for item in content)
    if name == "dict":
        return {_decode(k, handle): _decode(v, handle) for k, v in content}
    if name in _READ:
        return _READ[name](content)
    if name in _LIBRARY:
        module, _, kind = name.rpartition(".")
        made = getattr(__import__(module), kind)
        return made.fromisoformat(content) if module == "datetime" else made(content)
    return handle(form)


_SEQUENCES: dict[str, type[Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque,
}  # fmt: skip
_READ: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*parts),
    "complex": complex,
}
_LIBRARY = (
    *("decimal.Decimal", "fractions.Fraction"),
    *("datetime.date", "datetime.datetime", "datetime.time"),
)
