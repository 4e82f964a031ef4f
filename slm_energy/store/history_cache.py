"""A file that remembers how trials ended, so that whoever keeps them need not be asked again.

One line of JSON per trial: added when a trial is stored, written anew where the file turns out to
be wrong. It is a memory and no authority: `recall` holds it against the store, and asks there for
what is damaged or missing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from slm_energy.planning.plan import Past
from slm_energy.record import OutcomeName
from slm_energy.serialization import from_plain, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """One earlier trial.

    Attributes:
        key: what tells it from others: its run id, or its own id.
        started_ms: when it began, milliseconds since 1970.
        past: what a plan needs to know of it.
    """

    key: str
    started_ms: int
    past: Past


class Ledger:
    """The trials of one study on one machine."""

    def __init__(self, path: Path) -> None:
        """Nothing is read or made before it is asked for."""
        self.path = path

    def read(self) -> dict[str, HistoryEntry]:
        """Trials by key; none without a file. What is no whole line is left out."""
        if not self.path.is_file():
            return {}
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        entries = (_parsed(line) for line in lines)
        return {entry.key: entry for entry in entries if entry is not None}

    def add(self, entry: HistoryEntry) -> None:
        """Append a trial.

        Raises:
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))

    def replace(self, entries: Iterable[HistoryEntry]) -> None:
        """Write the file anew, so that whoever reads it meanwhile sees the old or the new one.

        Raises:
            OSError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, entries))
        partial.replace(self.path)


def _line(entry: HistoryEntry) -> str:
    return json.dumps(to_plain(entry), allow_nan=False) + "\n"


def _parsed(line: str) -> HistoryEntry | None:
    try:
        return from_plain(HistoryEntry, json.loads(line))
    except ValueError:
        return None


class Trials(Protocol):
    """What a store is asked about the trials of one study on one machine."""

    def pages(self, *, small_first: bool) -> Iterator[list[HistoryEntry]]:
        """All of them, newest first; the first page is to be a small one where few may be new."""

    def deleted(self) -> set[str]:
        """Keys of those that a person deleted."""

    def number(self, outcome: OutcomeName, count: int) -> bool:
        """Whether so many of them ended like this."""


def recall(ledger: Ledger, trials: Trials) -> list[Past]:
    """The trials of a store, oldest first, with as little reading as can be.

    The newest are read, up to a page with one that the ledger has. What the ledger has, without
    what was deleted, must then be as many of each outcome as the store has; else all are read, and
    the ledger is written anew. This sees trials that were deleted, restored, judged anew, stored
    late or lost with the store's file. It does not see a trial that was deleted for good
    (`mlflow gc`) if an older one of the same outcome came in its place before the next look.
    """
    remembered = ledger.read()
    known = dict(remembered)
    if known:
        for key in trials.deleted():
            known.pop(key, None)
    found, whole = _newest(trials, known)
    known = found if whole else known | found
    if not whole and not _agree(trials, known):
        known = {entry.key: entry for page in trials.pages(small_first=False) for entry in page}
    if known != remembered:
        ledger.replace(known.values())
    return [entry.past for entry in sorted(known.values(), key=lambda entry: entry.started_ms)]


def _newest(trials: Trials, known: dict[str, HistoryEntry]) -> tuple[dict[str, HistoryEntry], bool]:
    """Trials up to the first page that has a known one; and whether these are all there are."""
    found: dict[str, HistoryEntry] = {}
    for page in trials.pages(small_first=bool(known)):
        found |= {entry.key: entry for entry in page}
        if not known.keys().isdisjoint(found):
            return found, False
    return found, True


def _agree(trials: Trials, known: dict[str, HistoryEntry]) -> bool:
    counts = Counter(entry.past.outcome for entry in known.values())
    return all(trials.number(name, counts[name]) for name in typing.get_args(OutcomeName))
