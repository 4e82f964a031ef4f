"""Runs one answer inside the sandbox. Serves requests on a socket, until that is closed.

    {"define": source}                      execute the answer
    {"names": [...]}                        which of these are defined there
    {"call": target, "args": ..., ...}      call a function or an object of the answer
    {"get": object, "name": ...}  {"set": ...}  {"iterate": object}  {"length": object}
    {"next": object}                        the next item of an iterator

Each is answered by {"value": ...}, for a call with {"args": ...} as the call left them, by
{"error": [name, class, text]}, or by {} at the end of an iterator. The answer shares this process
and can do with it what it likes: the other side takes values from here, and nothing else.
"""

from __future__ import annotations

import itertools
import json
import marshal
import sys
import types
from typing import TYPE_CHECKING

from . import wire

if TYPE_CHECKING:
    from typing import Any

_MOST_ITEMS = 1_000_000


class Guest:
    """The answer's names, and the objects that were handed out."""

    def __init__(self) -> None:
        # A module of its own: dataclasses and typing look up the module of a class.
        module = sys.modules["answer"] = types.ModuleType("answer")
        self.names: dict[str, Any] = module.__dict__
        self.objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for."""
        if "define" in request:
            code = compile(request["define"], "answer.py", "exec", dont_inherit=True)
            exec(code, self.names)
            return {"value": None}
        if "names" in request:
            return {"value": self.encode([n for n in request["names"] if n in self.names])}
        if "call" in request:
            return self._call(request)
        target = self.decode(request["target"])
        if "get" in request:
            return {"value": self.encode(getattr(target, request["get"]))}
        if "set" in request:
            setattr(target, request["set"], self.decode(request["value"]))
            return {"value": None}
        if "length" in request:
            return {"value": len(target)}
        if "next" in request:
            items = list(itertools.islice(target, 1))
            return {"value": self.encode(items[0])} if items else {}
        return {"value": self.encode(list(itertools.islice(target, _MOST_ITEMS)))}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        target, args = self.decode(request["call"]), self.decode(request["args"])
        value = target(*args, **self.decode(request["kwargs"]))
        return {"value": self.encode(value), "args": self.encode(args)}

    def encode(self, value: Any) -> Any:
        """The form of a value; what is not plain is kept here and goes out as a handle."""

        def keep(item: Any) -> list[Any]:
            number = self._numbers.setdefault(id(item), len(self.objects))
            if number == len(self.objects):
                self.objects.append(item)
            return ["object", number]

        return wire.encode(value, keep)

    def decode(self, form: Any) -> Any:
        """The value of a form; a handle is an object of here, a name one of the answer's."""

        def find(item: list[Any]) -> Any:
            return self.objects[item[1]] if item[0] == "object" else self.names[item[1]]

        return wire.decode(form, find)


def serve(descriptor: int) -> None:
    """Answer requests until the other side closes."""
    guest = Guest()
    while True:
        request = marshal.loads(wire.receive(descriptor))
        try:
            reply = json.dumps(guest.answer(request)).encode()
            if len(reply) > wire.LONGEST:
                raise wire.NotPlain(f"a value of {len(reply)} bytes")
        except BaseException as error:  # SystemExit of the answer is a failure like any other
            reply = json.dumps({"error": described(error)}).encode()
        wire.send(descriptor, reply)


def described(error: BaseException) -> list[str]:
    """Name of an exception, of the built-in class that it is or derives from, and its text."""
    try:
        words = str(error)
    except BaseException:
        words = ""
    if isinstance(error, SyntaxError) and error.filename == "answer.py":
        words = f"{error.msg}, line {error.lineno}"
    mro = type(error).__mro__
    built_in = next(kind.__name__ for kind in mro if kind.__module__ == "builtins")
    return [type(error).__name__, built_in, str.__str__(words)[:1000]]


def run(sources: list[str]) -> None:
    """Execute what is given to every program, and an answer as a program."""
    names = {"__name__": "__main__"}
    for source in sources:
        exec(compile(source, "answer.py", "exec", dont_inherit=True), names)
