"""What the analysis reads of a stored study: a store has it, and so has a package of `export`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd


class Readable(Protocol):
    """See `tracking.Store` for the errors of its methods."""

    def frame(self, study: str) -> pd.DataFrame:
        """One row per trial (`frame.py`)."""

    def attached(self, run_id: str, name: str) -> str:
        """Read a text artifact of a run."""

    def plans(self, study: str, machine: str) -> Iterator[str]:
        """`plan.json` of each invocation on a machine that has one, oldest first."""

    def stopped(self, study: str, machine: str) -> str:
        """Why the study ended before its last round, or ""."""

    def noise_floors(self, machine: str) -> list[str]:
        """The noise floors of a machine over all studies, the latest first."""
