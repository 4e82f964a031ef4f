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
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from slm_energy.scoring import sandbox
from slm_energy.scoring.inside import wire
from slm_energy.scoring.sandbox import Connected, Limits
from slm_energy.serialization import read_json, to_plain, write_json
from slm_energy.tasks import Task, Tests

VERSION = 1
"""Raised with each change that may change a verdict."""

Verdict = Literal["passed", "failed assertion", "exception", "syntax error", "timeout", "refused"]

_KILLED_BY_LIMIT = {128 + signal.SIGXCPU, 128 + signal.SIGKILL}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Whether one answer works.

    Attributes:
        task_id: the task.
        verdict: the result.
        why: the first line of the reason; empty for a pass.
    """

    task_id: str
    verdict: Verdict
    why: str = ""

    @property
    def solved(self) -> bool:
        """Whether the answer passed all tests."""
        return self.verdict == "passed"


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
    limits: Limits = Limits(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Score]:
    """Score answers, in their order.

    Args:
        jobs: the answers; their tasks have tests.
        known: folder of verdicts that are known; gets the new ones.
        workers: how many answers are tested at a time.
        limits: of each.
        progress: called with the numbers of scored and of distinct answers.

    Raises:
        SandboxError: this machine cannot isolate them.
    """
    sandbox.version()
    known.mkdir(parents=True, exist_ok=True)
    distinct = {job.key: job for job in jobs}
    verdicts = {key: kept for key in distinct if (kept := _kept(known / f"{key}.json"))}
    missing = {key: job for key, job in distinct.items() if key not in verdicts}
    progress(len(verdicts), len(distinct))
    with _Judges(limits) as judges, ThreadPoolExecutor(workers) as pool:
        for key, result in zip(missing, pool.map(judges.score, missing.values()), strict=True):
            write_json(known / f"{key}.json", result)
            verdicts[key] = result
            progress(len(verdicts), len(distinct))
    return [dataclasses.replace(verdicts[job.key], task_id=job.task.task_id) for job in jobs]


def _kept(path: Path) -> Score | None:
    """A verdict of before; None if there is none, or it is damaged."""
    try:
        return read_json(path, Score)
    except (OSError, ValueError):
        return None


class _Judges:
    """Judging processes, one for each thread that asks; they serve many answers."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free: queue.SimpleQueue[Connected] = queue.SimpleQueue()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def score(self, job: Job) -> Score:
        """Test one answer."""
        tests = job.task.tests
        assert tests is not None
        if tests.refused:
            verdict, why = "refused", tests.refused
        elif tests.kind == "cases":
            verdict, why = _run_cases(job.program, tests, self._limits)
        else:
            verdict, why = self._judge(job, tests)
        return Score(task_id=job.task.task_id, verdict=verdict, why=why)  # type: ignore[arg-type]

    def _judge(self, job: Job, tests: Tests) -> tuple[str, str]:
        judge = self._take()
        with contextlib.ExitStack() as stack:
            guests = [stack.enter_context(sandbox.guest(self._limits))]
            if tests.kind == "inputs":
                guests.append(stack.enter_context(sandbox.guest(self._limits)))
            try:
                judge.channel.settimeout(self._limits.wall_s)
                socket.send_fds(judge.channel, [b"."], [g.channel.fileno() for g in guests])
                wire.send(judge.channel, _message(job, tests))
                reply = wire.receive(judge.channel)
            except (wire.Closed, OSError):
                judge.process.kill()
                return "timeout", f"more than {self._limits.wall_s:g} s"
            self._free.put(judge)
            return _explained(str(reply["verdict"]), str(reply["why"]), guests[0], self._limits)

    def _take(self) -> Connected:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._stack.enter_context(sandbox.judge(self._limits))


def _message(job: Job, tests: Tests) -> dict[str, object]:
    task = job.task
    canonical = task.prompt + task.canonical_solution if task.continues else task.canonical_solution
    return {
        "kind": tests.kind,
        "program": job.program,
        "tests": tests.program,
        "check": tests.check,
        "entry_point": task.entry_point if tests.check or tests.kind == "inputs" else "",
        "canonical": canonical,
        "inputs": list(tests.inputs),
        "atol": tests.atol,
    }


def _explained(verdict: str, why: str, guest: Connected, limits: Limits) -> tuple[str, str]:
    """The verdict, with how the answer's process ended where it did."""
    if not why.startswith("the process of the answer"):
        return verdict, why
    with contextlib.suppress(subprocess.TimeoutExpired):
        guest.process.wait(timeout=1)
    return _ended(guest.process.returncode, limits)


def _ended(code: int | None, limits: Limits) -> tuple[str, str]:
    """How a process that was to answer ended, by its exit code (bubblewrap's: 128 + signal)."""
    if code in _KILLED_BY_LIMIT:
        return "timeout", f"more than {limits.cpu_s} s of processor time"
    return "exception", f"the program ended itself (exit code {code})"


def _run_cases(program: str, tests: Tests, limits: Limits) -> tuple[str, str]:
    for number, case in enumerate(tests.cases, start=1):
        where = f"case {number} of {len(tests.cases)}"
        try:
            ended = sandbox.run_program(program, case.given, limits)
        except subprocess.TimeoutExpired:
            return "timeout", f"{where}: more than {limits.wall_s:g} s"
        if ended.code:
            syntax = ended.error.startswith(("SyntaxError", "IndentationError"))
            verdict, why = _ended(ended.code, limits)
            verdict = "syntax error" if syntax else verdict
            return verdict, f"{where}: {ended.error if verdict != 'timeout' else why}"
        if ended.output.split() != case.expected.split():
            return "failed assertion", f"{where}: another output"
    return "passed", ""


def by_task(scores: Sequence[Score]) -> Mapping[str, Score]:
    """Scores by task id."""
    return {score.task_id: score for score in scores}
