"""A local cache of how trials ended, so that the store need not return all of them each time.

One line of JSON per trial: appended when a trial is stored, and rewritten when the file turns out
to be wrong. The store stays the authority: `recall` compares the cache with it and fetches what is
damaged or missing.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from slm_energy import shared
from slm_energy.places import naming
from slm_energy.planning.plan import Past
from slm_energy.record import OutcomeName
from slm_energy.serialization import from_plain, parse_json, replacing, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """One earlier trial.

    Attributes:
        key: unique: its run id, or its own id.
        started_ms: when it began, milliseconds since 1970.
        past: what a plan needs to know about it.
    """

    key: str
    started_ms: int
    past: Past


class Ledger:
    """The trials of one study on one machine."""

    def __init__(self, path: Path) -> None:
        """Neither read nor create the file until it is needed."""
        self.path = path

    def read(self) -> dict[str, HistoryEntry]:
        """Trials by key; none if there is no file. Incomplete lines are skipped."""
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
        shared.add_folder(self.path.parent, within=self.path.parents[1])
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))
        shared.share(self.path)

    def replace(self, entries: Iterable[HistoryEntry]) -> None:
        """Rewrite the file atomically.

        Raises:
            OSError: it cannot be written.
        """
        shared.add_folder(self.path.parent, within=self.path.parents[1])
        with replacing(self.path) as file:
            file.writelines(map(_line, entries))
            shared.share(Path(file.name))


def _line(entry: HistoryEntry) -> str:
    return json.dumps(to_plain(entry), allow_nan=False) + "\n"


def _parsed(line: str) -> HistoryEntry | None:
    try:
        return from_plain(HistoryEntry, parse_json(line))
    except ValueError:
        return None


class Trials(Protocol):
    """The queries that `recall` makes about the trials of one study on one machine."""

    def pages(self, *, small_first: bool) -> Iterator[list[HistoryEntry]]:
        """All of them, newest first; `small_first` makes the first page a small one."""

    def deleted(self) -> set[str]:
        """Keys of the trials that a user deleted."""

    def number(self, outcome: OutcomeName, count: int) -> bool:
        """Whether exactly `count` trials ended with this outcome."""


def recall(ledger: Ledger, trials: Trials, *, keep: bool = True) -> list[Past]:
    """The trials of a store, oldest first, with as few reads as possible.

    The newest are read, up to the first page with a trial that the ledger has. The ledger, without
    deleted trials, must then match the store's count of each outcome; otherwise all are read and
    the ledger is rewritten. This detects trials that were deleted, restored, judged again, stored
    late or lost with the store's file. It does not detect a trial that was deleted permanently
    (`mlflow gc`) if an older one of the same outcome was added before the next call. Without `keep`
    the ledger is not rewritten: it cannot be.
    """
    cached = ledger.read()
    known = dict(cached)
    if known:
        for key in trials.deleted():
            known.pop(key, None)
    newest, complete = _newest(trials, known)
    known = newest if complete else known | newest
    if not complete and not _agree(trials, known):
        known = {entry.key: entry for page in trials.pages(small_first=False) for entry in page}
    if keep and known != cached:
        ledger.replace(known.values())
    return [entry.past for entry in sorted(known.values(), key=lambda entry: entry.started_ms)]


def _newest(trials: Trials, known: dict[str, HistoryEntry]) -> tuple[dict[str, HistoryEntry], bool]:
    """Trials up to the first page with a known one, and whether these are all the trials."""
    newest: dict[str, HistoryEntry] = {}
    for page in trials.pages(small_first=bool(known)):
        newest |= {entry.key: entry for entry in page}
        if not known.keys().isdisjoint(newest):
            return newest, False
    return newest, True


def _agree(trials: Trials, known: dict[str, HistoryEntry]) -> bool:
    counts = Counter(entry.past.outcome for entry in known.values())
    return all(trials.number(name, counts[name]) for name in typing.get_args(OutcomeName))
