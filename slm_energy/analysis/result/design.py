"""Part of a result: the design, and how each trial of it ended."""

from __future__ import annotations

import dataclasses
from typing import Literal

SlotOutcome = Literal["valid", "invalid", "failed", "unsupported", "missing"]
Scope = Literal["cell", "round", "trial", "metric", "pair", "factor", "test", "family", "source"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What the figures rest on.

    Attributes:
        rows: trials read, all attempts.
        repeated: of these, attempts that another one of the same cell and round replaces.
        sweeps: ids of the sweep invocations.
        first_started: when the first trial began, ISO 8601 in UTC; empty where it is not known.
        last_started: when the last one did.
        versions: of this program, Python and the statistics libraries.
        libraries: `version.NAME` of the measured stack to its distinct values over trials.
    """

    rows: int
    repeated: int
    sweeps: tuple[str, ...]
    first_started: str
    last_started: str
    versions: dict[str, str]
    libraries: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """A factor that varies over the cells.

    Attributes:
        key: the column, such as `engine.name`.
        name: what a page calls it, such as `engine`.
        levels: in order of appearance.
    """

    key: str
    name: str
    levels: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of the design.

    Attributes:
        id: its hash.
        label: its name; what all cells share is left out of it.
        family: name of the family that it is compared within; empty when all cells are one.
        levels: factor key to level, for the factors of the report that the cell has.
        valid: valid trials.
        rounds: rounds in which it was due; 0 for an unsupported cell.
        agreement: share of prompts whose tokens are all those of the reference engine, mean over
            its valid trials; None where nothing was compared.
        agreeing_tokens: share of an answer's tokens before the first that differs, likewise.
    """

    id: str
    label: str
    family: str
    levels: dict[str, str]
    valid: int
    rounds: int
    agreement: float | None = None
    agreeing_tokens: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One slot of the plan and how it ended.

    Attributes:
        cell: the cell's id.
        round: 1, 2, ...; 0 for an unsupported cell, which is noted once.
        outcome: valid, invalid, failed, unsupported, or missing where other cells have a trial.
        reason: why it is not valid; empty when it is.
    """

    cell: str
    round: int
    outcome: SlotOutcome
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The design as carried out.

    Attributes:
        rounds: numbers of the rounds that were begun.
        complete_rounds: those in which every supported cell is valid.
        slots: every cell in every round, cell by cell.
        outcomes: outcome to number of slots.
        late: valid trials that began when a later round had begun, such as those that filled a gap;
            None where it is not known.
        varied_order: the order of cells differs between rounds; None where it is not known.
    """

    rounds: tuple[int, ...]
    complete_rounds: tuple[int, ...]
    slots: tuple[Slot, ...]
    outcomes: dict[str, int]
    late: int | None = None
    varied_order: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something that the analysis did not use.

    Attributes:
        scope: what kind of thing.
        name: which one, as a reader knows it.
        reason: why, one line.
    """

    scope: Scope
    name: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """The trial that counts for its cell and round.

    Attributes:
        run_id: its MLflow run.
        cell: its cell's id.
        round: 1, 2, ...; 0 for an unsupported cell.
        order: position in the planned order.
        attempt: which attempt it was.
        outcome: valid, invalid, failed or unsupported.
        reason: why it is not valid.
        values: metric name to value, where there is a finite one: all that the trial has.
    """

    run_id: str
    cell: str
    round: int
    order: int
    attempt: int
    outcome: SlotOutcome
    reason: str
    values: dict[str, float]
