"""One trial seen from the parent: spawn a fresh worker, wait asleep, derive, check.

    trial.json -> [prepare process] -> worker process -> capture.json -+-> metrics, checks -> Record
    metering.json -------------------/ sampler -> samples.jsonl -------+

The four files are the exchange between processes; the record holds all that they say.

Whatever the worker does (raise, hang, vanish, exit without a word), a `Record` comes back.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slm_energy import checks, interpreters, metrics, models, reference
from slm_energy.cell import Trial
from slm_energy.engines.base import find, job_of
from slm_energy.errors import ConfigError, MeterError
from slm_energy.fields import INTERRUPTED
from slm_energy.meters.sampler import Sampler, read_samples
from slm_energy.plain import read_json, write_json
from slm_energy.record import (
    CAPTURE_FILE,
    METERING_FILE,
    TRIAL_FILE,
    Capture,
    Metering,
    Outcome,
    Record,
)

EXCHANGE = "exchange"
_LOG_FILE = "worker.log"
_SAMPLES_FILE = "samples.jsonl"
_TICK_S = 1.0

Progress = Callable[[str, float], None]


class Interrupted(Exception):
    """A person stopped the sweep during this trial; carries the record that says so."""

    def __init__(self, record: Record) -> None:
        super().__init__(INTERRUPTED)
        self.record = record


def run(trial: Trial, folder: Path, sampler: Sampler | None, progress: Progress) -> Record:
    """Run one trial to its outcome.

    Args:
        trial: what to run.
        folder: an empty folder of its own; gets the worker's log, and a subfolder `EXCHANGE` that
            is of no use once the record is written.
        sampler: the started sampling process; None when `measurement.mode` is off.
        progress: called about once a second with the phase and the share of it that is done.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the worker is gone by then.
        OSError: the folder cannot be written.
    """
    started_ns, phases = time.time_ns(), dict[str, float]()
    (folder / EXCHANGE).mkdir()
    write_json(folder / EXCHANGE / TRIAL_FILE, trial)
    try:
        error = _prepare(trial, folder, phases, progress)
        error = error or _serve(trial, folder, sampler, phases, progress)
        if error is not None:
            return failed(trial, error, started_ns, phases)
        capture = dataclasses.replace(_read_capture(folder), reference=reference.read(trial))
    except KeyboardInterrupt:
        raise Interrupted(failed(trial, INTERRUPTED, started_ns, phases)) from None
    except (MeterError, ValueError) as unusable:
        return failed(trial, str(unusable), started_ns, phases)
    begun = time.monotonic()
    record = derive(trial, capture, started_ns)
    phases["derive"] = time.monotonic() - begun
    return dataclasses.replace(record, phases_s=phases, ended_unix_ns=time.time_ns())


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
    trial: Trial, folder: Path, phases: dict[str, float], progress: Progress
) -> str | None:
    """Fill the cache with what the trial needs of it, each step in a process of its own."""
    for mode, needed in _PREPARATIONS.items():
        if not needed(trial):
            continue
        # Weights and reference are the same for every interpreter, so this one makes them.
        python = trial.cell.settings.engine.python if mode == "prepare" else None
        begun = time.monotonic()
        progress(mode, 0.0)
        error = _run_child(mode, python, folder, trial.timeout_s, progress, lambda pid: None)
        phases[mode] = time.monotonic() - begun
        if error is not None:
            return error
    return None


def _needs_weights(trial: Trial) -> bool:
    return models.needs_building(trial.cell.settings.model, Path(trial.model_path))


def _needs_preparation(trial: Trial) -> bool:
    settings = trial.cell.settings
    try:
        return find(settings.engine.name).needs_preparation(job_of(trial))
    except ConfigError:  # an engine that only the other interpreter has: it looks for itself
        return True


def _needs_reference(trial: Trial) -> bool:
    return reference.place(trial) is not None and reference.read(trial) is None


_PREPARATIONS = {
    "build": _needs_weights,
    "prepare": _needs_preparation,
    "reference": _needs_reference,
}


def _serve(
    trial: Trial,
    folder: Path,
    sampler: Sampler | None,
    phases: dict[str, float],
    progress: Progress,
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
        error = _run_child(
            "serve",
            trial.cell.settings.engine.python,
            folder,
            trial.timeout_s,
            progress,
            sample,
        )
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


def _run_child(
    mode: str,
    python: str | None,
    folder: Path,
    timeout_s: float,
    progress: Progress,
    on_start: Callable[[int], None],
) -> str | None:
    """Run the worker module; sleep until it says something or ends.

    Returns:
        None, or one line that says how it failed.
    """
    exchange = folder / EXCHANGE
    command, variables = interpreters.command(python, [mode, str(exchange)], exchange)
    with (folder / _LOG_FILE).open("ab") as log:
        child = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    patience_s = 0.0
    try:
        on_start(child.pid)
        message, in_time = _listen(child, time.monotonic() + timeout_s, progress)
        patience_s = 5.0 if in_time else 0.0
    finally:
        _end(child, patience_s)
    if not in_time:
        return f"took longer than study.timeout_s={timeout_s:g} and was ended"
    return message or _exit_error(child.returncode)


def _listen(
    child: subprocess.Popen[bytes], deadline: float, progress: Progress
) -> tuple[str | None, bool]:
    """Read progress until the child closes its pipe.

    Returns:
        The error it told, if any; and whether it ended in time.
    """
    assert child.stdout is not None
    pipe, pending, error = child.stdout.fileno(), b"", None
    phase, share = "start", 0.0
    while time.monotonic() < deadline:
        ready, _, _ = select.select([pipe], [], [], _TICK_S)
        if ready:
            data = os.read(pipe, 65536)
            if not data:
                return error, True
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message: dict[str, Any] = json.loads(line)
                error = message.get("error", error)
                phase, share = message.get("phase", phase), message.get("share", share)
        progress(phase, share)
    return error, False


def _end(child: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait for the child to go; end it and its process group if it does not."""
    assert child.stdout is not None
    child.stdout.close()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _exit_error(code: int) -> str | None:
    if code == 0:
        return None
    if code > 0:
        return f"the worker ended with exit code {code} and no message"
    name = signal.Signals(-code).name
    hint = ": the system may have run out of memory" if name == "SIGKILL" else ""
    return f"the worker was killed by {name}{hint}"
