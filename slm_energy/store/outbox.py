"""Pending records on disk: one folder per trial until the store has it.

    FOLDER/TRIAL/exchange/...     the trial is running, or its parent was killed
    FOLDER/TRIAL/record.json ...  the record is complete (`artifacts.write`) and pending

Only complete records are sent, and none is removed before it was sent.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slm_energy.errors import SlmEnergyError, TrackingError, one_line
from slm_energy.machine import locked
from slm_energy.names import not_plain
from slm_energy.record import EXCHANGE, Record
from slm_energy.store import artifacts


class Spool:
    """The pending records of one machine."""

    def __init__(self, folder: Path) -> None:
        """Create no folder until the first trial.

        Args:
            folder: absolute; `tracking.folder`/pending/MACHINE.
        """
        self.folder = folder

    @contextmanager
    def held(self, busy: Callable[[Path], None]) -> Iterator[None]:
        """Lock these records against other sweeps, whose running trials look unfinished.

        Args:
            busy: see `machine.locked`.

        Raises:
            SlmEnergyError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        with locked(self.folder / "lock", busy):
            yield

    def new(self, trial: str) -> Path:
        """Create the folder of a new trial.

        Raises:
            SlmEnergyError: it cannot be written.
        """
        folder = self.folder / trial
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        return folder

    def keep(self, record: Record, folder: Path, prompts: Mapping[str, str]) -> None:
        """Write a record into its trial's folder and so complete it.

        A record that a job wrote on its node is complete already.

        Raises:
            SlmEnergyError: it cannot be written.
        """
        if artifacts.is_complete(folder):
            return
        try:
            artifacts.write(folder, record, prompts)
            shutil.rmtree(folder / EXCHANGE, ignore_errors=True)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def waiting(self) -> Iterator[tuple[Path, Record]]:
        """Complete records and their folders.

        Raises:
            TrackingError: one cannot be read.
        """
        return self._records(artifacts.read)

    def outlines(self) -> Iterator[Record]:
        """Complete records without captures, figures and checks (`artifacts.outline`).

        Raises:
            TrackingError: one cannot be read.
        """
        return (record for _, record in self._records(artifacts.outline))

    def _records(self, load: Callable[[Path], Record]) -> Iterator[tuple[Path, Record]]:
        for folder in self._folders():
            if artifacts.is_complete(folder):
                yield folder, read(folder, load)

    def unfinished(self) -> list[Path]:
        """Folders of trials without a record: still running, or their parent was killed."""
        return [folder for folder in self._folders() if not artifacts.is_complete(folder)]

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("*/") if p.is_dir() and not p.is_symlink())


def read(folder: Path, load: Callable[[Path], Record] = artifacts.read) -> Record:
    """The complete record in a trial's folder.

    Raises:
        TrackingError: it cannot be read, or has a link or another file that is not a regular one.
    """
    if (entry := not_plain(folder)) is not None:
        raise TrackingError(
            f"{folder} holds {entry.relative_to(folder)}, a link out of it or no regular file,"
            " which is not read: move it away"
        )
    try:
        return load(folder)
    except (ValueError, OSError) as error:
        raise TrackingError(
            f"{folder} holds a record that cannot be read ({one_line(error)}): move it away"
        ) from error


def cannot_write(path: Path, error: OSError) -> SlmEnergyError:
    """The error of a sweep whose disk is full or read-only."""
    return SlmEnergyError(
        f"cannot write {path}: {error.strerror or error}; free space or set tracking.folder=DIR,"
        " then run the same command again: finished trials are kept"
    )
