"""Messages between the judge of an answer and the process that runs it: plain values as JSON.

An answer's process is not trusted. It can send any value, and nothing but values: no code (as with
pickle), no objects with an equality of their own, no verdict. What has no plain form travels as a
handle, which only the process that made it can open.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

LONGEST = 32 * 2**20
"""Bytes of a message."""

_HEAD = struct.Struct("!I")
_EXACT = 2**53


class Closed(Exception):
    """The other side is gone, or does not keep to the format."""


class NotPlain(Exception):
    """A value has no plain form, and no handle is allowed for it."""


def channel() -> socket.socket:
    """The socket that is this process's standard input; from now on that is empty."""
    taken = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return taken


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        Closed: the other side is gone.
        NotPlain: it is too long.
    """
    data = json.dumps(message).encode()
    if len(data) > LONGEST:
        raise NotPlain(f"a value of {len(data)} bytes")
    try:
        channel.sendall(_HEAD.pack(len(data)) + data)
    except OSError as error:
        raise Closed(str(error)) from error


def receive(channel: socket.socket) -> dict[str, Any]:
    """Receive one message.

    Raises:
        Closed: the other side is gone, or sent something else.
    """
    (length,) = _HEAD.unpack(_exactly(channel, _HEAD.size))
    if length > LONGEST:
        raise Closed("a message that is too long")
    try:
        message = json.loads(_exactly(channel, length))
    except (ValueError, RecursionError) as error:
        raise Closed(f"a message that is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Closed("a message that is not an object")
    return message


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        try:
            part = channel.recv(min(length - len(data), 2**16))
        except OSError as error:
            raise Closed(str(error)) from error
        if not part:
            raise Closed("the process has ended")
        data += part
    return bytes(data)


Handle = Callable[[Any], list[Any]]
"""Gives the form of a value that has no plain one; raises `NotPlain`."""


def encode(value: Any, handle: Handle) -> Any:
    """The JSON form of a value; subclasses of plain types become these.

    Raises:
        NotPlain: it has none, or is nested too deeply.
    """
    try:
        return _encode(value, handle)
    except RecursionError:
        raise NotPlain("a value that is nested too deeply") from None


def _encode(value: Any, handle: Handle) -> Any:
    if value is None or isinstance(value, bool | str | float):
        return value if type(value) in (type(None), bool, str, float) else _base(value)
    if isinstance(value, int):
        return int(value) if abs(value) < _EXACT else ["int", hex(value)]
    for kind, name in _SEQUENCES.items():
        if isinstance(value, kind):
            return [name, [_encode(item, handle) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[_encode(k, handle), _encode(v, handle)] for k, v in value.items()]]
    for name, kind in _AS_TEXT.items():
        if type(value) is kind:
            return [name, str(value)]
    if isinstance(value, bytes | bytearray):
        return [type(value).__name__, value.hex()]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if type(value) is datetime.date:
        return ["date", value.isoformat()]
    return handle(value)


def _base(value: str | float) -> str | float:
    """A string or float without its subclass."""
    return str.__str__(value) if isinstance(value, str) else float.__float__(value)


def decode(form: Any, handle: Callable[[list[Any]], Any]) -> Any:
    """The value of a JSON form.

    Args:
        form: see `encode`.
        handle: gives the value of a form that is not plain.

    Raises:
        Closed: it is no such form.
    """
    try:
        return _decode(form, handle)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Closed(f"a value that cannot be read: {error}") from error


def _decode(form: Any, handle: Callable[[list[Any]], Any]) -> Any:
    if not isinstance(form, list):
        return form
    name, content = form[0], form[1]
    if name in _NAMED:
        return _NAMED[name](_decode(item, handle) for item in content)
    if name == "dict":
        return {_decode(k, handle): _decode(v, handle) for k, v in content}
    if name in _AS_TEXT:
        return _AS_TEXT[name](content)
    if name in _READ:
        return _READ[name](content)
    return handle(form)


_SEQUENCES: dict[type, str] = {
    list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", collections.deque: "deque",
}  # fmt: skip
_NAMED: dict[str, Callable[[Any], Any]] = {name: kind for kind, name in _SEQUENCES.items()}
_AS_TEXT: dict[str, Callable[[str], Any]] = {
    "complex": complex, "decimal": decimal.Decimal, "fraction": fractions.Fraction,
}  # fmt: skip
_READ: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*parts),
    "date": datetime.date.fromisoformat,
}


def exception_class(name: str) -> type[Exception] | None:
    """A built-in exception of that name; None if there is none, or it is no `Exception`."""
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None
