"""The trials of a study and their order: pure functions of cells, settings and earlier trials.

A round is a complete randomised block: every cell once, in an order drawn with the recorded seed.
Nothing here reads a clock, a store or a device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Literal

from slm_energy.cell import Cell, Settings, cell_labels, cell_levels, flat, is_sentinel
from slm_energy.config.groups import Scalar, StudyConfig
from slm_energy.errors import ConfigError
from slm_energy.planning.needs import Needs
from slm_energy.planning.order import shuffled, williams
from slm_energy.record import OutcomeName
from slm_energy.serialization import Json, to_plain

Status = Literal["to do", "done", "given up"]
EnergyKind = Literal["measured", "estimated"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Excluded:
    """An excluded combination, and why."""

    label: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """An earlier trial, as stored.

    Attributes:
        cell: id of its cell.
        model: name of its model.
        round: its round; 0 for the record of an unsupported cell.
        outcome: how it ended.
        reason: why, in one line.
        duration_s: wall time of the trial; None if unknown.
        joules: energy inside its windows, `measured` or `estimated`.
        interrupted: it was stopped by Ctrl-C or SIGTERM, or the cluster ended its job, so it does
            not count as an attempt.
    """

    cell: str
    model: str
    round: int
    outcome: OutcomeName
    reason: str = ""
    duration_s: float | None = None
    joules: dict[EnergyKind, float] = dataclasses.field(default_factory=dict)
    interrupted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One trial of the plan.

    Attributes:
        cell: the cell to run.
        label: the cell's name in tables.
        round: from 1.
        order: position over all rounds, from 1.
        status: `given up` after `study.attempts` failures.
        attempts: number of attempts so far.
        losses: jobs of it that the cluster ended in this invocation; these are no attempts.
        expected_s: expected wall seconds; None without earlier trials of the cell or its model.
        expected_j: expected joules inside its windows; empty without such trials.
    """

    cell: Cell
    label: str
    round: int
    order: int
    status: Status
    attempts: int
    expected_s: float | None
    expected_j: dict[EnergyKind, float] = dataclasses.field(default_factory=dict)
    losses: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The whole grid.

    Attributes:
        study: its settings.
        trials: in the order in which they run.
        excluded: left out by `study.exclude`.
        unsupported: left out because engine or machine cannot run them; pairs of cell and reason.
        labels: cell id to name.
        changed: changes since the study started (`freeze.py`), one text each.
        measured: what the sums of the study's first trials cover, in words; empty before there are
            any, or where it is not known.
        needs: cell id to what the cell needs.
        guesses_s: cell id to a guess of its trial's seconds, of cells like which nothing has run.
    """

    study: StudyConfig
    trials: tuple[Planned, ...]
    excluded: tuple[Excluded, ...]
    unsupported: tuple[tuple[Cell, str], ...]
    labels: dict[str, str]
    changed: tuple[str, ...] = ()
    measured: str = ""
    needs: Mapping[str, Needs] = dataclasses.field(default_factory=dict)
    guesses_s: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def with_status(self, status: Status) -> list[Planned]:
        """The trials of that status, in order."""
        return [trial for trial in self.trials if trial.status == status]

    def summary(self) -> dict[str, Json]:
        """The part stored with the sweep: seed, order, and left-out cells with reasons."""
        return {
            "study": to_plain(self.study),
            "order": [
                {"order": t.order, "round": t.round, "label": t.label, "cell": t.cell.id}
                | {"status": t.status, "expected_s": t.expected_s}
                for t in self.trials
            ],
            "excluded": to_plain(self.excluded),
            "unsupported": [
                {"label": self.labels[cell.id], "cell": cell.id, "reason": reason}
                for cell, reason in self.unsupported
            ],
        }

    @property
    def expected_s(self) -> float | None:
        """Expected wall seconds of the rest of the study; None if any part is unknown."""
        return _sum_if_known([trial.expected_s for trial in self.with_status("to do")])

    @property
    def guessed_s(self) -> float | None:
        """The same with guesses where nothing is measured; None if some have none."""
        return _sum_if_known(
            [
                self.guesses_s.get(trial.cell.id) if trial.expected_s is None else trial.expected_s
                for trial in self.with_status("to do")
            ]
        )

    def expected_j(self, kind: EnergyKind) -> float | None:
        """Expected joules of the rest inside its windows; None if any part is unknown."""
        return _sum_if_known([trial.expected_j.get(kind) for trial in self.with_status("to do")])


def _sum_if_known(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def exclusion(settings: Settings, rules: Sequence[Mapping[str, Any]]) -> str | None:
    """The reason why `study.exclude` leaves these settings out, or None.

    Args:
        settings: the levels of one cell.
        rules: each maps dotted keys (or a bare group such as `engine`, for its name) to a value
            or a list of values; all must match. `reason` is the text to show.

    Raises:
        ConfigError: a rule names a key that does not exist.
    """
    levels = flat(settings)
    for number, rule in enumerate(rules):
        conditions = {key: value for key, value in rule.items() if key != "reason"}
        if conditions and matches(levels, conditions, f"study.exclude[{number}]"):
            shown = ", ".join(f"{key}={value}" for key, value in conditions.items())
            return str(rule.get("reason", f"study.exclude: {shown}"))
    return None


def matches(levels: Mapping[str, Scalar], conditions: Mapping[str, Any], rule: str) -> bool:
    """Whether a cell's levels meet all conditions of a rule (see `exclusion`).

    Args:
        levels: its settings, flat.
        conditions: keys to values.
        rule: the rule's configuration key, for the message.

    Raises:
        ConfigError: a key is not a setting.
    """
    return all(_holds(levels, key, value, rule) for key, value in conditions.items())


def _holds(levels: Mapping[str, Scalar], key: str, condition: Any, rule: str) -> bool:
    full = key if key in levels else f"{key}.name"
    if full not in levels:
        if key.startswith("engine.options."):
            return False
        known = ", ".join(levels)
        raise ConfigError(f"{rule} names {key!r}, which is not a setting; known: {known}")
    allowed = condition if isinstance(condition, list | tuple) else [condition]
    return levels[full] in allowed


def make_plan(
    study: StudyConfig,
    cells: Sequence[Cell],
    *,
    excluded: Sequence[Excluded] = (),
    unsupported: Sequence[tuple[Cell, str]] = (),
    history: Sequence[Past] = (),
) -> Plan:
    """Lay out rounds, shuffle each with the seed, and set the status of each trial.

    Args:
        study: rounds, seed and attempts.
        cells: the runnable ones, without duplicates; a sentinel is the first of each round.
        excluded: passed on to the plan.
        unsupported: passed on to the plan.
        history: earlier trials of this study on this machine.
    """
    all_cells = [*cells, *(cell for cell, _ in unsupported)]
    labels = _labels(all_cells)
    past: dict[tuple[str, int], list[Past]] = {}
    for trial in history:
        past.setdefault((trial.cell, trial.round), []).append(trial)
    expected = {cell.id: _expected(cell, history) for cell in cells}
    by_id = {cell.id: cell for cell in cells}
    sentinels = [cell.id for cell in cells if is_sentinel(cell)]
    compared = [cell.id for cell in cells if not is_sentinel(cell)]
    order = {"random": shuffled, "williams": williams}[study.order]
    trials: list[Planned] = []
    for number in range(1, study.rounds + 1):
        for name in [*sentinels, *order(compared, study.seed, number)]:
            cell = by_id[name]
            earlier = past.get((cell.id, number), [])
            status, attempts = _status(earlier, study.attempts)
            trials.append(
                Planned(
                    cell=cell,
                    label=labels[cell.id],
                    round=number,
                    order=len(trials) + 1,
                    status=status,
                    attempts=attempts,
                    expected_s=expected[name][0],
                    expected_j=expected[name][1],
                )
            )
    return Plan(
        study=study,
        trials=tuple(trials),
        excluded=tuple(excluded),
        unsupported=tuple(unsupported),
        labels=labels,
    )


def _labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Labels of all cells; a sentinel must not add the workload to the labels of the others."""
    extra = [(cell.id, cell_levels(cell)) for cell in cells if is_sentinel(cell)]
    named = {cell: f"{label} / sentinel" for cell, label in cell_labels(extra).items()}
    return named | cell_labels((c.id, cell_levels(c)) for c in cells if not is_sentinel(c))


def _status(earlier: Sequence[Past], allowed: int) -> tuple[Status, int]:
    attempts = sum(1 for trial in earlier if not trial.interrupted)
    if any(trial.outcome == "valid" for trial in earlier):
        return "done", attempts
    return ("given up" if attempts >= allowed else "to do"), attempts


def _expected(cell: Cell, history: Sequence[Past]) -> tuple[float | None, dict[EnergyKind, float]]:
    """Median seconds and joules of earlier trials of the cell, else of its model."""
    ran = [trial for trial in history if trial.outcome in ("valid", "invalid")]
    same_cell = [trial for trial in ran if trial.cell == cell.id]
    alike = same_cell or [t for t in ran if t.model == cell.settings.model.name]
    seconds = [trial.duration_s for trial in alike if trial.duration_s is not None]
    joules: dict[EnergyKind, list[float]] = {}
    for trial in alike:
        for kind, value in trial.joules.items():
            joules.setdefault(kind, []).append(value)
    return (
        median(seconds) if seconds else None,
        {kind: median(values) for kind, values in joules.items()},
    )
