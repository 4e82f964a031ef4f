"""From MLflow's rows to the trials that count, and an account of those that do not."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pandas as pd

from slm_energy.cell import cell_labels
from slm_energy.config import Scalar
from slm_energy.errors import AnalysisError, one_line

_FACTORS = ("model.", "engine.", "provider.", "measurement.", "workload.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One place in the plan and what came of it.

    Attributes:
        cell: the cell's id.
        round: 1, 2, ...; 0 for an unsupported cell, which is noted once.
        outcome: valid, invalid, failed, unsupported, or missing where other cells have a trial.
        reason: why it is not valid.
    """

    cell: str
    round: int
    outcome: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """The trials of one study on one machine.

    Attributes:
        name: the study.
        machine: where it ran.
        cells: ids in the order of the first round, unsupported ones included.
        labels: cell id to its name; what all cells share is left out of it.
        models: cell id to the name of its model.
        shared: what all cells share, as `model bundled`, `provider cpu`.
        rounds: 1 to the last round that was begun.
        trials: one row per cell and round: its valid trial, or its last attempt.
        slots: every cell in every round.
    """

    name: str
    machine: str
    cells: tuple[str, ...]
    labels: dict[str, str]
    models: dict[str, str]
    shared: tuple[str, ...]
    rounds: tuple[int, ...]
    trials: pd.DataFrame
    slots: tuple[Slot, ...]

    def block(self, column: str) -> pd.DataFrame:
        """Values of one metric, rounds x cells; NaN where there is no valid trial or no value."""
        valid = self.trials[self.trials["outcome"] == "valid"]
        if column not in valid:
            return pd.DataFrame(float("nan"), index=list(self.rounds), columns=list(self.cells))
        table = valid.pivot(index="round", columns="cell", values=column)
        return table.reindex(index=list(self.rounds), columns=list(self.cells)).astype(float)

    def outcomes(self) -> dict[str, int]:
        """How many slots have which outcome."""
        return dict(Counter(slot.outcome for slot in self.slots))


def tidy(raw: pd.DataFrame, study: str, machine: str | None = None) -> Study:
    """Choose the trials that count.

    Of several attempts at a cell in a round the latest valid one counts, else the latest.

    Args:
        raw: what `tracking.Store.frame` returns.
        study: its name, for messages.
        machine: take this machine's trials only.

    Raises:
        AnalysisError: no trials, none valid, or several machines and none chosen.
    """
    if raw.empty:
        raise AnalysisError(f"study={study}: no trials found; run its sweep, or name another study")
    machine, rows = _one_machine(raw, study, machine)
    rows = rows.assign(
        round=rows["round"].astype(int), reason=rows["reason"].fillna("").astype(str)
    )
    rows = rows.assign(_valid=rows["outcome"] == "valid")
    rows = rows.sort_values(["_valid", "started", "attempt"], kind="stable", na_position="first")
    rows = rows.drop_duplicates(["cell", "round"], keep="last").drop(columns="_valid")
    tried = set(rows.loc[rows["round"] > 0, "cell"])
    rows = rows[(rows["round"] > 0) | ~rows["cell"].isin(tried)]
    rows = rows.sort_values(["round", "order"], kind="stable").reset_index(drop=True)
    if not (rows["outcome"] == "valid").any():
        raise AnalysisError(_none_valid(study, rows))
    supported = [cell for cell in rows["cell"].unique() if cell in tried]
    cells = (*supported, *(cell for cell in rows["cell"].unique() if cell not in tried))
    rounds = tuple(range(1, int(rows["round"].max()) + 1))
    labels, shared = _short_labels(_labels(rows))
    return Study(
        name=study,
        machine=machine,
        cells=cells,
        labels=labels,
        models=dict(zip(rows["cell"], rows["model.name"].astype(str), strict=True)),
        shared=shared,
        rounds=rounds,
        trials=rows,
        slots=_slots(rows, cells, rounds, tried),
    )


def _one_machine(raw: pd.DataFrame, study: str, machine: str | None) -> tuple[str, pd.DataFrame]:
    machines = sorted(raw["machine"].astype(str).unique())
    if machine is None and len(machines) > 1:
        raise AnalysisError(
            f"study={study} has trials of {len(machines)} machines ({', '.join(machines)}), which "
            f"cannot be compared: choose one with machine={machines[0]}"
        )
    chosen = machines[0] if machine is None else machine
    if chosen not in machines:
        raise AnalysisError(
            f"machine={chosen}: study={study} has no trial of it; it has: {', '.join(machines)}"
        )
    return chosen, raw[raw["machine"].astype(str) == chosen]


def _none_valid(study: str, rows: pd.DataFrame) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in Counter(rows["outcome"]).most_common())
    reasons = Counter(reason for reason in rows["reason"] if reason)
    why = f"; most often: {one_line(reasons.most_common(1)[0][0])}" if reasons else ""
    return f"study={study} has no valid trial ({counts}){why}; mend that and run the sweep again"


def _labels(rows: pd.DataFrame) -> dict[str, str]:
    keys = [name for name in rows.columns if str(name).startswith(_FACTORS) and "/" not in name]
    first = rows.drop_duplicates("cell").set_index("cell")[keys]
    settings: list[tuple[str, dict[str, Scalar]]] = [
        (str(cell), {str(key): value for key, value in row.items() if pd.notna(value)})
        for cell, row in zip(first.index, first.to_dict("records"), strict=True)
    ]
    return cell_labels(settings)


def _short_labels(labels: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Take out of `model / engine / provider / ...` what is the same in all cells."""
    parts = {cell: label.split(" / ") for cell, label in labels.items()}
    words = ("model", "engine", "provider")
    same = [i for i in range(3) if len({row[i] for row in parts.values()}) == 1]
    if len(labels) == 1 or len(same) == 3:
        same = [0]  # something must be left to be called by
    shared = tuple(f"{words[i]} {next(iter(parts.values()))[i]}" for i in same)
    short = {
        cell: " / ".join(part for i, part in enumerate(row) if i not in same)
        for cell, row in parts.items()
    }
    return short, shared


def _slots(
    rows: pd.DataFrame, cells: tuple[str, ...], rounds: tuple[int, ...], tried: set[str]
) -> tuple[Slot, ...]:
    found = {
        (row.cell, row.round): (str(row.outcome), one_line(str(row.reason)))
        for row in rows[["cell", "round", "outcome", "reason"]].itertuples()
    }
    slots = []
    for cell in cells:
        for number in rounds if cell in tried else (0,):
            outcome, reason = found.get((cell, number), ("missing", "not run"))
            slots.append(Slot(cell=cell, round=number, outcome=outcome, reason=reason))
    return tuple(slots)
