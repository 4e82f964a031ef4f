"""One invocation: from a plan through its trials to their records.

Others are kept out, what an earlier run left is delivered, what is to do is run, round by round.
Records are on disk before MLflow hears of them; one that cannot be sent waits for the next run.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from slm_energy import cache
from slm_energy.cell import Cell, Trial
from slm_energy.errors import ModelError, TrackingError
from slm_energy.models import source
from slm_energy.planning.grid import Grid
from slm_energy.planning.plan import Past, Plan, Planned
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.running.cluster import ClusterExecutor
from slm_energy.running.interrupts import Interrupts
from slm_energy.running.local import LocalExecutor, Place, refuse_or_tell
from slm_energy.running.progress import Display
from slm_energy.running.resume import frozen, machine_of, plan_of
from slm_energy.running.summary import SweepSummary, TrialSummary, told
from slm_energy.serialization import readable, to_plain
from slm_energy.store import artifacts
from slm_energy.store.mlflow_schema import PLAN_FILE, interrupted
from slm_energy.store.outbox import Spool
from slm_energy.store.sync import deliver
from slm_energy.store.tracking import Store, open_store
from slm_energy.worker.child import LOG_FILE

Settled = Callable[[str], str | None]
"""Asked, with the machine's name, before each round after the first: why no more rounds are needed,
or None."""


def run(grid: Grid, console: Console, settled: Settled = lambda machine: None) -> SweepSummary:
    """Run what is to do; never stop for a trial that fails.

    Args:
        grid: what is asked for.
        console: told how it goes.
        settled: asked between rounds whether the study may end.

    Raises:
        SlmEnergyError: the store cannot be opened, a record cannot be written,
            measurement=strict found no sensor, or study.busy=refuse and another sweep measures.
    """
    study, launcher = grid.config.study, grid.config.launcher
    pending = Path(grid.config.tracking.folder).absolute() / "pending"
    spool = Spool(pending / machine_of(grid.config))
    busy = refuse_or_tell(study, console, "uses this tracking.folder")
    with Interrupts(console) as interrupts:
        place: Place = (
            LocalExecutor(study, spool.folder, console)
            if launcher is None
            else ClusterExecutor(launcher, study, spool.folder, lambda: interrupts.asked)
        )
        with place, spool.held(busy):
            return _Invocation(grid, console, place, spool, settled, interrupts).run()


class _Invocation:
    """The state of one invocation: its store, its parent run, and what it has done."""

    def __init__(
        self,
        grid: Grid,
        console: Console,
        place: Place,
        spool: Spool,
        settled: Settled,
        interrupts: Interrupts,
    ) -> None:
        self._grid = grid
        self._study = grid.config.study
        self._console = console
        self._place = place
        self._spool = spool
        self._settled = settled
        self._interrupts = interrupts
        self._id = uuid.uuid4().hex[:8]
        self._store = open_store(grid.config.tracking)
        self._cache = cache.root(grid.config.cache.folder)
        self._frozen = frozen(grid)
        self._changed: tuple[str, ...] = ()
        self._begun_unix_s = time.time()
        self._parent: str | None = None
        self._running: dict[str, Planned] = {}
        self._told: list[TrialSummary] = []
        self._unsent = 0
        self._why_settled: str | None = None

    def run(self) -> SweepSummary:
        status = "FAILED"
        try:
            with self._console.status("looking up what is done ..."):
                # In this order: what a job completes in between is delivered, and not run again.
                adopted = self._adopt()
                if isinstance(self._store, Store):
                    deliver(self._spool, self._store, self._study.name)
                    self._store.close_left(self._study.name, self._place.machine)
                plan, history = plan_of(self._grid, self._frozen, self._store, self._place.machine)
            self._changed = plan.changed
            self._note_unsupported(plan, history)
            status = self._run_trials(plan, adopted)
        finally:
            self._close_parent(status)
        return SweepSummary(
            trials=tuple(self._told),
            unsent=self._unsent,
            plan=plan,
            parent=self._parent,
            interrupted=status == "KILLED",
            settled=self._why_settled,
        )

    def _adopt(self) -> list[Trial]:
        """Trials of an earlier invocation that still run elsewhere; what else it began goes."""
        unfinished = self._spool.unfinished()
        adopted = self._place.adopt(unfinished)
        going_on = {entry.id for entry in adopted}
        for folder in unfinished:
            if folder.name not in going_on:
                shutil.rmtree(folder)
        return adopted

    def _open_parent(self) -> str:
        if self._parent is None:
            machine = self._place.machine
            note = f"Sweep `{self._id}` of study **{self._study.name}** on `{machine}`"
            self._parent = self._store.open_sweep(
                self._study.name, self._id, machine, note, self._frozen.digest
            )
        return self._parent

    def _close_parent(self, status: str) -> None:
        if self._parent is None:
            return
        try:
            self._store.close_sweep(self._parent, status)
        except TrackingError as error:
            text = f"[yellow]the sweep's own run stays open[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)

    def _note_unsupported(self, plan: Plan, history: Sequence[Past]) -> None:
        """One run per cell that cannot run here, so that the UI shows why it is missing."""
        known = {(past.cell, past.reason) for past in history if past.outcome == "unsupported"}
        for cell, reason in plan.unsupported:
            if (cell.id, reason) in known:
                continue
            entry = self._trial(cell, plan.labels[cell.id], round_number=0, order=0, attempt=1)
            self._keep(trial.unsupported(entry, reason), self._spool.new(entry.id))

    def _run_trials(self, plan: Plan, adopted: Sequence[Trial]) -> str:
        """Run what is to do; return how the sweep ended, in MLflow's words."""
        todo = plan.with_status("to do")
        if not todo or (not adopted and self._enough(todo[0].round)):
            return "FINISHED"
        running = {(entry.cell.id, entry.round): entry.id for entry in adopted}
        blocks: dict[int, deque[Planned]] = {}
        for planned in todo:
            block = blocks.setdefault(planned.round, deque())
            entry_id = running.get((planned.cell.id, planned.round))
            if entry_id is None:
                block.append(planned)
            else:
                self._running[entry_id] = planned
        self._place.ready({planned.cell.settings.measurement for planned in todo})
        summary = plan.summary() | {"frozen": to_plain(self._frozen)}
        self._store.attach(self._open_parent(), {PLAN_FILE: readable(summary).encode()})
        self._interrupts.running = True
        try:
            with Display(self._console, len(todo), plan.expected_s) as display:
                for number, block in blocks.items():
                    if number > todo[0].round and self._enough(number):
                        break
                    self._run_block(block, display)
        except KeyboardInterrupt:
            return "KILLED"
        finally:
            self._interrupts.running = False
        return "FINISHED"

    def _enough(self, number: int) -> bool:
        """Whether the study may end before this round."""
        self._why_settled = self._settled(self._place.machine) if number > 1 else None
        return self._why_settled is not None

    def _run_block(self, block: deque[Planned], display: Display) -> None:
        """Run one round; what fails goes to the end of it while attempts are left.

        Raises:
            KeyboardInterrupt: a person stopped the sweep; nothing runs any more.
        """

        def progress(entry: Trial, phase: str, share: float) -> None:
            self._interrupts.answer()
            display.phase(entry.label, entry.round, phase, share)

        while block or self._running:
            ended: list[tuple[Record, Path]] = []
            while block and self._place.room and not ended and not self._interrupts.asked:
                ended = self._start(block.popleft())
            if self._interrupts.asked and not self._running:
                raise KeyboardInterrupt
            for record, folder in ended or self._place.ended(progress):
                self._keep(record, folder)
                if interrupted(record):
                    raise KeyboardInterrupt
                self._trim_cache(record)
                planned = self._running.pop(record.trial.id, None)
                if planned is None:  # adopted, and not in this plan
                    continue
                attempts = planned.attempts + 1
                if record.outcome.name == "valid" or attempts >= self._study.attempts:
                    display.finished(record)
                else:
                    display.retrying(record)
                    block.append(dataclasses.replace(planned, attempts=attempts))

    def _start(self, planned: Planned) -> list[tuple[Record, Path]]:
        """Begin a trial; return its record at once if its model cannot be had."""
        entry = self._trial(
            planned.cell,
            planned.label,
            round_number=planned.round,
            order=planned.order,
            attempt=planned.attempts + 1,
        )
        folder = self._spool.new(entry.id)
        self._running[entry.id] = planned
        try:
            model_path = source.fetch(planned.cell.settings.model, self._cache)
        except ModelError as error:
            return [(trial.failed(entry, str(error), time.time_ns(), {}), folder)]
        self._place.start(dataclasses.replace(entry, model_path=str(model_path)), folder)
        return []

    def _trim_cache(self, record: Record) -> None:
        """Make room for what was just derived; what this invocation used stays."""
        if not set(record.phases_s) & trial.PREPARATIONS.keys():
            return
        limit_bytes = self._grid.config.cache.limit_gb * 1e9
        for entry in cache.trim(self._cache, limit_bytes, spare_since_unix_s=self._begun_unix_s):
            text = f"[dim]cache: removed {entry.kind} {entry.path.name}, used longest ago[/]"
            self._console.print(text, highlight=False, soft_wrap=True)

    def _trial(
        self, cell: Cell, label: str, *, round_number: int, order: int, attempt: int
    ) -> Trial:
        asked = cell.settings.engine.python
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
            python=None if asked is None else self._grid.pythons.get(asked),
            reference=self._study.reference,
            plan=self._frozen.digest,
            changed=self._changed,
        )

    def _keep(self, record: Record, folder: Path) -> None:
        """Write the record to disk, then send it; only then drop the folder."""
        prompts = self._grid.prompts.get(record.trial.cell.workload_digest, {})
        with self._interrupts.held():
            self._spool.keep(record, folder, prompts)
        log = f"/{LOG_FILE}" if (folder / LOG_FILE).is_file() else ""
        try:
            place = self._store.store(record, folder, self._open_parent(), self._place.machine)
            if isinstance(self._store, Store):
                artifacts.remove(folder)
        except TrackingError as error:
            self._unsent += 1
            place = str(folder)
            kept = escape(shlex.quote(str(folder)))
            text = f"[yellow]not sent, kept in {kept}[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)
        self._told.append(told(record, place + log))
