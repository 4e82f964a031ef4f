"""Records that wait on disk go to the store, each under the invocation that it belongs to.

    deliver         what an earlier sweep of a study left on this machine, when the next one begins
    deliver_below   everything below a folder: of all studies, of all machines

A folder is removed when the store has what is in it, so both may be interrupted and repeated.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from slm_energy.errors import TrackingError, one_line
from slm_energy.machine import machine_id
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


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the records below a folder.

    Attributes:
        sent: study to how many.
        refused: study to why the store did not accept the rest of its records.
        left: folders that were left alone, and why.
    """

    sent: Counter[str]
    refused: dict[str, str]
    left: dict[Path, str]


def deliver_below(folder: Path, store: Store, progress: Callable[[int, int], None]) -> Delivered:
    """Send every complete record below a folder, of whatever study and machine.

    The caller holds this machine's lock, so that no sweep runs on it.

    Args:
        folder: where to look.
        store: gets the records.
        progress: called with how many records were sent, and how many there are.
    """
    done = Delivered(Counter(), {}, {})
    folders = _below(folder)
    for machine in sorted({each.parent for each in folders}):
        try:
            with Spool(machine).held(_busy):
                for each in sorted(each for each in folders if each.parent == machine):
                    _deliver_one(each, store, done)
                    progress(sum(done.sent.values()), len(folders))
        except _InUse:
            done.left[machine] = "a sweep is running there and sends its own records"
    _close_left(store, done)
    return done


def _close_left(store: Store, done: Delivered) -> None:
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


def _deliver_one(folder: Path, store: Store, done: Delivered) -> None:
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
