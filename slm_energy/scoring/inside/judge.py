"""Runs a task's tests against an answer that lives in another sandbox, and decides.

Serves on its standard input, a socket: a task with a descriptor, to the answer's process; the reply
is {"verdict": ..., "why": ...}. The tests and the canonical solution run here, out of the answer's
reach: it can return wrong values, but not change what is compared, what an `assert` is, or the
verdict.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import contextlib
import importlib
import json
import marshal
import random
import resource
import socket
import sys
import traceback
from typing import Any

from . import wire
from .oracle import Oracle
from .remote import BaseOfAnswer, OfAnswer, Program, Refused

_LATE = __future__.annotations.compiler_flag


def judge(task: dict[str, Any], channel: int) -> tuple[str, str]:
    """Verdict and the first line of why; an empty line for a pass."""
    program = Program(channel)
    random.seed(0)  # tests that draw their inputs draw the same ones each time
    try:
        _RUNS[task["kind"]](task, program)
        error = program.broken
    except BaseException as raised:
        error = program.broken or raised
    return ("passed", "") if error is None else _failed(error, program, task["tests"])


def _failed(error: BaseException, program: Program, tests: str) -> tuple[str, str]:
    if isinstance(error, Refused):
        return "refused", str(error)
    if isinstance(error, wire.Closed):
        return "exception", f"the process of the answer: {error}"
    if error is program.raised:
        syntax = isinstance(error, SyntaxError)
        return ("syntax error" if syntax else "exception"), _line(error)
    if isinstance(error, AssertionError):
        return "failed assertion", str(error) or _assertion(error, tests)
    if isinstance(error, ModuleNotFoundError):
        return "refused", _missing(error.name)
    return "exception", f"in the test: {_line(error)}"


def _line(error: BaseException) -> str:
    """First line of an exception; of the answer's with the name that it has there."""
    if isinstance(error, OfAnswer | BaseOfAnswer):
        text = str(error)
    else:
        own = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        text = next(iter(getattr(error, "__notes__", ())), own)
    return next(iter(text.splitlines()), text)


def _missing(module: str | None) -> str:
    return (
        f"needs module {(module or '').partition('.')[0]}, which the sandbox lacks: it has the"
        " standard library, and numpy for tests"
    )


def _assertion(error: BaseException, tests: str) -> str:
    """The line of the tests that failed."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "test.py"]
    return tests.splitlines()[(lines[-1] or 1) - 1].strip() if lines else ""


def _assert(task: dict[str, Any], program: Program) -> None:
    """Execute a test program whose free names are those of the prompt and of the answer."""
    try:
        tests = ast.parse(task["tests"], "test.py")
    except (SyntaxError, ValueError) as error:
        raise Refused(f"its tests are no Python: {error}") from error
    helpers = _helpers(task["prompt"], task["entry_point"])
    # Before the answer is seen: the task is refused for all answers, or for none.
    for module in _imported(tests):
        importlib.import_module(module)
    for module in (name for helper in helpers for name in _imported(helper)):
        if module.partition(".")[0] not in sys.stdlib_module_names:
            raise Refused(_missing(module))
    names: dict[str, Any] = {"__name__": "test"}
    for helper in helpers:
        # One that needs a class of the prompt is the answer's, as its classes are.
        with contextlib.suppress(NameError):
            alone = ast.Module(body=[helper], type_ignores=[])
            exec(compile(alone, "prompt.py", "exec", _LATE, dont_inherit=True), names)
    _define(task, program)
    nodes = (node for tree in (tests, *helpers) for node in ast.walk(tree))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= program.names([n for n in sorted(loaded - names.keys()) if not hasattr(builtins, n)])
    if task["entry_point"]:
        names["candidate"] = _function(program, task["entry_point"])
    exec(compile(tests, "test.py", "exec", dont_inherit=True), names)
    if task["check"]:
        if "check" not in names:
            raise Refused("its test defines no function check")
        names["check"](names["candidate"])


def _imported(tree: ast.AST) -> list[str]:
    """Modules that code imports anywhere, except where it only tries to."""
    blocks = [block for block in ast.walk(tree) if isinstance(block, ast.Try)]
    tried = {id(node) for block in blocks for node in ast.walk(block)}
    modules = list[str]()
    for node in ast.walk(tree):
        if id(node) in tried:
            continue
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.append(node.module)
    return modules


def _define(task: dict[str, Any], program: Program) -> None:
    for source in task["programs"]:
        program.request(define=source)


def _helpers(prompt: str, entry_point: str) -> list[ast.stmt]:
    """Imports and functions that a prompt gives beside the function that it asks for.

    Tests use some of them (HumanEval/32, 38, 50): these are the prompt's, not what the answer may
    have put in their place. Classes stay the answer's, because it must know their objects.
    """
    for complete in (prompt, f"{prompt}\n    pass\n"):
        with contextlib.suppress(SyntaxError, ValueError):
            return [
                node
                for node in ast.parse(complete).body
                if isinstance(node, ast.Import | ast.ImportFrom)
                or (isinstance(node, ast.FunctionDef) and node.name != entry_point)
            ]
    return []


def _function(program: Program, name: str) -> Any:
    found = program.names([name]).get(name)
    if found is None:
        raise AssertionError(f"the answer defines no {name}")
    return found


def _compare(task: dict[str, Any], program: Program) -> None:
    """Compare the results with those of the canonical solution, input by input."""
    name, names = task["entry_point"], dict[str, Any]({"__name__": "canonical"})
    _trusted("", lambda: exec(compile(task["canonical"], "canonical.py", "exec"), names))
    if name not in names:
        raise Refused(f"its canonical solution defines no {name}")
    _define(task, program)
    function, oracle = _function(program, name), Oracle(name, task["mbpp"], task["atol"])
    for number, form in enumerate(task["inputs"], start=1):
        # Each side gets arguments of its own: a function may change them.
        ours, theirs = ([*wire.decode(form, _no_handle)] for _ in range(2))
        where = f"input {number} of {len(task['inputs'])}"
        expected = _trusted(f" on {where}", lambda args=theirs: names[name](*args))
        result = function(*ours)
        if not oracle.agrees(result, expected, theirs):
            raise AssertionError(f"{where}: another result")


def _trusted(where: str, work: Any) -> Any:
    """What the canonical solution returns; a task whose own solution fails tells nothing."""
    try:
        return work()
    except ModuleNotFoundError as error:
        raise Refused(_missing(error.name)) from error
    except BaseException as error:
        raise Refused(f"its canonical solution fails{where}: {_line(error)}") from error


def _no_handle(form: list[Any]) -> Any:
    raise Refused("an input that is not plain")


def _call_method(task: dict[str, Any], program: Program) -> None:
    """Call a method of the answer's class Solution, as LiveCodeBench does."""
    _define(task, program)
    method = getattr(_function(program, "Solution")(), task["entry_point"])
    for number, (args, expected) in enumerate(task["inputs"], start=1):
        result = method(*args)
        if (list(result) if isinstance(result, tuple) else result) != expected:
            raise AssertionError(f"case {number} of {len(task['inputs'])}: another result")


_RUNS = {"assertions": _assert, "inputs": _compare, "cases": _call_method}


def main(words: list[str]) -> None:
    """MEMORY_BYTES FOLDER LIBRARIES: serve until the other side closes."""
    memory = int(words[0])
    sys.path.append(words[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with socket.socket(fileno=wire.channel()) as scorer:
        wire.ready(scorer.fileno())
        while True:
            _, channels, _, _ = socket.recv_fds(scorer, 1, 1)
            if not channels:
                return
            try:
                verdict, why = judge(marshal.loads(wire.receive(scorer.fileno())), channels[0])
            finally:
                socket.close(channels[0])
            wire.send(scorer.fileno(), json.dumps({"verdict": verdict, "why": why[:300]}).encode())
