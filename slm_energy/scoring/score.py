"""Programs and tests to verdicts: on the processors there are, each distinct pair once.

The same program and tests give the same verdict: an endless loop is ended by processor time, not by
the clock, and hashes of strings are not random. Verdicts are kept by the content of what was
scored, so that rounds with equal answers cost one round of scoring.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from slm_energy.errors import WorkloadError
from slm_energy.record import TaskScore, Verdict
from slm_energy.scoring import sandbox
from slm_energy.scoring.inside.wire import encode
from slm_energy.scoring.mbpp_types import typed
from slm_energy.scoring.sandbox import Limits, Sandbox
from slm_energy.serialization import convert, read_json, to_plain
from slm_energy.tasks import Task, TaskTests

VERSION = 1
"""Raised with each change that may change a verdict."""

LIMITS = Limits()
"""Of an answer, unless a caller has others."""

_KILLED_BY_LIMIT = {128 + signal.SIGXCPU, 128 + signal.SIGKILL}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A program and the task whose tests it should pass."""

    task: Task
    program: str

    @property
    def key(self) -> str:
        """Hash of everything that decides the verdict: 32 hex digits."""
        task = dataclasses.replace(self.task, task_id="")
        text = json.dumps([VERSION, to_plain(task), self.program])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def score(
    jobs: Sequence[Job],
    *,
    known: Path,
    workers: int,
    isolated: bool = True,
    limits: Limits = LIMITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TaskScore]:
    """TaskScore answers, in their order.

    Args:
        jobs: the answers; their tasks have tests.
        known: folder of verdicts that are known; gets the new ones.
        workers: how many answers are tested at a time.
        isolated: in the sandbox; else with the rights of this user.
        limits: of each.
        progress: called with the numbers of scored and of distinct answers.

    Raises:
        SandboxError: this machine cannot isolate them.
    """
    if isolated:
        sandbox.version()
    known.mkdir(parents=True, exist_ok=True)
    distinct = {job.key: job for job in jobs}
    verdicts = {key: kept for key in distinct if (kept := _kept(known / f"{key}.json"))}
    missing = {key: job for key, job in distinct.items() if key not in verdicts}
    progress(len(verdicts), len(distinct))
    with _Judges(limits, isolated) as judges, ThreadPoolExecutor(workers) as pool:
        for key, result in zip(missing, pool.map(judges.score, missing.values()), strict=True):
            _keep(known / f"{key}.json", result)
            verdicts[key] = result
            progress(len(verdicts), len(distinct))
    return [dataclasses.replace(verdicts[job.key], task_id=job.task.task_id) for job in jobs]


def _kept(path: Path) -> TaskScore | None:
    """A verdict of before; None if there is none, or it is damaged."""
    try:
        return read_json(path, TaskScore)
    except (OSError, ValueError):
        return None


def _keep(path: Path, result: TaskScore) -> None:
    """Keep a verdict; one that is lost with the power is found again."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(to_plain(result)), encoding="utf-8")
    partial.replace(path)


class _Judges:
    """Sandboxes, one for each thread that asks; they serve many answers."""

    def __init__(self, limits: Limits, isolated: bool) -> None:
        self._limits = limits
        self._isolated = isolated
        self._free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def score(self, job: Job) -> TaskScore:
        """Test one answer."""
        tests = job.task.tests
        assert tests is not None
        if tests.refused:
            return TaskScore(task_id=job.task.task_id, verdict="refused", why=tests.refused)
        box = self._take()
        try:
            run = _run_cases if tests.kind == "cases" else _judge
            verdict, why = run(job, tests, box, self._limits)
        except sandbox.Broken:
            verdict, why = "timeout", f"more than {self._limits.wall_s:g} s"
        finally:
            self._free.put(box)
        return TaskScore(task_id=job.task.task_id, verdict=verdict, why=why)

    def _take(self) -> Sandbox:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            box = Sandbox(self._limits, isolated=self._isolated)
            self._stack.callback(box.close)
            return box


def _judge(job: Job, tests: TaskTests, box: Sandbox, limits: Limits) -> tuple[Verdict, str]:
    reply, code = box.judge(_message(job, tests), 2 if tests.kind == "inputs" else 1)
    verdict: Verdict = convert(Verdict, reply["verdict"], "verdict")
    why = str(reply["why"])
    gone = why.startswith("the process of the answer")
    return _ended(code, limits) if gone else (verdict, why)


def _message(job: Job, tests: TaskTests) -> dict[str, Any]:
    task = job.task
    canonical = task.prompt + task.canonical_solution if task.continues else task.canonical_solution
    return {
        "kind": tests.kind,
        "program": job.program,
        "tests": tests.program,
        "check": tests.check,
        "entry_point": task.entry_point if tests.check or tests.kind == "inputs" else "",
        "canonical": canonical,
        "inputs": _forms(tests),
        "atol": tests.atol,
    }


def _forms(tests: TaskTests) -> list[Any]:
    """The arguments of each call, as they are sent to a sandbox.

    Raises:
        WorkloadError: they are not those of the task.
    """

    def refuse(item: Any) -> list[Any]:
        raise TypeError(f"{type(item).__name__} is no plain value")

    calls = [args if isinstance(args, list) else [args] for args in tests.inputs]
    try:
        return [encode(typed(tests.mbpp, args), refuse) for args in calls]
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise WorkloadError(f"base_input or plus_input of Mbpp/{tests.mbpp}: {error}") from error


def _ended(code: int, limits: Limits) -> tuple[Verdict, str]:
    """How a process that was to answer ended, by its exit code."""
    if code in _KILLED_BY_LIMIT:
        return "timeout", f"more than {limits.cpu_s} s of processor time"
    return "exception", f"the program ended itself (exit code {code})"


def _run_cases(job: Job, tests: TaskTests, box: Sandbox, limits: Limits) -> tuple[Verdict, str]:
    for number, case in enumerate(tests.cases, start=1):
        where = f"case {number} of {len(tests.cases)}"
        ended = box.run(job.program, case.given)
        if ended.code:
            verdict, why = _ended(ended.code, limits)
            if verdict == "timeout":
                return verdict, f"{where}: {why}"
            syntax = ended.error.startswith(("SyntaxError", "IndentationError"))
            return ("syntax error" if syntax else verdict), f"{where}: {ended.error or why}"
        if ended.output.split() != case.expected.split():
            return "failed assertion", f"{where}: another output"
    return "passed", ""
