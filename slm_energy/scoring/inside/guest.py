"""Runs one answer inside the sandbox. Serves requests on its standard input, a socket, until it is closed.

    {"define": source}                      execute the answer
    {"names": [...]}                        which of these are defined there
    {"call": target, "args": ..., ...}      call a function or an object of the answer
    {"get": object, "name": ...}  {"set": ...}  {"iterate": object}  {"length": object}

Each is answered by {"value": ...}, for a call with {"args": ...} as the call left them, or by
{"error": [type, text]}. The answer shares this process and can do with it what it likes: the other
side takes values from here, and nothing else.
"""

from __future__ import annotations

import itertools
import os
import resource
import socket
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire

_MOST_ITEMS = 1_000_000


class Guest:
    """The answer's names, and the objects that were handed out."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "answer", "__builtins__": __builtins__}
        self.objects: list[Any] = []

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
        return {"value": self.encode(list(itertools.islice(target, _MOST_ITEMS)))}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        target, args = self.decode(request["call"]), self.decode(request["args"])
        value = target(*args, **self.decode(request["kwargs"]))
        return {"value": self.encode(value), "args": self.encode(args)}

    def encode(self, value: Any) -> Any:
        """The form of a value; what is not plain is kept here and goes out as a handle."""

        def keep(item: Any) -> list[Any]:
            self.objects.append(item)
            return ["object", len(self.objects) - 1, type(item).__name__]

        return wire.encode(value, keep)

    def decode(self, form: Any) -> Any:
        """The value of a form; a handle is an object of here, a name one of the answer's."""

        def find(item: list[Any]) -> Any:
            return self.objects[item[1]] if item[0] == "object" else self.names[item[1]]

        return wire.decode(form, find)


def limit(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Hard limits of this process; without capabilities it cannot raise them again."""
    for kind, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def serve(channel: socket.socket) -> None:
    """Answer requests until the other side closes."""
    guest = Guest()
    while True:
        request = wire.receive(channel)
        try:
            reply = guest.answer(request)
        except BaseException as error:  # SystemExit of the answer is a failure like any other
            reply = {"error": [type(error).__name__, _text(error)]}
        wire.send(channel, reply)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    if isinstance(error, SyntaxError) and error.filename == "answer.py":
        return f"{error.msg}, line {error.lineno}"
    return text[:1000]


def main() -> None:
    """MEMORY_BYTES CPU_S FILE_BYTES [PROGRAM]: serve, or run a program as `__main__`."""
    limit(*map(int, sys.argv[1:4]))
    if sys.argv[4:]:
        import runpy

        program = sys.argv[4]
        sys.argv[:] = [program]
        runpy.run_path(program, run_name="__main__")
        return
    try:
        serve(wire.channel())
    except wire.Closed:
        os._exit(0)


if __name__ == "__main__":
    main()
