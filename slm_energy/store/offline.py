"""The store of a node without a network: sweeps and trials in files.

    FOLDER/pending/MACHINE/TRIAL/record.json ...  records, until they are sent
    FOLDER/pending/MACHINE/SWEEP.sweep.json       the invocation that they belong to
    FOLDER/pending/MACHINE/STUDY.sent.jsonl       records that `slm-energy sync` has sent

This module does not use MLflow: trials that a user deletes in its UI still count on such a node.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

from slm_energy import shared
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError, one_line
from slm_energy.names import check_names
from slm_energy.planning.plan import Past
from slm_energy.record import Record
from slm_energy.serialization import read_json, write_json
from slm_energy.store import mlflow_schema
from slm_energy.store.history_cache import HistoryEntry, Ledger
from slm_energy.store.mlflow_schema import PLAN_FILE
from slm_energy.store.outbox import Spool

SWEEP_SUFFIX = ".sweep.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """An invocation without a store, and the content of its future parent run.

    Attributes:
        id: its id, as stored in its trials.
        study: name of the study.
        machine: where it ran.
        started_ms: when it began, milliseconds since 1970.
        note: description at the top of the run's page.
        plan: digest of what its plan depends on.
        measured: the scope of its sums in words; empty if it is not known.
        ended_ms: when it ended; None if it was killed or is still running.
        status: how it ended, as an MLflow run status.
        files: name to text of its artifacts.
    """

    id: str
    study: str
    machine: str
    started_ms: int
    note: str = ""
    plan: str | None = None
    measured: str = ""
    ended_ms: int | None = None
    status: str = "KILLED"
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that would leave their folder: a copied file may hold anything."""
        check_names(sweep=self.id, study=self.study, machine=self.machine)
        for name in self.files:
            check_names(file=name)


class Offline:
    """Replacement for `tracking.Store`."""

    def __init__(self, tracking: TrackingConfig) -> None:
        """Create no folder until a sweep has something to write."""
        self._pending = Path(tracking.folder).absolute() / "pending"

    def history(self, study: str, machine: str) -> list[Past]:
        """Earlier trials of a study on a machine, oldest first.

        Raises:
            TrackingError: a record cannot be read.
        """
        folder = self._pending / machine
        entries = _sent(folder, study).read()
        for record in Spool(folder).outlines():
            if record.trial.study == study:
                entries[record.trial.id] = _entry(record)
        return [
            entry.past for entry in sorted(entries.values(), key=lambda entry: entry.started_ms)
        ]

    def open_sweep(
        self,
        study: str,
        sweep: str,
        machine: str,
        note: str,
        plan: str | None = None,
        measured: str = "",
    ) -> str:
        """Record the start of an invocation; return the path of its file.

        Raises:
            OSError: it cannot be written.
        """
        path = self._pending / machine / f"{sweep}{SWEEP_SUFFIX}"
        started = Sweep(
            id=sweep,
            study=study,
            machine=machine,
            started_ms=now_ms(),
            note=note,
            plan=plan,
            measured=measured,
        )
        _write(path, started)
        return str(path)

    def close_sweep(self, run_id: str, status: str) -> None:
        """Record how it ended: `FINISHED`, `FAILED` or `KILLED`."""
        path = Path(run_id)
        _write(path, dataclasses.replace(read_sweep(path), ended_ms=now_ms(), status=status))

    def attach(self, run_id: str, files: Mapping[str, bytes]) -> str:
        """Store text artifacts of an invocation, name to content; return their location."""
        path = Path(run_id)
        sweep = read_sweep(path)
        texts = sweep.files | {name: content.decode() for name, content in files.items()}
        _write(path, dataclasses.replace(sweep, files=texts))
        return run_id

    def first_plan(self, study: str, machine: str, *, measured: bool = False) -> str | None:
        """`plan.json` of the first invocation of a study on a machine; None before there is one.

        With `measured`: of the first invocation that knew the scope of its sums.
        """
        sweeps = [read_sweep(path) for path in (self._pending / machine).glob(f"*{SWEEP_SUFFIX}")]
        planned = [sweep for sweep in sweeps if sweep.study == study and PLAN_FILE in sweep.files]
        planned = [sweep for sweep in planned if sweep.measured or not measured]
        first = min(planned, key=lambda sweep: sweep.started_ms, default=None)
        return None if first is None else first.files[PLAN_FILE]

    def store(self, record: Record, folder: Path, parent: str, machine: str) -> str:
        """Leave the record in its folder; return the folder."""
        return str(folder)


def sweep_of(folder: Path, record: Record) -> Sweep:
    """The invocation of a record in a machine's folder, as far as it is known."""
    trial = record.trial
    path = folder / f"{trial.sweep}{SWEEP_SUFFIX}"
    if path.is_file():
        return read_sweep(path)
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
    """Note that a record of an invocation without a store has been sent to one."""
    sent = _sent(folder, record.trial.study)
    if sent.path.is_symlink():
        raise TrackingError(f"{sent.path} is a link, which is not followed: remove it")
    if (folder / f"{record.trial.sweep}{SWEEP_SUFFIX}").is_file():
        sent.add(_entry(record))


def _entry(record: Record) -> HistoryEntry:
    started_ms = record.started_unix_ns // 1_000_000
    return HistoryEntry(
        key=record.trial.id, started_ms=started_ms, past=mlflow_schema.past_of(record)
    )


def read_sweep(path: Path) -> Sweep:
    """Read the file of an invocation.

    Raises:
        TrackingError: it cannot be read, or is a link.
    """
    if path.is_symlink():
        raise TrackingError(f"{path} is a link, which is not followed: remove it")
    try:
        return read_json(path, Sweep)
    except (ValueError, OSError) as error:
        raise TrackingError(f"{path} cannot be read ({one_line(error)}): move it away") from error


def _write(path: Path, sweep: Sweep) -> None:
    shared.add_folder(path.parent, within=path.parents[2])
    write_json(path, sweep)
    shared.share(path)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
