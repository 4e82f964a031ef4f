"""A node without a network: what a sweep asks of a store, answered from files.

    FOLDER/pending/MACHINE/TRIAL/record.json ...  records, where all wait until they are sent
    FOLDER/pending/MACHINE/SWEEP.sweep.json       the invocation that they belong to
    FOLDER/pending/MACHINE/STUDY.sent.jsonl       what `slm-energy sync` took from here

Nothing here knows MLflow. What a person deletes in its UI, such a node does not hear of.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError, one_line
from slm_energy.planning.plan import Past
from slm_energy.record import Record
from slm_energy.serialization import read_json, write_json
from slm_energy.store import mlflow_schema
from slm_energy.store.history_cache import HistoryEntry, Ledger
from slm_energy.store.mlflow_schema import PLAN_FILE
from slm_energy.store.outbox import Spool, cannot_write

_SWEEP = ".sweep.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """An invocation that had no store, and what its parent run is to have.

    Attributes:
        id: its id, as its trials name it.
        study: name of the study.
        machine: where it ran.
        started_ms: when it began, milliseconds since 1970.
        note: what the run's page says at the top.
        plan: digest of what its plan rests on.
        ended_ms: when it ended; None if it was killed, or goes on.
        status: how it ended, in MLflow's words.
        files: name to text of its artifacts.
    """

    id: str
    study: str
    machine: str
    started_ms: int
    note: str = ""
    plan: str | None = None
    ended_ms: int | None = None
    status: str = "KILLED"
    files: dict[str, str] = dataclasses.field(default_factory=dict)


class Offline:
    """Stands in for `tracking.Store`."""

    def __init__(self, tracking: TrackingConfig) -> None:
        """Nothing is made before a sweep has something to keep."""
        self._pending = Path(tracking.folder).absolute() / "pending"

    def history(self, study: str, machine: str) -> list[Past]:
        """Earlier trials of a study on a machine, oldest first.

        Raises:
            TrackingError: a record cannot be read.
        """
        folder = self._pending / machine
        found = _sent(folder, study).read()
        for record in Spool(folder).outlines():
            if record.trial.study == study:
                found[record.trial.id] = _entry(record)
        return [each.past for each in sorted(found.values(), key=lambda each: each.started_ms)]

    def open_sweep(
        self, study: str, sweep: str, machine: str, note: str, plan: str | None = None
    ) -> str:
        """Write down that an invocation begins; return the path of its file.

        Raises:
            SlmEnergyError: it cannot be written.
        """
        path = self._pending / machine / f"{sweep}{_SWEEP}"
        begun = Sweep(
            id=sweep, study=study, machine=machine, started_ms=now_ms(), note=note, plan=plan
        )
        _write(path, begun)
        return str(path)

    def close_sweep(self, run_id: str, status: str) -> None:
        """Write down how it ended: `FINISHED`, `FAILED` or `KILLED`."""
        path = Path(run_id)
        _write(path, dataclasses.replace(_read(path), ended_ms=now_ms(), status=status))

    def attach(self, run_id: str, files: Mapping[str, bytes]) -> str:
        """Keep texts of an invocation, name to content; return where."""
        path = Path(run_id)
        begun = _read(path)
        texts = begun.files | {name: content.decode() for name, content in files.items()}
        _write(path, dataclasses.replace(begun, files=texts))
        return run_id

    def first_plan(self, study: str, machine: str) -> str | None:
        """`plan.json` of the first invocation of a study on a machine; None before there is one."""
        sweeps = [_read(path) for path in (self._pending / machine).glob(f"*{_SWEEP}")]
        planned = [each for each in sweeps if each.study == study and PLAN_FILE in each.files]
        first = min(planned, key=lambda each: each.started_ms, default=None)
        return None if first is None else first.files[PLAN_FILE]

    def store(self, record: Record, folder: Path, parent: str, machine: str) -> str:
        """Leave the record where it is; return where that is."""
        return str(folder)


def sweep_of(folder: Path, record: Record) -> Sweep:
    """The invocation of a record in a machine's folder, as far as it is known there."""
    trial = record.trial
    path = folder / f"{trial.sweep}{_SWEEP}"
    if path.is_file():
        return _read(path)
    started_ms, ended_ms = record.started_unix_ns // 1_000_000, record.ended_unix_ns // 1_000_000
    return Sweep(
        id=trial.sweep,
        study=trial.study,
        machine=folder.name,
        started_ms=started_ms,
        ended_ms=ended_ms,
        status="FINISHED",
    )


def _sent(folder: Path, study: str) -> Ledger:
    return Ledger(folder / f"{study}.sent.jsonl")


def remember(folder: Path, record: Record) -> None:
    """Note that a record of an invocation without a store is in one now."""
    if (folder / f"{record.trial.sweep}{_SWEEP}").is_file():
        _sent(folder, record.trial.study).add(_entry(record))


def _entry(record: Record) -> HistoryEntry:
    started_ms = record.started_unix_ns // 1_000_000
    return HistoryEntry(
        key=record.trial.id, started_ms=started_ms, past=mlflow_schema.past_of(record)
    )


def _read(path: Path) -> Sweep:
    try:
        return read_json(path, Sweep)
    except (ValueError, OSError) as error:
        raise TrackingError(f"{path} cannot be read ({one_line(error)}): move it away") from error


def _write(path: Path, sweep: Sweep) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, sweep)
    except OSError as error:
        raise cannot_write(path, error) from error


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
