"""Where records lie until the store has them: one folder per trial.

    FOLDER/TRIAL/exchange/...     the trial is running, or was when its parent was killed
    FOLDER/TRIAL/record.json ...  the record is complete (`artifacts.write`) and waits to be sent

Nothing is sent from here that is not complete, and nothing complete is removed before it was sent.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slm_energy.errors import SlmEnergyError, TrackingError, one_line
from slm_energy.machine import locked
from slm_energy.record import EXCHANGE, Record
from slm_energy.store import artifacts


class Spool:
    """The records of one machine that wait."""

    def __init__(self, folder: Path) -> None:
        """Nothing is created before the first trial.

        Args:
            folder: absolute; `tracking.folder`/pending/MACHINE.
        """
        self.folder = folder

    @contextmanager
    def held(self, busy: Callable[[Path], None]) -> Iterator[None]:
        """Keep other sweeps off these records: what looks unfinished is theirs, if they run.

        Args:
            busy: see `machine.locked`.

        Raises:
            SlmEnergyError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        with locked(self.folder / "lock", busy):
            yield

    def new(self, trial: str) -> Path:
        """Make the folder of a trial that begins.

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
        """Write a record into its trial's folder; afterwards it is complete.

        What a job wrote on its node is so already.

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
        """The same without captures, figures and checks (`artifacts.outline`).

        Raises:
            TrackingError: one cannot be read.
        """
        return (record for _, record in self._records(artifacts.outline))

    def _records(self, how: Callable[[Path], Record]) -> Iterator[tuple[Path, Record]]:
        for folder in self._folders():
            if artifacts.is_complete(folder):
                yield folder, read(folder, how)

    def unfinished(self) -> list[Path]:
        """Folders of trials that have no record yet: they run, or whoever ran them is gone."""
        return [folder for folder in self._folders() if not artifacts.is_complete(folder)]

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*/") if path.is_dir())


def read(folder: Path, how: Callable[[Path], Record] = artifacts.read) -> Record:
    """The complete record in a trial's folder.

    Raises:
        TrackingError: it cannot be read.
    """
    try:
        return how(folder)
    except (ValueError, OSError) as error:
        raise TrackingError(
            f"{folder} holds a record that cannot be read ({one_line(error)}): move it away"
        ) from error


def cannot_write(path: Path, error: OSError) -> SlmEnergyError:
    """What a full or read-only disk means for a sweep."""
    return SlmEnergyError(
        f"cannot write {path}: {error.strerror or error}; free space or set tracking.folder=DIR,"
        " then run the same command again: finished trials are kept"
    )
