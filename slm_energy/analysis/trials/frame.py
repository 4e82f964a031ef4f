"""From MLflow's rows to the trials that count, and an account of those that do not."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from slm_energy.analysis.result.design import Audit, Factor, LeftOut, Slot, SlotOutcome
from slm_energy.analysis.trials.course import late_trials, varied_order
from slm_energy.analysis.trials.kinds import one_kind
from slm_energy.analysis.trials.one_tests import one_tests
from slm_energy.analysis.trials.scopes import one_scope
from slm_energy.cell import CORE, by_server, cell_labels, parts_of_labels
from slm_energy.config.groups import SENTINEL, Scalar
from slm_energy.errors import AnalysisError, one_line
from slm_energy.scope import Scope

_SETTINGS = (
    "machine.", "model.", "engine.", "provider.", "measurement.", "workload.", "load.", "version.",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """The trials of one study on one machine.

    Attributes:
        name: the study.
        machine: where it ran.
        cells: ids in the order of the first round, unsupported ones last.
        labels: cell id to its name; what all cells share is left out of it.
        label_parts: cell id to what its label is made of: setting to level, and under no setting
            what else differs.
        settings: cell id to its dotted settings and library versions.
        shared: what all cells share, as `model bundled`, `provider cpu`.
        rounds: 1 to the last round that was begun.
        trials: one row per cell and round: its valid trial, or its last attempt; planned order.
        audit: every cell in every round.
        repeated: attempts that another one of the same cell and round replaces.
        sentinel: the trials of the study's sentinel, which are not among these; None without one.
        scope: what the measured sums of all valid trials cover; None where it is not known.
        other_scopes: what is left out because trials measured something else, or on other nodes, or
            have scores by other tests.
        scopes: of several machines, each one's scope; empty where it is one.
    """

    name: str
    machine: str
    cells: tuple[str, ...]
    labels: dict[str, str]
    label_parts: dict[str, dict[str, str]]
    settings: dict[str, dict[str, Scalar]]
    shared: tuple[str, ...]
    rounds: tuple[int, ...]
    trials: pd.DataFrame
    audit: Audit
    repeated: int
    sentinel: Study | None = None
    scope: Scope | None = None
    other_scopes: tuple[LeftOut, ...] = ()
    scopes: Mapping[str, Scope | None] = dataclasses.field(default_factory=dict)

    @property
    def machines(self) -> tuple[str, ...]:
        """Where it ran, one by one."""
        return tuple(self.scopes) or (self.machine,)

    @property
    def measured(self) -> str:
        """What the measured sums cover, in words; empty where it is not known."""
        if not self.scopes:
            return "" if self.scope is None else self.scope.words
        known = {machine: scope.words for machine, scope in self.scopes.items() if scope}
        if len(known) == len(self.scopes) and len(set(known.values())) == 1:
            return f"{next(iter(known.values()))}, on each machine"
        return "; ".join(f"{machine}: {words}" for machine, words in known.items())

    @property
    def valid(self) -> pd.DataFrame:
        """The valid trials."""
        return self.trials[self.trials["outcome"] == "valid"]

    def block(self, column: str) -> npt.NDArray[np.float64]:
        """Values of one metric, rounds x cells; NaN where there is no valid trial or no value."""
        table = np.full((len(self.rounds), len(self.cells)), np.nan)
        valid = self.valid
        if column in valid:
            index = {cell: i for i, cell in enumerate(self.cells)}
            columns = valid["cell"].map(index).to_numpy(dtype=int)
            values = pd.to_numeric(valid[column], errors="coerce").to_numpy(dtype=float)
            table[valid["round"].to_numpy(dtype=int) - 1, columns] = values
        return table

    def core(self, cell: str) -> str:
        """Model, engine and provider of a cell."""
        return " / ".join(level(self.settings[cell], key) for key in CORE)

    def factors(self, names: Sequence[str], what: str) -> tuple[Factor, ...]:
        """The settings of these names that vary over the cells.

        Args:
            names: `engine`, `engine.threads`, ...
            what: the option they come from, for the message.

        Raises:
            AnalysisError: no trial has such a setting.
        """
        varying = []
        for name in names:
            key = name if "." in name else f"{name}.name"
            if key not in CORE and not any(key in row for row in self.settings.values()):
                known = sorted({key for row in self.settings.values() for key in row})
                raise AnalysisError(
                    f"{what}: no trial of study={self.name} has the setting {key!r}; there are: "
                    f"{one_line(', '.join(known))}"
                )
            levels = dict.fromkeys(level(self.settings[cell], key) for cell in self.cells)
            if len(levels) > 1:
                short = name.removesuffix(".name")
                varying.append(Factor(key=key, name=short, levels=tuple(levels)))
        return tuple(varying)

    def left_out(self) -> list[LeftOut]:
        """Trials of another scope, cells without any valid trial, sources not metered, and why."""
        seen: dict[str, list[Slot]] = {cell: [] for cell in self.cells}
        for slot in self.audit.slots:
            seen[slot.cell].append(slot)
        result = list(self.other_scopes)
        for cell, slots in seen.items():
            if any(slot.outcome == "valid" for slot in slots):
                continue
            last = [slot for slot in slots if slot.outcome != "missing"][-1]  # as it is now
            count = sum(slot.outcome == last.outcome for slot in slots)
            often = f"{last.outcome} in {count} of {len(slots)} rounds"
            reason = f"{often if last.round else last.outcome}: {last.reason}"
            result.append(LeftOut(scope="cell", name=self.labels[cell], reason=reason))
        return result + self._sources_left_out()

    def _sources_left_out(self) -> list[LeftOut]:
        """Energy sources that `measurement.leave_out` names, and in which cells."""
        cells: dict[str, list[str]] = {}
        for cell in self.cells:
            patterns = self.settings[cell].get("measurement.leave_out", "[]")
            for pattern in json.loads(str(patterns)):
                cells.setdefault(pattern, []).append(self.labels[cell])
        return [
            LeftOut(
                scope="source",
                name=pattern,
                reason="measurement.leave_out: neither read nor part of any total"
                + ("" if len(labels) == len(self.cells) else f", in {', '.join(labels)}"),
            )
            for pattern, labels in cells.items()
        ]


def started(rows: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """When trials began, in UTC; NaT where it is not known."""
    numbers = pd.api.types.is_numeric_dtype(rows["started"])
    return pd.to_datetime(
        rows["started"], utc=True, errors="coerce", unit="ms" if numbers else None
    )


def level(settings: dict[str, Scalar], key: str) -> str:
    """A cell's level of a factor; a setting that its engine does not have is a level too."""
    return str(settings[key]) if key in settings else "none"


def tidy(raw: pd.DataFrame, study: str, machine: str | None = None) -> Study:
    """Choose the trials that count.

    Of several attempts at a cell in a round the latest valid one counts, else the latest. A
    sentinel's trials are kept separate: it is compared with nothing. Trials of another scope, or on
    another kind of node, than most are not valid.

    Args:
        raw: what `tracking.Store.frame` returns.
        study: its name, for messages.
        machine: take this machine's trials only.

    Raises:
        AnalysisError: no trials, none valid, or several machines and none chosen.
    """
    machine, *others = chosen_machines(raw, study, machine)
    if others:
        raise AnalysisError(
            f"machine={','.join([machine, *others])}: only slm-energy report puts several machines"
            f" side by side; choose one with machine={machine}"
        )
    alike, unlike = one_kind(raw[raw["machine"].astype(str) == machine])
    scoped = one_scope(alike)
    rows, other_tests = one_tests(scoped.rows, study)
    is_sentinel = rows.get("workload.name", pd.Series("", rows.index)) == SENTINEL
    if is_sentinel.all():
        raise AnalysisError(f"study={study}: only its sentinel has run; run the sweep again")
    own = study_of(rows[~is_sentinel], study, machine)
    if own.valid.empty:
        raise AnalysisError(_none_valid(study, own.trials))
    extra = study_of(rows[is_sentinel], study, machine) if is_sentinel.any() else None
    return dataclasses.replace(
        own,
        sentinel=extra,
        scope=scoped.scope,
        other_scopes=(*unlike, *scoped.left_out, *other_tests),
    )


def study_of(rows: pd.DataFrame, study: str, machine: str) -> Study:
    """The trials of `tidy`, without its sentinel and scope."""
    read = len(rows)
    rows = rows.assign(
        round=rows["round"].astype(int), reason=rows["reason"].fillna("").astype(str)
    )
    rows = rows.assign(_valid=rows["outcome"] == "valid")
    rows = rows.sort_values(["_valid", "started", "attempt"], kind="stable", na_position="first")
    rows = rows.drop_duplicates(["cell", "round"], keep="last").drop(columns="_valid")
    repeated = read - len(rows)
    tried = set(rows.loc[rows["round"] > 0, "cell"])
    rows = rows[(rows["round"] > 0) | ~rows["cell"].isin(tried)]
    rows = rows.sort_values(["round", "order"], kind="stable").reset_index(drop=True)
    supported = [cell for cell in rows["cell"].unique() if cell in tried]
    cells = (*supported, *(cell for cell in rows["cell"].unique() if cell not in tried))
    rounds = tuple(range(1, int(rows["round"].max()) + 1))
    settings = _settings(rows)
    label_parts, shared = parts_of_labels(cell_labels(settings.items()), settings)
    return Study(
        name=study,
        machine=machine,
        cells=cells,
        labels={cell: " / ".join(parts.values()) for cell, parts in label_parts.items()},
        label_parts=label_parts,
        settings=settings,
        shared=shared,
        rounds=rounds,
        trials=rows,
        audit=_audit(rows, cells, rounds, tried),
        repeated=repeated,
    )


def chosen_machines(raw: pd.DataFrame, study: str, machine: str | None) -> list[str]:
    """The machines whose trials are to be analysed; `machine` names one, or several by commas.

    Raises:
        AnalysisError: no trials, none of a machine, or several machines and none chosen.
    """
    if raw.empty:
        raise AnalysisError(f"study={study}: no trials found; run its sweep, or name another study")
    machines = sorted(raw["machine"].astype(str).unique())
    if machine is None and len(machines) > 1:
        raise AnalysisError(
            f"study={study} has trials of {len(machines)} machines ({', '.join(machines)}): choose"
            f" one with machine={machines[0]}, or compare them with slm-energy report"
            f" machine={','.join(machines)}"
        )
    chosen = machines
    if machine is not None:
        chosen = [machine] if machine in machines else machine.split(",")
    for name in chosen:
        if name not in machines or chosen.count(name) > 1:
            why = "is named twice" if name in machines else "has no trial of it"
            raise AnalysisError(
                f"machine={name}: study={study} {why}; it has: {', '.join(machines)}"
            )
    return chosen


def _none_valid(study: str, rows: pd.DataFrame) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in Counter(rows["outcome"]).most_common())
    reasons = Counter(reason for reason in rows["reason"] if reason)
    why = f"; most often: {one_line(reasons.most_common(1)[0][0])}" if reasons else ""
    return (
        f"study={study} has no valid trial ({counts}){why}; fix the cause and run the sweep again"
    )


def _settings(rows: pd.DataFrame) -> dict[str, dict[str, Scalar]]:
    keys = [name for name in rows.columns if str(name).startswith(_SETTINGS) and "/" not in name]
    first = rows.drop_duplicates("cell").set_index("cell")[keys]
    return {
        str(cell): by_server({str(key): value for key, value in row.items() if pd.notna(value)})
        for cell, row in zip(first.index, first.to_dict("records"), strict=True)
    }


def _audit(
    rows: pd.DataFrame, cells: tuple[str, ...], rounds: tuple[int, ...], tried: set[str]
) -> Audit:
    outcomes: dict[tuple[str, int], tuple[SlotOutcome, str]] = {
        (cell, number): (outcome, one_line(reason))
        for cell, number, outcome, reason in zip(
            rows["cell"], rows["round"], rows["outcome"], rows["reason"], strict=True
        )
    }
    slots = []
    for cell in cells:
        for number in rounds if cell in tried else (0,):
            outcome, reason = outcomes.get((cell, number), ("missing", "not run"))
            slots.append(Slot(cell=cell, round=number, outcome=outcome, reason=reason))
    broken = {slot.round for slot in slots if slot.outcome != "valid"}
    return Audit(
        rounds=rounds,
        complete_rounds=tuple(number for number in rounds if number not in broken),
        slots=tuple(slots),
        outcomes=dict(Counter(slot.outcome for slot in slots)),
        late=late_trials(rows, started(rows)),
        varied_order=varied_order(rows),
    )
