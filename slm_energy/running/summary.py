"""What is kept of an invocation in memory: little, as a study may have ten thousand trials."""

from __future__ import annotations

import dataclasses

from slm_energy.planning.plan import Plan
from slm_energy.record import OutcomeName, Record


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """What is kept of a trial once its record is stored.

    Attributes:
        label: its cell's name.
        cell: its cell's id.
        round: its round.
        outcome: how it ended.
        reasons: why.
        flags: names and details of what a reader should know of a valid one.
        location: path or URI of its worker's log, or of its files if that is empty.
    """

    label: str
    cell: str
    round: int
    outcome: OutcomeName
    reasons: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    location: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """What an invocation did.

    Attributes:
        trials: those it ran, in order.
        unsent: number of records still on disk because the store could not take them.
        plan: what it had planned.
        parent: run id of the invocation; None when there was nothing to do.
        interrupted: it was stopped by Ctrl-C or SIGTERM.
        stop_reason: why the stopping rule ended it before the last round; None if it did not.
    """

    trials: tuple[TrialSummary, ...]
    unsent: int
    plan: Plan
    parent: str | None
    interrupted: bool
    stop_reason: str | None

    @property
    def all_valid(self) -> bool:
        """Every planned trial has a valid record, sent or not."""
        last = {(trial.cell, trial.round): trial.outcome for trial in self.trials if trial.round}
        failed = sum(1 for outcome in last.values() if outcome != "valid")
        left = len(self.plan.with_status("to do")) - len(last)
        unfinished = failed or self.plan.with_status("given up") or (left and not self.stop_reason)
        return bool(self.plan.trials) and not unfinished


def summarise(record: Record, location: str) -> TrialSummary:
    """What is kept of a record; `location` as in `TrialSummary`."""
    return TrialSummary(
        label=record.trial.label,
        cell=record.trial.cell.id,
        round=record.trial.round,
        outcome=record.outcome.name,
        reasons=record.outcome.reasons,
        flags=tuple((check.name, check.detail) for check in record.checks if check.flagged),
        location=location,
    )
