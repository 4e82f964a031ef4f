"""What is remembered of an invocation: little, because a study may have ten thousand trials."""

from __future__ import annotations

import dataclasses

from slm_energy.planning.plan import Plan
from slm_energy.record import OutcomeName, Record


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """What is remembered of a trial after its record was kept.

    Attributes:
        label: its cell's name.
        cell: its cell's id.
        round: its round.
        outcome: how it ended.
        reasons: why.
        flags: names and details of what a reader should know of a valid one.
        place: its worker's log, or where its files lie if it wrote none.
    """

    label: str
    cell: str
    round: int
    outcome: OutcomeName
    reasons: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    place: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """What an invocation did.

    Attributes:
        trials: those it ran, in order.
        unsent: records that wait on disk because the store could not take them.
        plan: what it had planned.
        parent: run id of the invocation; None when there was nothing to do.
        interrupted: a person stopped it.
        settled: why it ran fewer rounds than planned; None if it did not.
    """

    trials: tuple[TrialSummary, ...]
    unsent: int
    plan: Plan
    parent: str | None
    interrupted: bool
    settled: str | None

    @property
    def all_valid(self) -> bool:
        """Every trial that was wanted has a valid record that was sent."""
        last = {(told.cell, told.round): told.outcome for told in self.trials if told.round}
        failed = sum(1 for outcome in last.values() if outcome != "valid")
        left = len(self.plan.with_status("to do")) - len(last)
        unfinished = failed or self.plan.with_status("given up") or (left and not self.settled)
        return bool(self.plan.trials) and not self.unsent and not unfinished


def told(record: Record, place: str) -> TrialSummary:
    """What is remembered of a record; `place` is as `TrialSummary` has it."""
    return TrialSummary(
        label=record.trial.label,
        cell=record.trial.cell.id,
        round=record.trial.round,
        outcome=record.outcome.name,
        reasons=record.outcome.reasons,
        flags=tuple((check.name, check.detail) for check in record.checks if check.flagged),
        place=place,
    )
