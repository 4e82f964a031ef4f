"""Plan and run a study from Python, with the words of the command line."""

from __future__ import annotations

import dataclasses
import shlex
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.api import display
from slm_energy.api.reports import StudyReport, of_stored
from slm_energy.config import files
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.duration import duration
from slm_energy.errors import AnalysisError, ConfigError, SlmEnergyError, TrackingError
from slm_energy.places import file_errors
from slm_energy.planning.grid import Grid, resolve
from slm_energy.planning.plan import Plan, Status
from slm_energy.running import stop_rule, sweep
from slm_energy.running.report import attach, study_report
from slm_energy.running.resume import current_plan
from slm_energy.running.summary import SweepSummary
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    import pandas as pd

Words = str | Sequence[str]
"""What follows `slm-energy` on the command line: a list of words, or one string as in a shell."""

_STATUSES: tuple[Status, ...] = ("done", "to do", "given up")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StudyPlan:
    """What a grid would run. In a notebook it shows its cells.

    Attributes:
        plan: all of it.
    """

    plan: Plan

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.plan.study.name

    @property
    def expected_s(self) -> float | None:
        """Seconds that the trials to do should take; None where nothing like them has run yet."""
        return self.plan.expected_s

    @property
    def guessed_s(self) -> float | None:
        """The same with guesses for cells like which nothing has run; None where there is none."""
        return self.plan.guessed_s

    @property
    def trials(self) -> pd.DataFrame:
        """The planned trials, one row each, in the order in which they run.

        Columns: `order`, `round`, `cell` (id), `label`, `status` (`to do`, `done` or `given up`),
        `attempts`, `expected_s` (NaN where unknown).
        """
        import pandas as pd

        names = ("order", "round", "cell", "label", "status", "attempts", "expected_s")
        rows = (
            {name: getattr(trial, name) for name in names} | {"cell": trial.cell.id}
            for trial in self.plan.trials
        )
        return pd.DataFrame(rows, columns=list(names)).astype({"expected_s": float})

    @property
    def cells(self) -> pd.DataFrame:
        """The cells, one row each, those that are not run last.

        Columns: `label`, `done`, `to do` and `given up` (numbers of rounds), `expected_s` (seconds
        per trial, NaN where unknown), `guess_s` (the same for cells like which nothing has run),
        `memory_gb` (its largest process; NaN where unknown), `note` (why it is not run; empty if it
        is).
        """
        import pandas as pd

        counts = Counter((trial.cell.id, trial.status) for trial in self.plan.trials)
        planned = {trial.cell.id: trial for trial in self.plan.trials}
        rows: list[tuple[object, ...]] = [
            (
                trial.label,
                *(counts[cell, status] for status in _STATUSES),
                trial.expected_s,
                self.plan.guesses_s.get(cell),
                None if (memory := self.plan.needs[cell].memory_bytes) is None else memory / 1e9,
                "",
            )
            for cell, trial in planned.items()
        ]
        left_out = [(self.plan.labels[c.id], f"unsupported: {r}") for c, r in self.plan.unsupported]
        left_out += [(each.label, f"excluded: {each.reason}") for each in self.plan.excluded]
        rows += [(label, 0, 0, 0, None, None, None, note) for label, note in left_out]
        numbers = ["expected_s", "guess_s", "memory_gb"]
        frame = pd.DataFrame(rows, columns=["label", *_STATUSES, *numbers, "note"])
        return frame.astype(dict.fromkeys(numbers, float))

    def _repr_html_(self) -> str:
        """The cells, and what has changed since the study began."""
        changes = (f"Changed since the study began: {change}" for change in self.plan.changed)
        return display.block(
            display.paragraph(repr(self)),
            display.table(self.cells),
            *(display.paragraph(change, strong=True) for change in changes),
        )

    def __repr__(self) -> str:
        todo, study = len(self.plan.with_status("to do")), self.plan.study
        seconds, guess = self.expected_s, self.guessed_s
        time = "unknown" if guess is None else f"about {duration(guess)}"
        time += " (a guess)" if seconds is None and guess is not None else ""
        return (
            f"Study {study.name}: rounds {study.rounds}, order {study.order}, seed {study.seed};"
            f" {len(self.plan.trials)} trials, {todo} to do, expected time {time}"
        )

    def __str__(self) -> str:
        return f"{self!r}\n{self.cells.to_string(index=False)}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SweepResult:
    """What a call of `run` did. In a notebook it shows outcomes and reasons.

    Attributes:
        summary: all of it.
        tracking: the store that has the records: a folder or a URI, as `load_trials` takes it.
        report: of the whole study; None where its trials allow none, or `tracking=offline`.
    """

    summary: SweepSummary
    tracking: str
    report: StudyReport | None

    @property
    def study(self) -> str:
        """Name of the study, for `load_trials(result.study, result.tracking)`."""
        return self.summary.plan.study.name

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome to number of trials that this call ran: none if all were done before."""
        return dict(Counter(trial.outcome for trial in self.summary.trials))

    @property
    def all_valid(self) -> bool:
        """Every planned trial now has a valid record in the store."""
        return self.summary.all_valid and not self.summary.unsent

    @property
    def interrupted(self) -> bool:
        """A person stopped it: the same call resumes."""
        return self.summary.interrupted

    @property
    def trials(self) -> pd.DataFrame:
        """The trials that this call ran, one row each, in order.

        Columns: `label`, `cell` (id), `round` (0 notes an unsupported cell), `outcome`, `reasons`,
        `flags` (what a reader should know of a valid one), `log` (path or URI).
        """
        import pandas as pd

        rows = [
            {
                "label": trial.label,
                "cell": trial.cell,
                "round": trial.round,
                "outcome": trial.outcome,
                "reasons": "; ".join(trial.reasons),
                "flags": "; ".join(f"{name}: {detail}" for name, detail in trial.flags),
                "log": trial.location,
            }
            for trial in self.summary.trials
        ]
        names = ["label", "cell", "round", "outcome", "reasons", "flags", "log"]
        return pd.DataFrame(rows, columns=names)

    def _repr_html_(self) -> str:
        """Outcomes, what did not end valid, and the findings."""
        shown = self.trials
        failed = shown[shown["outcome"] != "valid"][["label", "round", "outcome", "reasons", "log"]]
        findings = self.report.findings if self.report is not None else ()
        return display.block(
            display.paragraph(repr(self)),
            display.table(failed),
            *(display.paragraph(finding, strong=True) for finding in findings),
        )

    def __repr__(self) -> str:
        summary, done = self.summary, len(self.summary.plan.with_status("done"))
        ran = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        parts = [ran or "nothing was left to run"]
        parts += [f"{done} done before"] if done else []
        parts += [f"ended early, {summary.stop_reason}"] if summary.stop_reason else []
        parts += ["interrupted, the same call resumes"] if summary.interrupted else []
        parts += [f"{summary.unsent} not sent yet"] if summary.unsent else []
        return f"Study {self.study}: {'; '.join(parts)}"


def plan(words: Words = ()) -> StudyPlan:
    """Show what `run` would do with the same words; nothing is run, locked or created.

    Args:
        words: as on the command line: `["-m", "engine=torch,onnx", "study.rounds=3"]`, or the same
            in one string.

    Raises:
        SlmEnergyError: a word is not valid, or a model, workload or engine does not exist.
    """
    configs = _composed(words)
    with file_errors(files.places(configs)):
        return StudyPlan(plan=current_plan(resolve(configs)))


def run(words: Words = (), *, quiet: bool = False) -> SweepResult:
    """Run a study, or what is left of it, as the command line does; keep its report in the store.

    It returns when all trials have ended. Interrupt once (Ctrl-C, or the notebook's stop button) to
    end after the running trial, twice to end now. The same call resumes.

    Args:
        words: as on the command line: `["-m", "engine=torch,onnx", "study.rounds=3"]`, or the same
            in one string.
        quiet: print no progress.

    Raises:
        SlmEnergyError: a word is not valid, a model, workload, engine or store cannot be used,
            another sweep measures (`study.busy=refuse`), or this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise SlmEnergyError(
            "run() handles Ctrl-C and SIGTERM, which Python allows in the main thread only: call it"
            " there, or start `python -m slm_energy` as a process"
        )
    configs = _composed(words)
    console = display.progress_console(quiet=quiet)
    with file_errors(files.places(configs)):
        grid = resolve(configs)
        summary = sweep.run(grid, console, stop_rule.stopping_rule(grid, console))
    return SweepResult(
        summary=summary,
        tracking=_place(grid.config.tracking),
        report=_final_report(grid, summary, console),
    )


def _composed(words: Words) -> list[RunConfig]:
    """The configurations that words ask for: at least one.

    Raises:
        ConfigError: they are not valid, or ask for no trial.
    """
    try:
        split = shlex.split(words) if isinstance(words, str) else list(words)
    except ValueError as error:
        raise ConfigError(f"{words!r} cannot be split into words: {error}") from None
    configs = compose_grid(split)
    if not configs:
        raise ConfigError(f"{shlex.join(split)}: this only prints; use it on the command line")
    return configs


def _final_report(grid: Grid, summary: SweepSummary, console: Console) -> StudyReport | None:
    """The report that a sweep ends with, kept in the store; None where there is none.

    Raises:
        TrackingError: the store cannot be used, although it took every record.
    """
    if grid.config.tracking.offline or summary.interrupted:
        return None
    study = grid.config.study.name
    try:
        store = Store(grid.config.tracking)
        report = study_report(store, {"study": study})
    except (AnalysisError, TrackingError) as error:
        if isinstance(error, TrackingError) and not summary.unsent:
            raise
        console.print(f"no report: {escape(str(error))}", soft_wrap=True)
        return None
    for gap in report.gaps:
        console.print(escape(gap), soft_wrap=True)
    rendered = report.files()
    for failure in rendered.failures:
        console.print(escape(failure.sentence()), soft_wrap=True)
    if summary.parent is not None:
        attach(report.result, rendered.contents, store, summary.parent)
    return of_stored(report)


def _place(tracking: TrackingConfig) -> str:
    return tracking.uri or str(Path(tracking.folder).absolute())
