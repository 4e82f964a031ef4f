"""Trials as jobs: one per trial, on a node of its own.

    the sweep, where people log in    job.json -> queue ... ask ... record.json -> MLflow
    the job, on a node                job.json -> lock, meters, trial -> record.json

Both see the trial's folder, so it lies on a file system that they share. The sweep alone plans,
counts attempts and writes to the store: nodes need no network. A sweep that was killed finds its
jobs again by the trials' ids, and takes from disk what ended in the meantime.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from rich.console import Console

from slm_energy import workload
from slm_energy.cell import Trial
from slm_energy.config.groups import LauncherConfig, MeasurementConfig, StudyConfig
from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.record import EXCHANGE, Record
from slm_energy.running import trial
from slm_energy.running.local import LocalExecutor, ReportProgress
from slm_energy.running.slurm import GONE, QueuedJob, job_here, open_queue
from slm_energy.serialization import read_json, write_json
from slm_energy.store import artifacts, outbox
from slm_energy.store.mlflow_schema import INTERRUPTED, interrupted

_ORDER_FILE = "job.json"
_SUBMITIT = "submitit"
_REST = "rest-"
_EXIT_GRACE_S = 60.0  # twice what Slurm gives a job by default (KillWait)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a job is told.

    Attributes:
        trial: what to run.
        study: its settings: how to share the node with others, and what to wait for there.
    """

    trial: Trial
    study: StudyConfig


class ClusterExecutor:
    """A place for trials (`here.Place`): the nodes of a cluster."""

    def __init__(
        self,
        launcher: LauncherConfig,
        study: StudyConfig,
        folder: Path,
        ending: Callable[[], bool],
    ) -> None:
        """Nothing happens before it is entered.

        Args:
            launcher: which cluster, and what to ask it for.
            study: its settings.
            folder: for how nodes are at rest; they share it.
            ending: whether a person wants the sweep to end when what runs has.

        Raises:
            ConfigError: there is no such cluster here.
        """
        self._queue = open_queue(launcher)
        self.machine = self._queue.machine
        self._folder = folder
        self._at_once = launcher.at_once
        self._study = study
        self._ending = ending
        self._running: dict[str, tuple[Trial, Path]] = {}
        self._withdrawn: set[str] = set()

    def __enter__(self) -> Self:
        """Each job keeps others out of its node."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Cancel what is left; after an error it goes on, and the next invocation takes it over."""
        if kind is None and self._running:
            self._stop()

    def adopt(self, unfinished: Sequence[Path]) -> list[Trial]:
        """Take over the trials whose jobs the queue knows, also those that ended without a record.

        Raises:
            SlmEnergyError: the queue does not answer, or they are another study's.
        """
        jobs = self._queue.jobs() if unfinished else {}
        if jobs is None:
            raise SlmEnergyError(
                f"{self.machine} does not say which jobs run: try again, or look at squeue"
            )
        for folder in unfinished:
            if folder.name not in jobs or not (folder / _ORDER_FILE).exists():
                continue
            entry = read_json(folder / _ORDER_FILE, Order).trial
            if entry.study != self._study.name:
                raise SlmEnergyError(
                    f"{folder.parent} waits for jobs of study.name={entry.study}: run that again"
                    " first, or set another tracking.folder"
                )
            self._running[entry.id] = (entry, folder)
        return [entry for entry, _ in self._running.values()]

    def ready(self, measurements: Iterable[MeasurementConfig]) -> None:
        """Each job starts the meters that it needs.

        How a node is at rest, its first job of this sweep finds out, and the next ones know.
        """
        for file in self._folder.glob(f"{_REST}*"):
            file.unlink()

    @property
    def room(self) -> bool:
        """Whether fewer jobs wait or run than may."""
        return len(self._running) < self._at_once

    def start(self, trial: Trial, folder: Path) -> None:
        """Put a trial in the queue.

        Raises:
            SlmEnergyError: the queue refuses it, or the folder cannot be written.
        """
        try:
            write_json(folder / _ORDER_FILE, Order(trial=trial, study=self._study))
        except OSError as error:
            raise outbox.cannot_write(folder, error) from error
        self._queue.submit(trial.id, folder / _SUBMITIT, run_on_node, str(folder))
        self._running[trial.id] = (trial, folder)

    def ended(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        """Wait until at least one job has ended.

        Where a person wants the sweep to end, jobs that wait are cancelled, and their records come
        last; after an interrupt all are.
        """
        try:
            while not (found := self._look(progress)):
                time.sleep(self._queue.poll_s)
            return found
        except KeyboardInterrupt:
            if not (found := self._stop()):
                raise
            return sorted(found, key=lambda pair: interrupted(pair[0]))

    def _look(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        jobs = self._queue.jobs()
        if jobs is None:
            return []
        ours = {name: jobs.get(name, GONE) for name in self._running}
        if self._ending():
            self._withdraw({name: job for name, job in ours.items() if job.waits})
        for name, job in ours.items():
            if not job.ended:
                progress(self._running[name][0], job.told, 0.0)
        ended = [name for name, job in ours.items() if job.ended]
        if len(ended) < len(ours):
            ended = [name for name in ended if name not in self._withdrawn]
        return self._records({name: ours[name] for name in ended})

    def _withdraw(self, waiting: Mapping[str, QueuedJob]) -> None:
        if waiting:
            self._withdrawn |= waiting.keys()
            self._queue.cancel(waiting.values())

    def _stop(self) -> list[tuple[Record, Path]]:
        """Cancel every job; return what they left."""
        self._withdrawn |= self._running.keys()
        jobs = self._cancel()
        return self._records({name: jobs.get(name, GONE) for name in self._running})

    def _cancel(self) -> dict[str, QueuedJob]:
        """Cancel every job, and give them time to go; return how they are then."""
        deadline, asked = time.monotonic() + _EXIT_GRACE_S, set[str]()
        while True:
            jobs = self._queue.jobs()
            if jobs is not None:
                left = {n: jobs[n] for n in jobs.keys() & self._running.keys() if not jobs[n].ended}
                if left.keys() - asked and self._queue.cancel(left.values()):
                    asked |= left.keys()
                if not left:
                    return jobs
            if time.monotonic() > deadline:
                return jobs or {}
            time.sleep(self._queue.poll_s)

    def _records(self, jobs: Mapping[str, QueuedJob]) -> list[tuple[Record, Path]]:
        """What ended jobs left; nothing of one that was delivered since it was adopted."""
        found = []
        for name, job in jobs.items():
            entry, folder = self._running.pop(name)
            if folder.exists():
                folder.chmod(folder.stat().st_mode)  # has an NFS client look anew
                complete = artifacts.is_complete(folder)
                record = outbox.read(folder) if complete else self._without(entry, folder, job)
                found.append((record, folder))
        return found

    def _without(self, entry: Trial, folder: Path, job: QueuedJob) -> Record:
        """The record of a trial whose job left none."""
        order, reason = folder / _ORDER_FILE, _how_it_ended(job, folder)
        begun_ns = order.stat().st_mtime_ns
        if entry.id in self._withdrawn:
            reason = INTERRUPTED
            order.unlink()  # so that it is not adopted, and does not count as an attempt
        record = trial.failed(entry, reason, begun_ns, {})
        return dataclasses.replace(record, node=job.node, job=job.id)


def _how_it_ended(job: QueuedJob, folder: Path) -> str:
    """One line about a job that left no record: the queue's words, and the last of its own."""
    where = f" on {job.node}" if job.node else ""
    logs = sorted((folder / _SUBMITIT).glob("*.out"))
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").split("\n") if logs else []
    last = next((line for line in reversed(lines) if line.strip()), "no word")
    name = job.id or folder.name
    return f"job {name}{where} left no record ({job.told}); its log ends with: {one_line(last)}"


def run_on_node(folder: str) -> None:
    """Run a trial in its job, and leave its record in its folder.

    Args:
        folder: the trial's; absolute.
    """
    here = Path(folder)
    order = read_json(here / _ORDER_FILE, Order)
    # submitit would have a job that is about to be ended put in the queue again: we decide that.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record = _run(order, here)
    if interrupted(record):
        sys.exit("cancelled: no record is written")
    tasks = workload.load(order.trial.cell.settings.workload)
    artifacts.write(
        here,
        dataclasses.replace(record, node=platform.node(), job=job_here()),
        {task.task_id: task.prompt for task in tasks},
    )
    shutil.rmtree(here / EXCHANGE, ignore_errors=True)


def _run(order: Order, folder: Path) -> Record:
    """Run the trial as a sweep of one on this node."""
    entry, begun_ns = order.trial, time.time_ns()
    try:
        rest_file = folder.parent / f"{_REST}{platform.node()}.json"
        with LocalExecutor(order.study, folder, Console(width=100), rest_file) as place:
            place.ready([entry.cell.settings.measurement])
            place.start(entry, folder)
            [(record, _)] = place.ended(lambda entry, phase, share: None)
            return record
    except SlmEnergyError as error:
        return trial.failed(entry, str(error), begun_ns, {})
