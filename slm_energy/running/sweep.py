"""One invocation: from a plan through its trials to their records.

It locks out other sweeps, delivers what an earlier invocation left, and runs what is to do, round
by round. Records are on disk before they are sent to MLflow; one that cannot be sent stays there
for the next invocation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from slm_energy import cache
from slm_energy.cell import Cell, Trial, cell_levels, varying_names
from slm_energy.errors import (
    ConfigError,
    ModelError,
    SlmEnergyError,
    TrackingError,
)
from slm_energy.models import source
from slm_energy.places import file_error
from slm_energy.planning.freeze import Frozen, scope_change
from slm_energy.planning.grid import Grid
from slm_energy.planning.plan import Past, Plan, Planned
from slm_energy.record import Record
from slm_energy.running.cluster import ClusterExecutor
from slm_energy.running.interrupts import Interrupts
from slm_energy.running.local import Executor, LocalExecutor, when_busy
from slm_energy.running.progress import Display
from slm_energy.running.resume import Resumed, frozen, machine_of, plan_of
from slm_energy.running.slurm import REPEATS
from slm_energy.running.summary import SweepSummary, TrialSummary, summarise
from slm_energy.running.trial import PREPARATIONS, asked, failed, unsupported
from slm_energy.serialization import readable, to_plain
from slm_energy.store import artifacts
from slm_energy.store.mlflow_schema import PLAN_FILE, interrupted
from slm_energy.store.outbox import Spool
from slm_energy.store.sync import deliver
from slm_energy.store.tracking import Store, open_store
from slm_energy.worker.child import LOG_FILE

StoppingRule = Callable[[str], str | None]
"""Called with the machine's name before each round after the first; returns why no more rounds are
needed, or None to continue."""


def run(
    grid: Grid, console: Console, stopping_rule: StoppingRule = lambda machine: None
) -> SweepSummary:
    """Run what is to do; never stop for a trial that fails.

    Args:
        grid: the resolved configurations.
        console: for progress, notes and warnings.
        stopping_rule: decides between rounds whether the study may end.

    Raises:
        OSError: a file or folder cannot be used.
        SlmEnergyError: the store cannot be opened, a record cannot be written,
            measurement=strict found no sensor, or study.busy=refuse and another sweep measures.
    """
    study, launcher = grid.config.study, grid.config.launcher
    pending = Path(grid.config.tracking.folder).absolute() / "pending"
    spool = Spool(pending / machine_of(grid.config))
    busy = when_busy(study, console, "uses this tracking.folder")
    with Interrupts(console) as interrupts:
        executor: Executor = (
            LocalExecutor(study, spool.folder, console)
            if launcher is None
            else ClusterExecutor(
                launcher, study, spool.folder, console, lambda: interrupts.requested
            )
        )
        with executor, spool.held(busy):
            return _Invocation(grid, console, executor, spool, stopping_rule, interrupts).run()


class _Invocation:
    """The state of one invocation: its store, its parent run, and what it has done."""

    def __init__(
        self,
        grid: Grid,
        console: Console,
        executor: Executor,
        spool: Spool,
        stopping_rule: StoppingRule,
        interrupts: Interrupts,
    ) -> None:
        self._grid = grid
        self._study = grid.config.study
        self._console = console
        self._executor = executor
        self._spool = spool
        self._stopping_rule = stopping_rule
        self._interrupts = interrupts
        self._id = uuid.uuid4().hex[:8]
        self._store = open_store(grid.config.tracking)
        self._cache = cache.root(grid.config.cache.folder)
        self._frozen = frozen(grid)
        self._changed: tuple[str, ...] = ()
        self._begun_unix_s = time.time()
        self._parent: str | None = None
        self._names: dict[str, str] = {}
        self._running: dict[str, Planned] = {}
        self._hopeless: set[str] = set()
        self._summaries: list[TrialSummary] = []
        self._unsent = 0
        self._unscored = ""
        self._stop_reason: str | None = None

    def run(self) -> SweepSummary:
        status = "FAILED"
        try:
            with self._console.status("reading finished trials ..."):
                self._spool.recover()
                # In this order: what a job completes in between is delivered, not run again.
                adopted = self._adopt()
                if isinstance(self._store, Store):
                    deliver(self._spool, self._store, self._study.name)
                    self._store.close_left(self._study.name, self._executor.machine)
                resumed = plan_of(self._grid, self._frozen, self._store, self._executor.machine)
            plan = resumed.plan
            self._changed = plan.changed
            self._names = varying_names(
                plan.labels, {t.cell.id: cell_levels(t.cell) for t in plan.trials}
            )
            status = self._run_trials(resumed, adopted)
        finally:
            self._close_parent(status)
        return SweepSummary(
            trials=tuple(self._summaries),
            unsent=self._unsent,
            plan=plan,
            parent=self._parent,
            interrupted=status == "KILLED",
            stop_reason=self._stop_reason,
        )

    def _adopt(self) -> list[Trial]:
        """Trials of an earlier invocation that still run elsewhere; remove its other leftovers."""
        unfinished = self._spool.unfinished()
        adopted = self._executor.adopt(unfinished)
        running = {trial.id for trial in adopted}
        for folder in unfinished:
            if folder.name not in running:
                # Another user's may stay: nothing reads it, and that user's next sweep removes it.
                with contextlib.suppress(PermissionError):
                    shutil.rmtree(folder)
        return adopted

    def _open_parent(self) -> str:
        if self._parent is None:
            machine = self._executor.machine
            note = f"Sweep `{self._id}` of study **{self._study.name}** on `{machine}`"
            measured = self._frozen.measured
            note += f". Energy is that of: {measured}" if measured else ""
            self._parent = self._store.open_sweep(
                self._study.name, self._id, machine, note, self._frozen.digest, measured
            )
        return self._parent

    def _close_parent(self, status: str) -> None:
        try:
            if self._parent is not None:
                self._store.close_sweep(self._parent, status)
            if self._stop_reason is not None and isinstance(self._store, Store):
                study, machine = self._study.name, self._executor.machine
                self._store.note_stop(study, machine, self._stop_reason)
        except TrackingError as error:
            text = f"[yellow]the sweep's own run stays open[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)

    def _note_unsupported(self, plan: Plan, history: Sequence[Past]) -> None:
        """One run per cell that cannot run here, so that the UI shows why it is missing."""
        known = {(past.cell, past.reason) for past in history if past.outcome == "unsupported"}
        for cell, reason in plan.unsupported:
            if (cell.id, reason) in known:
                continue
            trial = self._trial(cell, plan.labels[cell.id], round_number=0, order=0, attempt=1)
            self._keep(unsupported(trial, reason), self._spool.new(trial.id))

    def _run_trials(self, resumed: Resumed, adopted: Sequence[Trial]) -> str:
        """Run what is to do; return the sweep's final status, one of MLflow's."""
        plan = resumed.plan
        todo = plan.with_status("to do")
        if not todo or (not adopted and self._enough(todo[0].round)):
            self._note_unsupported(plan, resumed.history)
            return "FINISHED"
        self._open_meters(todo, resumed.measured)
        self._note_unsupported(plan, resumed.history)
        running = {(trial.cell.id, trial.round): trial.id for trial in adopted}
        blocks: dict[int, deque[Planned]] = {}
        for planned in todo:
            block = blocks.setdefault(planned.round, deque())
            trial_id = running.get((planned.cell.id, planned.round))
            if trial_id is None:
                block.append(planned)
            else:
                self._running[trial_id] = planned
        summary = plan.summary() | {"frozen": to_plain(self._frozen)}
        self._store.attach(self._open_parent(), {PLAN_FILE: readable(summary).encode()})
        self._interrupts.running = True
        try:
            with Display(self._console, len(todo), plan.expected_s) as display:
                for number, block in blocks.items():
                    if number > todo[0].round and self._enough(number):
                        break
                    able = deque(each for each in block if each.cell.id not in self._hopeless)
                    display.left_out(len(block) - len(able))
                    self._run_block(able, display)
        except KeyboardInterrupt:
            return "KILLED"
        finally:
            self._interrupts.running = False
        return "FINISHED"

    def _open_meters(self, todo: Sequence[Planned], first: Frozen | None) -> None:
        """Open what the trials need, and see that it sums what the study's first trials summed.

        Raises:
            MeterError: measurement=strict, and the sum of a trial would lack its own device.
            ConfigError: the study began with another scope.
        """
        scopes = self._executor.ready([planned.cell.settings for planned in todo])
        self._frozen = dataclasses.replace(self._frozen, scopes=scopes)
        if first is not None and (change := scope_change(first, self._frozen)):
            raise ConfigError(
                f"study.name={self._study.name}: {change}; totals of different scope cannot be"
                " compared: make readable again what the study began with (slm-energy doctor names"
                " what is not), or begin another study with study.name=NAME"
            )

    def _enough(self, number: int) -> bool:
        """Whether the study may end before this round."""
        self._stop_reason = self._stopping_rule(self._executor.machine) if number > 1 else None
        return self._stop_reason is not None

    def _run_block(self, block: deque[Planned], display: Display) -> None:
        """Run one round; what fails goes to the end of it while attempts are left.

        Raises:
            KeyboardInterrupt: the sweep was stopped; nothing is running.
        """

        def progress(trial: Trial, phase: str, share: float) -> None:
            self._interrupts.acknowledge()
            display.phase(trial.label, trial.round, phase, share)

        while block or self._running:
            ended: list[tuple[Record, Path]] = []
            while block and self._executor.room and not ended and not self._interrupts.requested:
                ended = self._start(block.popleft())
            if self._interrupts.requested and not self._running:
                raise KeyboardInterrupt
            for record, folder in ended or self._executor.ended(progress):
                self._keep(record, folder)
                if interrupted(record):
                    raise KeyboardInterrupt
                self._trim_cache(record)
                planned = self._running.pop(record.trial.id, None)
                if planned is None:  # adopted, and not in this plan
                    continue
                again = None if record.outcome.name == "valid" else self._again(planned, record)
                if record.outcome.permanent:
                    self._hopeless.add(planned.cell.id)
                if again is None:
                    display.finished(record)
                else:
                    display.retrying(record)
                    block.append(again)

    def _again(self, planned: Planned, record: Record) -> Planned | None:
        """A trial that failed as it is to be repeated; None if it was repeated often enough."""
        if record.outcome.permanent:
            return None
        if record.ended_by:
            again = dataclasses.replace(planned, losses=planned.losses + 1)
            return again if again.losses <= REPEATS else None
        again = dataclasses.replace(planned, attempts=planned.attempts + 1)
        return again if again.attempts < self._study.attempts else None

    def _start(self, planned: Planned) -> list[tuple[Record, Path]]:
        """Start a trial; return its record at once if its model is not available."""
        trial = self._trial(
            planned.cell,
            planned.label,
            round_number=planned.round,
            order=planned.order,
            attempt=planned.attempts + 1,
        )
        folder = self._spool.new(trial.id)
        self._running[trial.id] = planned
        try:
            model_path = source.fetch(planned.cell.settings.model, self._cache)
        except ModelError as error:
            record = failed(trial, str(error), time.time_ns(), permanent=error.permanent)
            return [(record, folder)]
        self._executor.start(dataclasses.replace(trial, model_path=str(model_path)), folder)
        return []

    def _trim_cache(self, record: Record) -> None:
        """Keep the cache within its limit after an addition; what this invocation used stays."""
        if not set(record.phases_s) & PREPARATIONS.keys():
            return
        limit_bytes = self._grid.config.cache.limit_gb * 1e9
        for entry in cache.trim(self._cache, limit_bytes, spare_since_unix_s=self._begun_unix_s):
            text = f"[dim]cache: removed {entry.kind} {entry.path.name}, the least recently used[/]"
            self._console.print(text, highlight=False, soft_wrap=True)

    def _trial(
        self, cell: Cell, label: str, *, round_number: int, order: int, attempt: int
    ) -> Trial:
        python = cell.settings.engine.python
        return Trial(
            id=uuid.uuid4().hex,
            study=self._study.name,
            sweep=self._id,
            cell=cell,
            label=label,
            round=round_number,
            order=order,
            attempt=attempt,
            model_path="",
            cache_path=str(self._cache),
            timeout_s=self._study.timeout_s,
            python=None if python is None else self._grid.pythons.get(python),
            reference=self._study.reference,
            plan=self._frozen.digest,
            changed=self._changed,
            name=self._names.get(cell.id, ""),
        )

    def _keep(self, record: Record, folder: Path) -> None:
        """Write the record to disk, then send it; only then remove the folder.

        Raises:
            SlmEnergyError: it cannot be written; the message says where else it was kept.
        """
        with self._interrupts.held():
            prompts = asked(folder)
            try:
                self._spool.keep(record, folder, prompts)
            except OSError as error:
                raise self._kept_elsewhere(record, folder, prompts, error) from error
        written = folder / LOG_FILE
        log = f"/{LOG_FILE}" if written.is_file() and written.stat().st_size else ""
        try:
            location = self._store.store(
                record, folder, self._open_parent(), self._executor.machine
            )
            if isinstance(self._store, Store):
                artifacts.remove(folder)
        except TrackingError as error:
            self._unsent += 1
            location = str(folder)
            kept = escape(shlex.quote(str(folder)))
            text = f"[yellow]not sent, kept in {kept}[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)
        self._summaries.append(summarise(record, location + log))
        if record.unscored and record.unscored != self._unscored:
            self._unscored = record.unscored
            what = "" if record.scores else "answers are not scored: "
            text = f"[dim]{what}{escape(record.unscored)}[/]"
            self._console.print(text, highlight=False, soft_wrap=True)

    def _kept_elsewhere(
        self, record: Record, folder: Path, prompts: Mapping[str, str], error: OSError
    ) -> SlmEnergyError:
        """Keep in TMPDIR what was measured and cannot be kept in its folder."""
        cannot = file_error(error, [("tracking.folder", folder)])
        try:
            kept = shlex.quote(str(self._spool.keep_elsewhere(record, prompts)))
        except OSError as second:
            return SlmEnergyError(
                f"{cannot}. The trial that has just ended is lost: TMPDIR cannot be used either"
                f" ({second.strerror}). The same command runs it again"
            )
        return SlmEnergyError(
            f"{cannot}. The trial that has just ended is kept in {kept}: the same command, with the"
            " same TMPDIR, stores it and goes on"
        )
