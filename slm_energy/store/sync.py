"""Send pending records from disk to the store, each under the invocation that it belongs to.

    deliver         records that an earlier sweep of the study left on this machine
    deliver_below   all records below a folder, of all studies and machines

A folder is removed only after its record is stored, so both may be interrupted and repeated.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from slm_energy.errors import SlmEnergyError, TrackingError
from slm_energy.names import is_name
from slm_energy.record import Record
from slm_energy.store import artifacts, offline, outbox
from slm_energy.store.outbox import Spool
from slm_energy.store.tracking import Store

_STORED = "artifacts"
"""Folders of this name hold records that MLflow has already."""


def deliver(spool: Spool, store: Store, study: str) -> None:
    """Send the complete records of a study.

    Raises:
        TrackingError: a record cannot be read, or the store does not accept it.
    """
    for folder, record in spool.waiting():
        if record.trial.study == study:
            _send(folder, record, store)


def _send(folder: Path, record: Record, store: Store) -> None:
    """Send one record; its parent folder has the name of its machine."""
    machine = folder.parent
    parent = store.adopt_sweep(offline.sweep_of(machine, record))
    store.store(record, folder, parent, machine.name)
    offline.remember(machine, record)
    artifacts.remove(folder)


@dataclasses.dataclass(frozen=True, slots=True)
class Delivered:
    """The result of `deliver_below`.

    Attributes:
        sent: study to number of records.
        refused: study to the reason why the store did not accept the rest of its records.
        left: skipped folders, and why.
    """

    sent: Counter[str]
    refused: dict[str, str]
    left: dict[Path, str]


def deliver_below(folder: Path, store: Store, progress: Callable[[int, int], None]) -> Delivered:
    """Send every complete record below a folder, of any study and machine.

    The caller holds this machine's lock, so that no sweep runs on it.

    Args:
        folder: where to look.
        store: receives the records.
        progress: called with the numbers of records sent and in total.

    Raises:
        OSError: a folder cannot be read.
    """
    delivered = Delivered(Counter(), {}, {})
    folders = _below(folder)
    for machine in sorted({record.parent for record in folders}):
        try:
            with Spool(machine).held(_busy):
                if not is_name(machine.name):
                    delivered.left[machine] = "its name is not one of a machine"
                    continue
                for record in sorted(path for path in folders if path.parent == machine):
                    _deliver_one(record, store, delivered)
                    progress(sum(delivered.sent.values()), len(folders))
        except _InUse:
            delivered.left[machine] = "a sweep is running there and sends its own records"
        except SlmEnergyError as error:  # it cannot be locked
            delivered.left[machine] = str(error)
    return delivered


class _InUse(Exception):
    """A sweep holds a folder of records."""


def _busy(path: Path) -> None:
    raise _InUse


def _below(folder: Path) -> list[Path]:
    """Folders of complete records.

    Raises:
        OSError: a folder cannot be read, and may have some.
    """

    def fail(error: OSError) -> None:
        raise error

    complete = []
    for base, names, _ in os.walk(folder, onerror=fail):
        if artifacts.is_complete(Path(base)):
            complete.append(Path(base))
            names.clear()
        names[:] = [name for name in names if name != _STORED]
    return complete


def _deliver_one(folder: Path, store: Store, delivered: Delivered) -> None:
    try:
        record = outbox.read(folder)
    except TrackingError as error:
        if artifacts.is_complete(folder):  # otherwise another process has just sent it
            delivered.left[folder] = str(error).removeprefix(f"{folder} ")
        return
    study = record.trial.study
    if folder.name != record.trial.id:
        delivered.left[folder] = "is not where a sweep leaves a record"
    elif study not in delivered.refused:
        try:
            _send(folder, record, store)
            delivered.sent[study] += 1
        except TrackingError as error:
            delivered.refused[study] = str(error)
