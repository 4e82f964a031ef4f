"""Records that wait on disk go to the store, each under the invocation that it belongs to.

    deliver     what an earlier sweep of a study left on this machine, when the next one begins
    sync_verb   everything below a folder: of all studies, of all machines

A folder goes when the store has what is in it, so both may be interrupted and repeated.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError, TrackingError, one_line
from slm_energy.machine import machine_id, measuring
from slm_energy.record import Record
from slm_energy.store import artifacts, offline
from slm_energy.store.outbox import Spool
from slm_energy.store.tracking import Store

_STORED = "artifacts"
"""Folders of this name hold what MLflow has already."""


def deliver(spool: Spool, store: Store, study: str) -> None:
    """Send the complete records of a study.

    Raises:
        TrackingError: a record cannot be read, or the store does not take it.
    """
    for folder, record in spool.waiting():
        if record.trial.study == study:
            _send(folder, record, store)


def _send(folder: Path, record: Record, store: Store) -> None:
    """Send one record; the folder above it is called as its machine is."""
    machine = folder.parent
    parent = store.adopt_sweep(offline.sweep_of(machine, record))
    store.store(record, folder, parent, machine.name)
    offline.remember(machine, record)
    artifacts.remove(folder)


def sync_verb(arguments: Sequence[str], console: Console) -> int:
    """`sync [FOLDER] [tracking=NAME] [tracking.KEY=VALUE ...]`; 0 if nothing waits any more.

    Raises:
        ConfigError: there is no such folder, or `tracking` is not valid.
        TrackingError: the store cannot be opened.
    """
    changes = [word for word in arguments if "=" in word]
    words = [word for word in arguments if "=" not in word]
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise ConfigError("slm-energy sync [FOLDER] [tracking=server tracking.uri=URI]")
    tracking = tracking_group(compose("sync", changes))
    folder = Path(words[0] if words else tracking.folder).absolute()
    if not folder.is_dir():
        raise ConfigError(f"sync {folder}: there is no such folder")
    store = Store(tracking)

    def waiting(path: Path) -> None:
        console.print(f"a sweep is measuring on this machine ({path}); waiting for it to end")

    with measuring(waiting), console.status("looking ...") as status:
        done = _sync(folder, store, status)
    _show(done, folder, console)
    return 1 if done.refused or done.left else 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Done:
    """What became of the records.

    Attributes:
        sent: study to how many.
        refused: study to why the store did not take the rest of its records.
        left: folders that were left alone, and why.
    """

    sent: Counter[str]
    refused: dict[str, str]
    left: dict[Path, str]


def _sync(folder: Path, store: Store, status: Status) -> _Done:
    done = _Done(Counter(), {}, {})
    found = _below(folder)
    for machine in sorted({each.parent for each in found}):
        try:
            with Spool(machine).held(_busy):
                for each in sorted(each for each in found if each.parent == machine):
                    _sync_one(each, store, done)
                    status.update(f"{sum(done.sent.values())} of {len(found)} records sent ...")
        except _InUse:
            done.left[machine] = "a sweep goes on there, and sends what it has"
    _close_left(store, done)
    return done


def _close_left(store: Store, done: _Done) -> None:
    """End the sweeps' own runs that the store was not there to see end; none goes on here now."""
    for study in done.sent:
        try:
            store.close_left(study, machine_id())
        except TrackingError as error:
            done.refused.setdefault(study, str(error))


class _InUse(Exception):
    """A sweep holds a folder of records."""


def _busy(path: Path) -> None:
    raise _InUse


def _below(folder: Path) -> list[Path]:
    """Folders of complete records."""
    found = []
    for base, names, _ in os.walk(folder):
        if artifacts.is_complete(Path(base)):
            found.append(Path(base))
            names.clear()
        names[:] = [name for name in names if name != _STORED]
    return found


def _sync_one(folder: Path, store: Store, done: _Done) -> None:
    try:
        record = artifacts.read(folder)
    except (ValueError, OSError) as error:
        if artifacts.is_complete(folder):  # or else somebody else has just sent it
            done.left[folder] = f"cannot be read ({one_line(error)})"
        return
    study = record.trial.study
    if folder.name != record.trial.id:
        done.left[folder] = "is not where a sweep leaves a record"
    elif study not in done.refused:
        try:
            _send(folder, record, store)
            done.sent[study] += 1
        except TrackingError as error:
            done.refused[study] = str(error)


def _show(done: _Done, folder: Path, console: Console) -> None:
    for study in sorted({*done.sent, *done.refused}):
        why = f"; the rest waits: {done.refused[study]}" if study in done.refused else ""
        line = f"study {study}: {done.sent[study]} records sent{why}"
        console.print(escape(line), highlight=False, soft_wrap=True)
    for path, why in done.left.items():
        line = f"[yellow]left alone[/] {escape(str(path))}: {escape(why)}"
        console.print(line, highlight=False, soft_wrap=True)
    if not (done.sent or done.refused or done.left):
        console.print(f"nothing waits below {folder}", highlight=False, soft_wrap=True)
