"""One answer and its tests to a verdict, in a sandbox."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from slm_energy.record import Verdict
from slm_energy.scoring.inside.wire import NotPlain, encode
from slm_energy.scoring.mbpp_types import typed
from slm_energy.scoring.sandbox import Broken, Ended, Limits, Sandbox, Slow
from slm_energy.serialization import convert
from slm_energy.tasks import Task, TaskTests

_SIGNALS = {number.value: number.name for number in signal.Signals}

_NEARLY = 0.9
"""The kernel counts processor time in ticks where it limits it, and exactly where it reports it."""

_LIVE_CODE_BENCH = (
    "from string import *\nfrom re import *\nfrom datetime import *\nfrom collections import *\n"
    "from heapq import *\nfrom bisect import *\nfrom copy import *\nfrom math import *\n"
    "from random import *\nfrom statistics import *\nfrom itertools import *\n"
    "from functools import *\nfrom operator import *\nfrom io import *\nfrom sys import *\n"
    "from json import *\nfrom builtins import *\nfrom typing import *\n"
    "import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics\n"
    "import itertools, functools, operator, io, sys, json\nsys.setrecursionlimit(50000)\n"
)
"""Executed before each answer to LiveCodeBench, as its own checker does."""


class _Unfit(Exception):
    """Tests do not fit their task."""


def verdict(task: Task, program: str, box: Sandbox, limits: Limits) -> tuple[Verdict, str]:
    """Test an answer.

    Args:
        task: with its tests.
        program: the answer's.
        box: where to test it.
        limits: those of `box`.

    Returns:
        The verdict, and the first line of why; empty for a pass.

    Raises:
        SandboxError: no sandbox can be started.
    """
    tests = task.tests
    assert tests is not None
    if tests.refused:
        return "refused", tests.refused
    for _ in range(2):  # a sandbox that breaks is replaced once: that may be the machine's doing
        try:
            if tests.kind == "cases" and not tests.method:
                found, why = _run_cases(tests, program, box, limits)
            else:
                found, why = _judge(task, tests, program, box, limits)
        except _Unfit as error:
            return "refused", str(error)
        except NotPlain as error:
            return "refused", f"its tests are too long: {error}"
        except Slow:
            return "timeout", f"more than {limits.wall_s:g} s"
        except Broken:
            continue
        return found, _printable(why)
    return "exception", "the answer ended its sandbox"


def canonical(task: Task) -> str:
    """The program of a task's canonical solution; empty if it has none."""
    solution = task.canonical_solution
    return task.prompt + solution if solution and task.continues else solution


def _printable(why: str) -> str:
    """A reason that can be shown anywhere: an answer decides what its exceptions say."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in why)


def _judge(
    task: Task, tests: TaskTests, program: str, box: Sandbox, limits: Limits
) -> tuple[Verdict, str]:
    reply, ended = box.judge(_message(task, tests, program))
    found: Verdict = convert(Verdict, reply["verdict"], "verdict")
    why = str(reply["why"])
    gone = why.startswith("the process of the answer")
    return _how_it_ended(ended, limits) if gone else (found, why)


def _message(task: Task, tests: TaskTests, program: str) -> dict[str, Any]:
    return {
        "kind": tests.kind,
        "programs": [_LIVE_CODE_BENCH, program] if tests.method else [program],
        "tests": tests.program,
        "check": tests.check,
        "prompt": task.prompt if task.continues else "",
        "entry_point": tests.method or (task.entry_point if _calls(tests) else ""),
        "canonical": canonical(task),
        "inputs": _forms(tests),
        "mbpp": bool(tests.mbpp),
        "atol": tests.atol,
    }


def _calls(tests: TaskTests) -> bool:
    """Whether the tests call the entry point; else their text has the names that they use."""
    return tests.check or tests.kind == "inputs"


def _forms(tests: TaskTests) -> list[Any]:
    """The arguments of each call, as they are sent to a sandbox.

    Raises:
        _Unfit: they are not those of the task.
    """

    def refuse(item: Any) -> list[Any]:
        raise TypeError(f"{type(item).__name__} is no plain value")

    if tests.method:
        return list(tests.inputs)
    calls = [args if isinstance(args, list) else [args] for args in tests.inputs]
    try:
        return [encode(typed(tests.mbpp, args), refuse) for args in calls]
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise _Unfit(f"its base_input or plus_input is not that of the task: {error}") from error


def _how_it_ended(ended: Ended, limits: Limits) -> tuple[Verdict, str]:
    """How a process that was to answer ended."""
    used_up = ended.cpu_s >= _NEARLY * limits.cpu_s
    if ended.code == -signal.SIGXCPU or (ended.code < 0 and used_up):
        return "timeout", f"more than {limits.cpu_s} s of processor time"
    if ended.code < 0:
        name = _SIGNALS.get(-ended.code, f"signal {-ended.code}")
        return "exception", f"the program was ended by {name}"
    return "exception", f"the program ended itself (exit code {ended.code})"


def _run_cases(tests: TaskTests, program: str, box: Sandbox, limits: Limits) -> tuple[Verdict, str]:
    for number, case in enumerate(tests.cases, start=1):
        where = f"case {number} of {len(tests.cases)}"
        ended = box.run([_LIVE_CODE_BENCH, program], case.given)
        if ended.code:
            found, why = _how_it_ended(ended, limits)
            if found == "timeout":
                return found, f"{where}: {why}"
            syntax = ended.error.startswith(("SyntaxError", "IndentationError"))
            return ("syntax error" if syntax else found), f"{where}: {ended.error or why}"
        if not _same_output(ended.output, case.expected):
            return "failed assertion", f"{where}: another output"
    return "passed", ""


def _same_output(printed: str, expected: str) -> bool:
    """As LiveCodeBench: the same lines, but for space at their ends, or of equal numbers."""
    pairs = [text.strip().split("\n") for text in (printed, expected)]
    return len(pairs[0]) == len(pairs[1]) and all(
        a.strip() == b.strip() or _same_numbers(a.split(), b.split())
        for a, b in zip(*pairs, strict=True)
    )


def _same_numbers(printed: Sequence[str], expected: Sequence[str]) -> bool:
    try:
        return [*map(Decimal, printed)] == [*map(Decimal, expected)]
    except ArithmeticError:
        return False
