"""One trial seen from the parent: start a fresh worker, sleep until it ends, derive, check.

    trial.json -> [build, prepare, reference] -> serve -> capture.json, served.* -+-> Record
    metering.json -> sampler -> samples.jsonl ------------------------------------+

The record has metrics and checks besides the capture.

Words between files are processes; those in brackets run where the cache lacks something. The files,
and tasks.json, are the exchange between processes; the record holds all that they say.

Whatever the worker does (raise, hang, vanish, exit without output), there is a `Record`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from slm_energy import prompts, source_code
from slm_energy.arrivals import trace_digest
from slm_energy.cell import Trial
from slm_energy.clocks import ReadClocks, read_clocks
from slm_energy.derive import checks, metrics
from slm_energy.doctor import contention
from slm_energy.engines.base import adopted, find, load_request_of
from slm_energy.errors import ConfigError, MeterError, ModelError, SlmEnergyError, WorkloadError
from slm_energy.models import source
from slm_energy.places import file_error
from slm_energy.record import (
    CAPTURE_FILE,
    EXCHANGE,
    METERING_FILE,
    TASKS_FILE,
    TRIAL_FILE,
    Capture,
    GateReport,
    Generation,
    Metering,
    Outcome,
    Record,
    Reference,
)
from slm_energy.running.gate import Gate
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.serialization import read_json, write_json
from slm_energy.store import artifacts
from slm_energy.store.mlflow_schema import INTERRUPTED
from slm_energy.tasks import Task, TaskTests
from slm_energy.worker import child, files, reference
from slm_energy.worker.child import ReportPhase
from slm_energy.worker.forkserver import Templates
from slm_energy.worker.served import REQUESTS_FILE, SERVED_FILE, Served, generations

_SAMPLES_FILE = "samples.jsonl"


def run(
    trial: Trial,
    folder: Path,
    sampler: Sampler | None,
    progress: ReportPhase,
    gate: Gate | None = None,
    templates: Templates | None = None,
    clocks: ReadClocks = read_clocks,
) -> Record:
    """Run one trial to its outcome.

    Args:
        trial: what to run.
        folder: an empty folder of its own; gets the worker's log, and a subfolder `EXCHANGE`.
        sampler: the started sampling process; None when `measurement.mode` is off.
        progress: called about once a second with the phase and the share of it that is done.
        gate: passed when all is prepared, right before the worker starts; None waits for nothing.
        templates: what workers are forked from where the trial requests it; None for new ones.
        clocks: reads the machine's clocks.

    Returns:
        The record. After an interrupt the worker is gone, and the record's reason is `INTERRUPTED`.

    Raises:
        OSError: the folder cannot be written.
    """
    started = clocks()
    with contextlib.ExitStack() as stack:
        attempt = _Attempt(
            trial=trial,
            folder=folder,
            sampler=sampler,
            progress=progress,
            gate=gate,
            templates=templates or stack.enter_context(Templates()),
        )
        try:
            capture = dataclasses.replace(attempt.capture(), parent_clocks=(started, clocks()))
            with attempt.timed("derive"):
                record = derive(trial, capture, started.unix_ns)
        except KeyboardInterrupt:
            record = failed(trial, INTERRUPTED, started.unix_ns)
        except _NoCapture as error:
            record = failed(trial, str(error), started.unix_ns, permanent=error.permanent)
        took_ns = clocks().monotonic_ns - started.monotonic_ns
        return dataclasses.replace(
            record,
            phases_s=attempt.phases_s,
            ended_unix_ns=started.unix_ns + took_ns,
            duration_s=took_ns / 1e9,
            code=source_code.digest(),
        )


def _without_answer(task: Task) -> Task:
    """What the worker gets: the prompt, and what says where an answer to it ends."""
    tests = None if task.tests is None else TaskTests(kind=task.tests.kind)
    return dataclasses.replace(task, canonical_solution="", tests=tests)


def asked(folder: Path) -> dict[str, str]:
    """Task id to prompt, as the worker of the trial in this folder got them; empty before that."""
    file = folder / EXCHANGE / TASKS_FILE
    if not file.is_file():
        return {}
    return {task["task_id"]: task["prompt"] for task in json.loads(file.read_text("utf-8"))}


def derive(trial: Trial, capture: Capture, started_unix_ns: int) -> Record:
    """Metrics, checks and outcome of a capture: pure but for the end's time stamp."""
    energy = metrics.energy_figures(capture, trial.cell.settings.measurement)
    values = metrics.derive(capture, energy, trial.cell.settings.load)
    results = checks.run(trial, capture, energy)
    reasons = tuple(f"{c.name}: {c.detail}" for c in results if c.passed is False)
    return Record(
        trial=trial,
        outcome=Outcome(name="invalid" if reasons else "valid", reasons=reasons),
        capture=capture,
        energy=energy,
        metrics=values,
        checks=results,
        started_unix_ns=started_unix_ns,
        ended_unix_ns=time.time_ns(),
    )


def failed(trial: Trial, error: str, started_unix_ns: int, *, permanent: bool = False) -> Record:
    """The record of a trial that gave no capture."""
    outcome = Outcome(name="failed", reasons=(error,), permanent=permanent)
    return _without_capture(trial, outcome, started_unix_ns)


def unsupported(trial: Trial, reason: str) -> Record:
    """The record of a cell that this machine or engine cannot run."""
    outcome = Outcome(name="unsupported", reasons=(reason,))
    return _without_capture(trial, outcome, time.time_ns())


def _without_capture(trial: Trial, outcome: Outcome, started_unix_ns: int) -> Record:
    return Record(
        trial=trial,
        outcome=outcome,
        capture=None,
        energy=(),
        metrics={},
        checks=(),
        started_unix_ns=started_unix_ns,
        # The start may be another machine's date.
        ended_unix_ns=max(started_unix_ns, time.time_ns()),
    )


class _NoCapture(SlmEnergyError):
    """The trial gave no capture; the text says why."""


@dataclasses.dataclass(kw_only=True, slots=True)
class _Attempt:
    """The steps of one trial, with what `run` was given, and how long each step took."""

    trial: Trial
    folder: Path
    sampler: Sampler | None
    progress: ReportPhase
    gate: Gate | None
    templates: Templates
    phases_s: dict[str, float] = dataclasses.field(default_factory=dict)
    no_reference: Reference | None = None
    usage: tuple[contention.Usage, ...] = ()

    @property
    def exchange(self) -> Path:
        """Where the processes find each other's files."""
        return self.folder / EXCHANGE

    def capture(self) -> Capture:
        """Prepare, wait, serve, and collect what worker and sampler wrote.

        Raises:
            _NoCapture: a step failed.
            OSError: the folder cannot be written.
        """
        self.exchange.mkdir()
        write_json(self.exchange / TRIAL_FILE, self.trial)
        try:
            # Here, because another interpreter may lack what reads data sets and renders chats.
            cell, model_path = self.trial.cell, Path(self.trial.model_path)
            model, config = cell.settings.model, cell.settings.workload
            source.require_unchanged(model, model_path, cell.model_digest)
            tasks = prompts.load_unchanged(config, cell.workload_digest)
            if trace_digest(cell.settings.load) != cell.trace_digest:
                raise WorkloadError("load.trace has changed since the sweep began: run it again")
            tasks = prompts.rendered(tasks, model, model_path, config)
            # The worker needs the prompts alone: tests may be many megabytes.
            write_json(self.exchange / TASKS_FILE, [_without_answer(task) for task in tasks])
            self._prepare()
            gate = self._pass_gate()
            self._serve()
            capture = self._read_capture()
            reference_outputs = self.no_reference or reference.read(self.trial)
        except (MeterError, ModelError, WorkloadError) as error:
            raise _NoCapture(str(error), permanent=error.permanent) from error
        except ValueError as error:
            raise _NoCapture(str(error)) from error
        except OSError as error:
            # One of the trial's own folder ends the sweep: the next trial would fail too.
            if error.filename is None or Path(error.filename).is_relative_to(self.folder):
                raise
            places = files.places(self.trial, self.folder)
            raise _NoCapture(str(file_error(error, places))) from error
        return dataclasses.replace(capture, reference=reference_outputs, gate=gate)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Time a phase, also one that fails."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.phases_s[phase] = time.monotonic() - begun

    def _prepare(self) -> None:
        """Fill the cache with what the trial needs of it, each step in a process of its own."""
        trial = self.trial
        for mode, needed in PREPARATIONS.items():
            if not needed(trial):
                continue
            # Weights and reference are the same for every interpreter, so this one makes them.
            python = trial.python if mode == "prepare" and not _prepares_here(trial) else None

            def show(_: str, share: float, mode: str = mode) -> None:
                self.progress(mode, share)

            with self.timed(mode):
                self.progress(mode, 0.0)
                failure = child.run(
                    mode,
                    python,
                    self.folder,
                    self.exchange,
                    trial.timeout_s,
                    show,
                    env=trial.cell.settings.engine.env,
                )
            if failure is not None and mode == "reference":
                self.no_reference = reference.give_up(trial, failure.why)
            elif failure is not None:
                why = f"{mode} (before the trial) failed: {failure.why}"
                raise _NoCapture(why, permanent=failure.permanent)

    def _pass_gate(self) -> GateReport | None:
        report = None if self.gate is None else self.gate.wait(self.progress)
        if report is not None:
            self.phases_s["gate"] = report.pause_s + report.waited_s
        return report

    def _serve(self) -> None:
        """Run the worker, sampled from its start to its end."""
        sampler = self.sampler
        if sampler is not None:
            self._ready_sampler(sampler)
        before = contention.usage()

        def sample(pid: int) -> None:
            if sampler is not None:
                sampler.begin(pid, self.exchange / _SAMPLES_FILE)

        with self.timed("worker"):
            try:
                failure = self.templates.serve(
                    self.trial, self.folder, self.exchange, self.progress, on_start=sample
                )
            finally:
                if sampler is not None:
                    sampler.end()
        self.usage = (before, contention.usage())
        if failure is not None:
            raise _NoCapture(failure.why, permanent=failure.permanent)
        if not (self.exchange / CAPTURE_FILE).exists():
            raise _NoCapture("the worker ended without a result (exit code 0)")

    def _ready_sampler(self, sampler: Sampler) -> None:
        """Start the sampler again if it has died, and give the worker its address."""
        if not sampler.alive:
            sampler.start()
        target = self.trial.cell.settings.measurement.target_error
        metering = Metering(shortest_s=sampler.shortest_s(target), marks=sampler.marks)
        write_json(self.exchange / METERING_FILE, metering)

    def _read_capture(self) -> Capture:
        """What worker and sampler wrote.

        Raises:
            ValueError: the worker's files are not a capture.
            MeterError: the sampler's file is damaged.
        """
        capture = read_json(self.exchange / CAPTURE_FILE, Capture)
        samples = self.exchange / _SAMPLES_FILE
        if samples.exists():
            series, report = read_samples(samples)
            capture = dataclasses.replace(capture, series=series, sampler=report)
        own = [os.getpid(), *adopted(capture.effective)]
        before, after = self.usage
        busiest = contention.busiest(before, after, own)
        return dataclasses.replace(capture, generations=self._generations(), busiest=busiest)

    def _generations(self) -> Sequence[Generation]:
        """What was served, from its place in the record."""
        served, file = read_json(self.exchange / REQUESTS_FILE, Served), self.exchange / SERVED_FILE
        try:
            return artifacts.keep_generations(self.folder, generations(served, file))
        except OSError:  # the disk is full: the record will be written elsewhere
            return tuple(generations(served, file))


def _prepares_here(trial: Trial) -> bool:
    try:
        return find(trial.cell.settings.engine.name).prepares_in_sweep(trial.cell.settings)
    except ConfigError:  # an engine that only the other interpreter has
        return False


def _needs_weights(trial: Trial) -> bool:
    return source.needs_building(trial.cell.settings.model, Path(trial.model_path))


def _needs_preparation(trial: Trial) -> bool:
    settings = trial.cell.settings
    try:
        return find(settings.engine.name).needs_preparation(load_request_of(trial))
    except ConfigError:  # an engine that only the other interpreter has: it looks for itself
        return True


PREPARATIONS = {
    "build": _needs_weights,
    "prepare": _needs_preparation,
    "reference": reference.needed,
}
"""Modes of the worker that fill the cache, in order, and whether a trial needs them; each becomes a
phase of the record."""
