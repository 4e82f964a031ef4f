"""Programs and tests to verdicts: on the processors there are, each distinct pair once.

The same program and tests give the same verdict: an endless loop is ended by processor time, not by
the clock, and neither hashes of strings nor `random` are random. Verdicts are kept by the content
of what was scored, so that rounds with equal answers cost one round of scoring.

A verdict counts only where the task's own canonical solution passes (if it has one): a task whose
tests cannot run here, for want of a module for example, is refused, for all answers alike. Where
that solution passes, no answer can have its task refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slm_energy import shared
from slm_energy.record import TaskScore
from slm_energy.scoring import bubblewrap
from slm_energy.scoring.sandbox import Limits, Sandbox
from slm_energy.scoring.verdict import canonical, verdict
from slm_energy.serialization import read_json, replacing, to_plain
from slm_energy.tasks import Task

VERSION = 2
"""Raised with each change that may change a verdict."""

LIMITS = Limits()
"""Of an answer, unless a caller has others."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A program and the task whose tests it should pass."""

    task: Task
    program: str

    @property
    def key(self) -> str:
        """Hash of everything that decides the verdict but the limits: 32 hex digits."""
        task = dataclasses.replace(self.task, task_id="")
        text = json.dumps([VERSION, sys.version_info[:2], to_plain(task), self.program])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def control(self) -> Job | None:
        """The canonical solution under the same tests; None if there is none."""
        solution = canonical(self.task)
        return Job(task=self.task, program=solution) if solution else None


def tests_digest(tasks: Iterable[Task]) -> str:
    """Hash of what decides verdicts of the same answers: tests and solutions, 16 hex digits."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps(to_plain(task)).encode() + b"\n")
    return digest.hexdigest()[:16]


def score(
    jobs: Sequence[Job],
    *,
    known: Path,
    workers: int,
    isolated: bool = True,
    limits: Limits = LIMITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TaskScore]:
    """The scores of answers, in their order.

    Args:
        jobs: the answers; their tasks have tests.
        known: folder of verdicts that are known; gets the new ones if it can be written.
        workers: how many answers are tested at a time.
        isolated: in the sandbox; else with the rights of this user.
        limits: of each.
        progress: called with the numbers of scored and of distinct answers.

    Raises:
        SandboxError: this machine cannot isolate them.
    """
    if isolated:
        bubblewrap.version()
    verdicts: dict[str, TaskScore] = {}

    def test(asked: Mapping[str, Job]) -> None:
        verdicts.update({k: kept for k in asked if (kept := _kept(known / f"{k}.json"))})
        missing = {key: job for key, job in asked.items() if key not in verdicts}
        total = len(verdicts) + len(missing)
        progress(len(verdicts), total)
        with _Judges(limits, isolated) as judges, _pool(workers) as pool:
            for key, result in zip(missing, pool.map(judges.score, missing.values()), strict=True):
                _keep(known / f"{key}.json", result)
                verdicts[key] = result
                progress(len(verdicts), total)

    distinct = {job.key: job for job in jobs}
    test(distinct)
    controls = {key: own for key, job in distinct.items() if (own := job.control) is not None}
    if controls:
        test({control.key: control for control in controls.values()})

    def final(job: Job) -> TaskScore:
        control = controls.get(job.key)
        result = verdicts[job.key]
        if control is not None:
            result = _controlled(result, verdicts[control.key])
        return dataclasses.replace(result, task_id=job.task.task_id)

    return [final(job) for job in jobs]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads; after an interrupt they finish their own answers, and not all that are left."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _controlled(result: TaskScore, control: TaskScore) -> TaskScore:
    """The score of an answer, seen beside that of the task's canonical solution."""
    if control.verdict == "refused":
        return control
    if control.solved:
        own = "exception" if result.verdict == "refused" else result.verdict
        return dataclasses.replace(result, verdict=own)
    _, module, name = control.why.partition("ModuleNotFoundError: No module named ")
    missing = f"needs module {name.strip(chr(39)).partition('.')[0]}, which answers cannot import"
    why = missing if module else f"its canonical solution does not pass: {control.why}"
    return dataclasses.replace(control, verdict="refused", why=why)


def _kept(path: Path) -> TaskScore | None:
    """A verdict of before; None if there is none, or it is damaged."""
    try:
        return read_json(path, TaskScore)
    except (OSError, ValueError):
        return None


def _keep(path: Path, result: TaskScore) -> None:
    """Keep a verdict; one that is lost, or cannot be written, is tested again."""
    with contextlib.suppress(OSError):
        shared.add_folder(path.parent, within=path.parents[1])
        with replacing(path) as file:
            json.dump(to_plain(result), file)
            shared.share(Path(file.name))


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
        box = self._take()
        try:
            found, why = verdict(job.task, job.program, box, self._limits)
        finally:
            self._free.put(box)
        return TaskScore(task_id=job.task.task_id, verdict=found, why=why)

    def _take(self) -> Sandbox:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            box = Sandbox(self._limits, isolated=self._isolated)
            self._stack.callback(box.close)
            return box
