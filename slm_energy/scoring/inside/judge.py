"""Runs a task's tests against an answer that lives in another sandbox, and decides.

Serves on its standard input, a socket: a task with one or two descriptors, to the answer's process
and to that of the canonical solution; the reply is {"verdict": ..., "why": ...}. The tests run
here, out of the answer's reach: it can return wrong values, but not change what is compared, what
an `assert` is, or the verdict.
"""

from __future__ import annotations

import ast
import builtins
import json
import marshal
import math
import resource
import socket
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from . import wire

_RTOL = 1e-7
"""Relative tolerance beside the task's absolute one, as numpy.testing.assert_allclose has it."""

_SAME_SET = {
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
}  # fmt: skip
_SAME_PRESENCE = {"check_str", "text_match_three", "text_starta_endb"}
"""Tasks of MBPP+ whose statements leave open the order of the result, or which match object."""


class FromAnswer(Exception):
    """What the answer raised, where that is no built-in exception of Python."""


class Program:
    """The names of an answer in its own process."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self.raised: BaseException | None = None

    def request(self, **message: Any) -> dict[str, Any]:
        """Send a request and return the reply.

        Raises:
            Exception: what the answer raised; kept in `raised`.
            wire.Closed: the process is gone.
        """
        wire.send(self._channel, marshal.dumps(message))
        reply = _reply(wire.receive(self._channel))
        if "error" in reply:
            name, text = map(str, reply["error"])
            kind = _exception(name)
            self.raised = kind(text) if kind else FromAnswer(f"{name}: {text}".rstrip(": "))
            raise self.raised
        return reply

    def value(self, reply: dict[str, Any]) -> Any:
        """The value of a reply."""
        return wire.decode(reply.get("value"), lambda form: Remote(self, form))

    def names(self, wanted: Sequence[str]) -> dict[str, Remote]:
        """Those of the names that the answer defines."""
        known = self.value(self.request(names=list(wanted)))
        if not isinstance(known, list):
            raise wire.Closed("an answer that does not fit the question")
        return {name: Remote(self, ["name", name]) for name in wanted if name in known}

    def form(self, value: Any) -> Any:
        """The form of an argument: plain, or one of the answer's own objects."""

        def handle(item: Any) -> list[Any]:
            if type(item) is Remote and object.__getattribute__(item, "_program") is self:
                return list(object.__getattribute__(item, "_form"))
            raise wire.NotPlain(f"the test passes a {type(item).__name__}, which is no plain value")

        return wire.encode(value, handle)

    def call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call, and carry over what the call did to its lists, sets and dictionaries."""
        reply = self.request(call=target, args=self.form(args), kwargs=self.form(kwargs))
        after = wire.decode(reply.get("args"), lambda form: Remote(self, form))
        if isinstance(after, tuple) and len(after) == len(args):
            for one, other in zip(args, after, strict=True):
                _update(one, other)
        return self.value(reply)


def _reply(data: bytes) -> dict[str, Any]:
    """What a process of an answer sent.

    Raises:
        wire.Closed: it is no JSON object.
    """
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise wire.Closed(f"a message that is not JSON: {error}") from error
    if not isinstance(reply, dict):
        raise wire.Closed("a message that is not an object")
    return reply


def _exception(name: str) -> type[Exception] | None:
    """A built-in exception of that name; None if there is none, or it is no `Exception`."""
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


class Remote:
    """A function or object of the answer. It is equal to nothing but itself."""

    __slots__ = ("_form", "_program")

    def __init__(self, program: Program, form: list[Any]) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_form", form)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return self._program.call(self._form, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._program.value(self._program.request(target=self._form, get=name))

    def __setattr__(self, name: str, value: Any) -> None:
        form = self._program.form(value)
        self._program.request(target=self._form, set=name, value=form)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._program.value(self._program.request(target=self._form, iterate=True)))

    def __len__(self) -> int:
        return int(self._program.request(target=self._form, length=True)["value"])

    def __bool__(self) -> bool:
        return True


def _update(before: Any, after: Any) -> None:
    if isinstance(before, list) and isinstance(after, list):
        before[:] = after
    elif isinstance(before, set | dict) and type(before) is type(after):
        before.clear()
        before.update(after)


def judge(task: dict[str, Any], channels: Sequence[int]) -> tuple[str, str]:
    """Verdict and the first line of why; an empty line for a pass."""
    program = Program(channels[0])
    try:
        program.request(define=task["program"])
        run = _compare if task["kind"] == "inputs" else _assert
        run(task, program, channels)
    except wire.Closed as error:
        return "exception", f"the process of the answer: {error}"
    except wire.NotPlain as error:
        return "refused", str(error)
    except BaseException as error:
        return _failed(error, program, task["tests"])
    return "passed", ""


def _failed(error: BaseException, program: Program, tests: str) -> tuple[str, str]:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    line = next(iter(text.splitlines()), text)
    if isinstance(error, FromAnswer):
        line = line.removeprefix("FromAnswer: ")
    if error is program.raised:
        syntax = isinstance(error, SyntaxError)
        return ("syntax error" if syntax else "exception"), line
    if isinstance(error, AssertionError):
        return "failed assertion", str(error) or _assertion(error, tests)
    return "exception", f"in the test: {line}"


def _assertion(error: BaseException, tests: str) -> str:
    """The line of the tests that failed."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "test.py"]
    return tests.splitlines()[(lines[-1] or 1) - 1].strip() if lines else ""


def _assert(task: dict[str, Any], program: Program, channels: Sequence[int]) -> None:
    """Execute a test program whose free names are those of the answer."""
    tree = ast.parse(task["tests"], "test.py")
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    wanted = sorted(name for name in loaded if not hasattr(builtins, name))
    names: dict[str, Any] = {"__name__": "test", **program.names(wanted)}
    if task["entry_point"]:
        (candidate,) = program.names([task["entry_point"]]).values() or (None,)
        if candidate is None:
            raise AssertionError(f"the answer defines no {task['entry_point']}")
        names["candidate"] = candidate
    exec(compile(tree, "test.py", "exec"), names)
    if task["check"]:
        names["check"](names["candidate"])


def _compare(task: dict[str, Any], program: Program, channels: Sequence[int]) -> None:
    """Compare the results with those of the canonical solution, input by input."""
    canonical = Program(channels[1])
    canonical.request(define=task["canonical"])
    name = task["entry_point"]
    functions = [each.names([name]).get(name) for each in (program, canonical)]
    if functions[0] is None:
        raise AssertionError(f"the answer defines no {name}")
    if functions[1] is None:
        raise wire.NotPlain(f"the canonical solution defines no {name}")
    for number, form in enumerate(task["inputs"]):
        # Each side gets arguments of its own: a function may change them.
        ours, theirs = ([*wire.decode(form, _no_handle)] for _ in range(2))
        expected = functions[1](*theirs)
        result = functions[0](*ours)
        if not _agrees(name, result, expected, theirs, task["atol"]):
            raise AssertionError(f"input {number + 1} of {len(task['inputs'])}: another result")


def _no_handle(form: list[Any]) -> Any:
    raise wire.Closed("an input that is not plain")


def _agrees(name: str, result: Any, expected: Any, inputs: Sequence[Any], atol: float) -> bool:
    if name == "find_zero":  # HumanEval/32: any root will do
        total = math.fsum(c * math.pow(result, power) for power, c in enumerate(inputs[0]))
        return abs(total) <= atol
    if name in _SAME_SET:
        return set(result) == set(expected)
    if name in _SAME_PRESENCE and not isinstance(result, bool):
        return (result is not None) == bool(expected)
    if type(result) is Remote or type(expected) is Remote:
        return False
    return bool(result == expected) or _close(result, expected, atol)


def _close(result: Any, expected: Any, atol: float) -> bool:
    """Numbers within the tolerance; sequences of them of equal length."""
    if isinstance(expected, list | tuple):
        alike = isinstance(result, list | tuple) and len(result) == len(expected)
        return alike and all(
            a == b or _close(a, b, atol) for a, b in zip(result, expected, strict=True)
        )
    if not isinstance(expected, float) and not atol:
        return False
    numbers = isinstance(result, int | float) and isinstance(expected, int | float)
    return numbers and math.isclose(result, expected, rel_tol=_RTOL, abs_tol=atol or 1e-6)


def main(words: list[str]) -> None:
    """MEMORY_BYTES: serve until the other side closes."""
    memory = int(words[0])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with socket.socket(fileno=wire.channel()) as scorer:
        while True:
            _, channels, _, _ = socket.recv_fds(scorer, 1, 2)
            if not channels:
                return
            try:
                verdict, why = judge(marshal.loads(wire.receive(scorer.fileno())), channels)
            finally:
                for channel in channels:
                    socket.close(channel)
            wire.send(scorer.fileno(), json.dumps({"verdict": verdict, "why": why[:300]}).encode())
