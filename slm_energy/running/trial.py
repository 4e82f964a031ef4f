"""One trial seen from the parent: spawn a fresh worker, wait asleep, derive, check.

    trial.json -> [build, prepare, reference] -> serve -> capture.json -+-> metrics, checks: Record
    metering.json -> sampler -> samples.jsonl --------------------------+

Words between files are processes; those in brackets run where the cache lacks something. The files,
and tasks.json, are the exchange between processes; the record holds all that they say.

Whatever the worker does (raise, hang, vanish, exit without a word), a `Record` comes back.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from slm_energy import workload
from slm_energy.cell import Trial
from slm_energy.derive import checks, metrics
from slm_energy.engines.base import find, load_request_of
from slm_energy.errors import ConfigError, MeterError, WorkloadError
from slm_energy.models import source
from slm_energy.record import (
    CAPTURE_FILE,
    EXCHANGE,
    METERING_FILE,
    TASKS_FILE,
    TRIAL_FILE,
    Capture,
    GateReport,
    Metering,
    Outcome,
    Record,
)
from slm_energy.running.gate import Gate
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.serialization import read_json, write_json
from slm_energy.store.mlflow_schema import INTERRUPTED
from slm_energy.worker import child, reference
from slm_energy.worker.child import ReportPhase
from slm_energy.worker.forkserver import Templates

_SAMPLES_FILE = "samples.jsonl"


def run(
    trial: Trial,
    folder: Path,
    sampler: Sampler | None,
    progress: ReportPhase,
    gate: Gate | None = None,
    templates: Templates | None = None,
) -> Record:
    """Run one trial to its outcome.

    Args:
        trial: what to run.
        folder: an empty folder of its own; gets the worker's log, and a subfolder `EXCHANGE`.
        sampler: the started sampling process; None when `measurement.mode` is off.
        progress: called about once a second with the phase and the share of it that is done.
        gate: passed when all is prepared, right before the worker starts; None waits for nothing.
        templates: what workers are forked from where the trial asks for it; None is one of its own.

    Returns:
        The record. After an interrupt the worker is gone, and the record's reason is `INTERRUPTED`.

    Raises:
        OSError: the folder cannot be written.
    """
    if templates is None:
        with Templates() as own:
            return run(trial, folder, sampler, progress, gate, own)
    started_ns, phases = time.time_ns(), dict[str, float]()
    try:
        record = _run(trial, folder, sampler, progress, gate, templates, started_ns, phases)
    except KeyboardInterrupt:
        record = failed(trial, INTERRUPTED, started_ns, phases)
    return dataclasses.replace(record, phases_s=phases, ended_unix_ns=time.time_ns())


def _run(
    trial: Trial,
    folder: Path,
    sampler: Sampler | None,
    progress: ReportPhase,
    gate: Gate | None,
    templates: Templates,
    started_ns: int,
    phases: dict[str, float],
) -> Record:
    exchange = folder / EXCHANGE
    exchange.mkdir()
    write_json(exchange / TRIAL_FILE, trial)
    try:
        # Read here, because another interpreter may lack what reads data sets.
        write_json(exchange / TASKS_FILE, workload.load(trial.cell.settings.workload))
        error = _prepare(trial, folder, phases, progress)
        waited = _pass(gate, phases, progress) if error is None else None
        error = error or _serve(trial, folder, sampler, templates, phases, progress)
        if error is not None:
            return failed(trial, error, started_ns, phases)
        capture = _read_capture(folder)
        capture = dataclasses.replace(capture, reference=reference.read(trial), gate=waited)
    except (MeterError, WorkloadError, ValueError) as unusable:
        return failed(trial, str(unusable), started_ns, phases)
    begun = time.monotonic()
    record = derive(trial, capture, started_ns)
    phases["derive"] = time.monotonic() - begun
    return record


def derive(trial: Trial, capture: Capture, started_unix_ns: int) -> Record:
    """Metrics, checks and outcome of a capture: pure but for the end's time stamp."""
    energy = metrics.energy_figures(capture, trial.cell.settings.measurement)
    values = metrics.derive(capture, energy)
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


def failed(trial: Trial, error: str, started_unix_ns: int, phases_s: dict[str, float]) -> Record:
    """The record of a trial that gave no capture."""
    return _without_capture(
        trial, Outcome(name="failed", reasons=(error,)), started_unix_ns, phases_s
    )


def unsupported(trial: Trial, reason: str) -> Record:
    """The record of a cell that this machine or engine cannot run."""
    return _without_capture(
        trial, Outcome(name="unsupported", reasons=(reason,)), time.time_ns(), {}
    )


def _without_capture(
    trial: Trial, outcome: Outcome, started_unix_ns: int, phases_s: dict[str, float]
) -> Record:
    return Record(
        trial=trial,
        outcome=outcome,
        capture=None,
        energy=(),
        metrics={},
        checks=(),
        started_unix_ns=started_unix_ns,
        ended_unix_ns=time.time_ns(),
        phases_s=phases_s,
    )


def _prepare(
    trial: Trial, folder: Path, phases: dict[str, float], progress: ReportPhase
) -> str | None:
    """Fill the cache with what the trial needs of it, each step in a process of its own."""
    for mode, needed in PREPARATIONS.items():
        if not needed(trial):
            continue
        # Weights and reference are the same for every interpreter, so this one makes them.
        python = trial.python if mode == "prepare" and not _prepares_here(trial) else None
        begun = time.monotonic()
        progress(mode, 0.0)
        error = child.run(mode, python, folder, folder / EXCHANGE, trial.timeout_s, progress)
        phases[mode] = time.monotonic() - begun
        if error is not None and mode == "reference":
            reference.give_up(trial, error)
        elif error is not None:
            return f"{mode} (before the trial) failed: {error}"
    return None


def _prepares_here(trial: Trial) -> bool:
    try:
        return find(trial.cell.settings.engine.name).prepares_in_sweep
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


def _pass(gate: Gate | None, phases: dict[str, float], progress: ReportPhase) -> GateReport | None:
    report = None if gate is None else gate.wait(progress)
    if report is not None:
        phases["gate"] = report.pause_s + report.waited_s
    return report


def _serve(
    trial: Trial,
    folder: Path,
    sampler: Sampler | None,
    templates: Templates,
    phases: dict[str, float],
    progress: ReportPhase,
) -> str | None:
    def sample(pid: int) -> None:
        if sampler is not None:
            sampler.begin(pid, folder / EXCHANGE / _SAMPLES_FILE)

    if sampler is not None:
        if not sampler.alive:
            sampler.start()
        target = trial.cell.settings.measurement.target_error
        metering = Metering(shortest_s=sampler.shortest_s(target), marks=sampler.marks)
        write_json(folder / EXCHANGE / METERING_FILE, metering)
    begun = time.monotonic()
    try:
        error = templates.serve(trial, folder, folder / EXCHANGE, progress, on_start=sample)
    finally:
        if sampler is not None:
            sampler.end()
        phases["worker"] = time.monotonic() - begun
    if error is None and not (folder / EXCHANGE / CAPTURE_FILE).exists():
        return "the worker ended without a result (exit code 0)"
    return error


def _read_capture(folder: Path) -> Capture:
    """What worker and sampler left.

    Raises:
        ValueError: the worker's file is no capture.
        MeterError: the sampler's file is damaged.
    """
    capture = read_json(folder / EXCHANGE / CAPTURE_FILE, Capture)
    samples = folder / EXCHANGE / _SAMPLES_FILE
    if not samples.exists():
        return capture
    series, report = read_samples(samples)
    return dataclasses.replace(capture, series=series, sampler=report)
