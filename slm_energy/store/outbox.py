"""Pending records on disk: one folder per trial until the store has it.

    FOLDER/TRIAL/exchange/...     the trial is running, or its parent was killed
    FOLDER/TRIAL/record.json ...  the record is complete (`artifacts.write`) and pending

Only complete records are sent, and none is removed before it was sent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from slm_energy import shared
from slm_energy.errors import TrackingError, one_line
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
            SlmEnergyError: the lock cannot be opened.
            OSError: the folder cannot be written.
        """
        self._add(self.folder)
        if not os.access(self.folder, os.W_OK | os.X_OK):  # before anything is measured
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.folder))
        with locked(self.folder / "lock", busy):
            yield

    def new(self, trial: str) -> Path:
        """Create the folder of a new trial.

        Raises:
            OSError: it cannot be written.
        """
        folder = self.folder / trial
        self._add(folder)
        return folder

    def _add(self, folder: Path) -> None:
        """Create a folder below `tracking.folder`, which its users may share."""
        shared.add_folder(folder, within=self.folder.parents[1])

    def keep(self, record: Record, folder: Path, prompts: Mapping[str, str]) -> None:
        """Write a record into its trial's folder and so complete it.

        A record that a job wrote on its node is complete already. A folder that was removed
        meanwhile is made again.

        Raises:
            OSError: it cannot be written.
        """
        if not artifacts.is_complete(folder):
            self._add(folder)
            artifacts.write(folder, record, prompts)
            shared.share(folder)
        # Also what another start of a job, which goes on elsewhere, has left since.
        shutil.rmtree(folder / EXCHANGE, ignore_errors=True)

    def keep_elsewhere(self, record: Record, prompts: Mapping[str, str]) -> Path:
        """Write a record to TMPDIR where its own folder cannot be; `recover` brings it back.

        Returns:
            A folder that `slm-energy sync` can send from.

        Raises:
            OSError: it cannot be written either.
        """
        kept = Path(tempfile.mkdtemp(prefix=self._elsewhere))
        artifacts.write(kept / self.folder.name / record.trial.id, record, prompts)
        return kept

    def recover(self) -> None:
        """Move what this user's `keep_elsewhere` has left into the folder of these records.

        Raises:
            OSError: it cannot be written.
        """
        for kept in Path(tempfile.gettempdir()).glob(f"{self._elsewhere}*"):
            if kept.is_symlink() or kept.stat().st_uid != os.geteuid():
                continue
            for folder in filter(artifacts.is_complete, (kept / self.folder.name).glob("*/")):
                here = self.folder / folder.name
                if here.exists():
                    shutil.rmtree(here)  # what could be written of it
                artifacts.copy(folder, here)
                shared.share(here)
            shutil.rmtree(kept)

    @property
    def _elsewhere(self) -> str:
        """What names of folders in TMPDIR begin with."""
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        return f"slm-energy-kept-{digest}-"

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
                # Left where a sweep was killed once its record was complete; no part of it.
                shutil.rmtree(folder / EXCHANGE, ignore_errors=True)
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
