"""Trials as jobs: one per trial, on a node of its own.

    the sweep, on the login node    job.json -> queue ... poll ... record.json -> MLflow
    the job, on a compute node      job.json -> trial -> record.json (`job.py`)

Both use the trial's folder, which must be on a file system that they share. The sweep alone plans,
counts attempts and writes to the store: nodes need no network. A sweep that was killed finds its
jobs again by the trials' ids, and reads from disk the records of those that ended in the meantime.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape

from slm_energy import shared, source_code
from slm_energy.cell import Settings, Trial
from slm_energy.config.groups import LauncherConfig, StudyConfig
from slm_energy.errors import ConfigError, SlmEnergyError, one_line
from slm_energy.record import EXCHANGE, Record
from slm_energy.running.job import ORDER_FILE, REST, Order, run_on_node
from slm_energy.running.local import ReportProgress
from slm_energy.running.slurm import QueuedJob, QueueFull, open_queue
from slm_energy.running.trial import failed
from slm_energy.scope import Scope
from slm_energy.serialization import read_json, write_json
from slm_energy.store import artifacts, outbox
from slm_energy.store.mlflow_schema import INTERRUPTED, interrupted
from slm_energy.worker.child import LOG_FILE

_SUBMITIT = "submitit"
_NEWS_S = 600.0
_EXIT_GRACE_S = 60.0  # twice what Slurm gives a job by default (KillWait)


class ClusterExecutor:
    """An `Executor` (`local.py`) that runs trials on the nodes of a cluster."""

    def __init__(
        self,
        launcher: LauncherConfig,
        study: StudyConfig,
        folder: Path,
        console: Console,
        ending: Callable[[], bool],
    ) -> None:
        """Do nothing yet: work begins when it is entered.

        Args:
            launcher: which cluster, and the resources of a job.
            study: its settings.
            folder: `tracking.folder`/pending/MACHINE; keeps how each node is at rest, and the nodes
                share it.
            console: for lines about jobs that take long to start or end.
            ending: whether the sweep was asked to end once the running trials have.

        Raises:
            ConfigError: there is no such cluster here, or it cannot use the folder.
        """
        if "%" in str(folder):
            raise ConfigError(
                f"tracking.folder: {folder} has a %, which jobs replace in the paths of their logs"
                " (%j by the job's id): set a folder without one"
            )
        self._queue = open_queue(launcher)
        self.machine = self._queue.machine
        self._folder = folder
        self._console = console
        self._at_once = launcher.at_once
        self._study = study
        self._ending = ending
        self._running: dict[str, tuple[Trial, Path]] = {}
        self._seen: dict[str, QueuedJob] = {}
        self._refused: dict[str, QueuedJob] = {}
        self._withdrawn: set[str] = set()
        self._news_at_s = time.monotonic() + _NEWS_S

    def __enter__(self) -> Self:
        """Each job keeps others out of its node."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Cancel the jobs that are left; after an error they stay, for the next invocation."""
        if kind is None and self._running:
            self._stop()

    def adopt(self, unfinished: Sequence[Path]) -> list[Trial]:
        """Take over the trials whose jobs the queue knows, also those that ended without a record.

        Raises:
            SlmEnergyError: the queue does not respond, or the jobs are another study's.
        """
        jobs = self._queue.jobs() if unfinished else {}
        if jobs is None:
            raise SlmEnergyError(
                f"{self.machine} does not report which jobs are running: try again, or check squeue"
            )
        for folder in unfinished:
            if folder.name not in jobs or not (folder / ORDER_FILE).exists():
                continue
            trial = read_json(folder / ORDER_FILE, Order).trial
            if trial.study != self._study.name:
                raise SlmEnergyError(
                    f"jobs of study.name={trial.study} are still pending in {folder.parent}: run"
                    " that study again first, or set another tracking.folder"
                )
            self._running[trial.id] = (trial, folder)
        return [trial for trial, _ in self._running.values()]

    def ready(self, coming: Iterable[Settings]) -> tuple[Scope, ...]:
        """Forget how nodes were at rest; each job starts the meters that it needs.

        The first job of this sweep on a node measures how it is at rest, for all that follow. What
        a node's meters sum is known when its first trial ends.
        """
        for file in self._folder.glob(f"{REST}*"):
            file.unlink()
        return ()

    @property
    def room(self) -> bool:
        """Whether fewer jobs are queued or running than `launcher.at_once`, and than users may."""
        return len(self._running) < self._at_once and not self._refused

    def start(self, trial: Trial, folder: Path) -> None:
        """Submit a trial to the queue, or later if the user has as many jobs in it as allowed.

        Raises:
            SlmEnergyError: the queue refuses it.
            OSError: the folder cannot be written.
        """
        order = Order(
            trial=trial,
            study=self._study,
            code=source_code.digest(),
            package=str(source_code.PACKAGE),
        )
        write_json(folder / ORDER_FILE, order)
        self._submit(trial, folder)
        self._running[trial.id] = (trial, folder)

    def _submit(self, trial: Trial, folder: Path) -> None:
        try:
            work = functools.partial(run_on_node, str(folder))
            self._seen[trial.id] = self._queue.submit(
                trial.id, folder / _SUBMITIT, work, self._job_variables()
            )
            self._refused.pop(trial.id, None)
        except QueueFull as error:
            self._refused[trial.id] = QueuedJob(id="", state="PENDING", why=str(error))

    def _job_variables(self) -> dict[str, str]:
        """Make jobs import this process's code, through a link in a folder that nodes share."""
        store = self._folder.parents[1]
        # Jobs outlive a sweep, and that of another checkout must not change their code.
        checkout = hashlib.sha256(str(source_code.PACKAGE).encode()).hexdigest()[:8]
        own = store / "code" / checkout
        shared.add_folder(own, within=store)
        path = source_code.on_path(own, os.environ.get("PYTHONPATH"))
        return path | {"PYTHONSAFEPATH": "1"}

    def ended(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        """Wait until at least one job has ended.

        When the sweep was asked to end, queued jobs are cancelled, and their records come last;
        after an interrupt all are.
        """
        try:
            while not (records := self._poll(progress)):
                time.sleep(self._queue.poll_s)
            return records
        except KeyboardInterrupt:
            if not (records := self._stop()):
                raise
            return sorted(records, key=lambda pair: interrupted(pair[0]))

    def _poll(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        jobs = self._queue.jobs()
        if jobs is None:
            self._tell(f"{self.machine} does not report its jobs; check squeue")
            return []
        ours = self._ours(jobs)
        if self._ending():
            self._withdraw({name: job for name, job in ours.items() if job.waits})
        for name, job in ours.items():
            if not job.ended:
                progress(self._running[name][0], job.description, 0.0)
        for name in list(self._refused):
            self._submit(*self._running[name])
        states = Counter(job.description for job in ours.values())
        self._tell("jobs: " + ", ".join(f"{n} {state}" for state, n in states.items()))
        ended = [name for name, job in ours.items() if job.ended]
        if len(ended) < len(ours):
            ended = [name for name in ended if name not in self._withdrawn]
        return self._records({name: ours[name] for name in ended})

    def _tell(self, text: str) -> None:
        """Print now and then what the sweep waits for: a job may be pending forever."""
        if time.monotonic() >= self._news_at_s:
            self._news_at_s = time.monotonic() + _NEWS_S
            line = f"[dim]{time.strftime('%H:%M')} {escape(text)}[/]"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _ours(self, jobs: Mapping[str, QueuedJob]) -> dict[str, QueuedJob]:
        """The jobs of the running trials; of one that the queue has forgotten, what is known."""
        self._seen |= {name: jobs[name] for name in self._running if name in jobs}
        unknown = self._queue.unknown
        return {
            name: self._refused.get(name)
            or jobs.get(name)
            or dataclasses.replace(self._seen.get(name, unknown), state=unknown.state, why="")
            for name in self._running
        }

    def _withdraw(self, waiting: Mapping[str, QueuedJob]) -> None:
        self._withdrawn |= waiting.keys()
        queued = [job for name, job in waiting.items() if name not in self._refused]
        self._refused.clear()
        if queued:
            self._queue.cancel(queued)

    def _stop(self) -> list[tuple[Record, Path]]:
        """Cancel every job; return the records."""
        self._withdrawn |= self._running.keys()
        self._refused.clear()
        return self._records(self._ours(self._cancel()))

    def _cancel(self) -> dict[str, QueuedJob]:
        """Cancel every job, give them time to end, and return their states then."""
        deadline, cancelled = time.monotonic() + _EXIT_GRACE_S, set[str]()
        while True:
            jobs = self._queue.jobs()
            if jobs is not None:
                left = {n: jobs[n] for n in jobs.keys() & self._running.keys() if not jobs[n].ended}
                if left.keys() - cancelled and self._queue.cancel(left.values()):
                    cancelled |= left.keys()
                if not left:
                    return jobs
            if time.monotonic() > deadline:
                return jobs or {}
            time.sleep(self._queue.poll_s)

    def _records(self, jobs: Mapping[str, QueuedJob]) -> list[tuple[Record, Path]]:
        """The records of ended jobs, except of one that was delivered since it was adopted."""
        records = []
        for name, job in jobs.items():
            trial, folder = self._running.pop(name)
            if folder.exists():
                folder.chmod(folder.stat().st_mode)  # makes an NFS client refresh its cache
                complete = artifacts.is_complete(folder)
                record = outbox.read(folder) if complete else self._without(trial, folder, job)
                records.append((record, folder))
                self._news_at_s = time.monotonic() + _NEWS_S
        return records

    def _without(self, trial: Trial, folder: Path, job: QueuedJob) -> Record:
        """The record of a trial whose job left none."""
        if job.state == self._queue.unknown.state:
            job = self._queue.recall(job)
        for log in sorted(folder.glob(f"{EXCHANGE}/*/{LOG_FILE}")):
            log.rename(folder / LOG_FILE)  # that of the last start stays
        order, reason = folder / ORDER_FILE, _how_it_ended(job, folder)
        begun_ns, withdrawn = order.stat().st_mtime_ns, trial.id in self._withdrawn
        if withdrawn:
            reason = INTERRUPTED
            order.unlink()  # so that it is not adopted, and does not count as an attempt
        return dataclasses.replace(
            failed(trial, reason, begun_ns),
            node=job.node,
            job=job.id,
            ended_by="" if withdrawn else job.ended_by,
        )


def _how_it_ended(job: QueuedJob, folder: Path) -> str:
    """One line about a job that left no record: its state, and the last line of its log."""
    where = f" on {job.node}" if job.node else ""
    text = f"job {job.id or folder.name}{where} left no record ({job.description})"
    logs = sorted((folder / _SUBMITIT).glob("*.out"))
    if not logs:
        shared = "is tracking.folder on a file system that the nodes share?"
        return f"{text} and no log: {shared}" if job.node else f"{text} and no log"
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "nothing")
    return f"{text}; its log ends with: {one_line(last)}"
