"""One invocation: from a grid to a plan, and through its trials.

    preview   the plan as it stands
    run       lock, deliver what an earlier run left, run what is to do

Records are on disk before MLflow hears of them; one that cannot be sent waits for the next run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs
from rich.console import Console
from rich.markup import escape

from slm_energy import artifacts, cache, models, trial
from slm_energy.cell import Cell, Trial
from slm_energy.config import CacheConfig, MeasurementConfig
from slm_energy.errors import ModelError, SlmEnergyError, TrackingError, one_line
from slm_energy.grid import Grid
from slm_energy.machine import machine_id, measuring
from slm_energy.meters.sampler import Sampler
from slm_energy.plain import readable
from slm_energy.plan import Past, Plan, Planned, make_plan
from slm_energy.progress import Display
from slm_energy.record import Record
from slm_energy.tracking import Store, exists


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What an invocation did.

    Attributes:
        records: the trials it ran, in order, each with where its files lie.
        unsent: records that wait on disk because the store could not take them.
        plan: what it had planned.
        parent: run id of the invocation; None when there was nothing to do.
        interrupted: a person stopped it.
    """

    records: tuple[tuple[Record, str], ...]
    unsent: int
    plan: Plan
    parent: str | None
    interrupted: bool

    @property
    def all_valid(self) -> bool:
        """Every trial of the plan has a valid record that was sent."""
        valid = sum(1 for record, _ in self.records if record.outcome.name == "valid")
        missing = len(self.plan.trials) - len(self.plan.with_status("done")) - valid
        return bool(self.plan.trials) and not self.unsent and not missing


def cache_folder(config: CacheConfig) -> Path:
    """Where what is derived from weights is kept."""
    return Path(config.folder or platformdirs.user_cache_dir("slm_energy")).expanduser().absolute()


def plan_of(grid: Grid, history: Sequence[Past]) -> Plan:
    """The plan of a resolved grid."""
    return make_plan(
        grid.config.study,
        grid.cells,
        excluded=grid.excluded,
        unsupported=grid.unsupported,
        history=history,
    )


def preview(grid: Grid) -> Plan:
    """The plan as it stands now, from what the store knows; nothing is run, locked or created."""
    tracking = grid.config.tracking
    history = (
        Store(tracking).history(grid.config.study.name, machine_id()) if exists(tracking) else ()
    )
    return plan_of(grid, history)


def run(grid: Grid, console: Console) -> Ended:
    """Run what is to do; never stop for a trial that fails.

    Raises:
        SlmEnergyError: the store cannot be opened, a record cannot be written,
            measurement=strict found no sensor, or study.busy=refuse and another sweep measures.
    """

    def busy(path: Path) -> None:
        told = f"another sweep is measuring on this machine ({path})"
        if grid.config.study.busy == "refuse":
            raise SlmEnergyError(f"{told}: wait for it to end, or set study.busy=wait")
        console.print(f"{told}; waiting for it to end", soft_wrap=True)

    with measuring(busy), _terminable():
        return _Invocation(grid, console).run()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that a running trial is recorded either way."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Invocation:
    """The state of one invocation: its store, its parent run, and what it has done."""

    def __init__(self, grid: Grid, console: Console) -> None:
        self._grid = grid
        self._study = grid.config.study
        self._console = console
        self._id = uuid.uuid4().hex[:8]
        self._machine = machine_id()
        self._store = Store(grid.config.tracking)
        self._pending = Path(grid.config.tracking.folder).absolute() / "pending" / self._machine
        self._cache = cache_folder(grid.config.cache)
        self._begun_unix_s = time.time()
        self._parent: str | None = None
        self._records: list[tuple[Record, str]] = []
        self._unsent = 0

    def run(self) -> Ended:
        status = "FAILED"
        try:
            self._deliver()
            history = self._store.history(self._study.name, self._machine)
            plan = plan_of(self._grid, history)
            self._note_unsupported(plan, history)
            status = self._run_trials(plan)
        finally:
            self._close_parent(status)
        return Ended(
            records=tuple(self._records),
            unsent=self._unsent,
            plan=plan,
            parent=self._parent,
            interrupted=status == "KILLED",
        )

    def _open_parent(self) -> str:
        if self._parent is None:
            note = f"Sweep `{self._id}` of study **{self._study.name}** on `{self._machine}`"
            self._parent = self._store.open_sweep(self._study.name, self._id, self._machine, note)
        return self._parent

    def _close_parent(self, status: str) -> None:
        if self._parent is None:
            return
        try:
            self._store.close_sweep(self._parent, status)
        except TrackingError as error:
            text = f"[yellow]the sweep's own run stays open[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)

    def _deliver(self) -> None:
        """Send what an earlier invocation wrote but could not send; drop what it did not finish."""
        for folder in sorted(self._pending.glob("*/")):
            if artifacts.is_complete(folder):
                try:
                    record = artifacts.read(folder)
                except (ValueError, OSError) as error:
                    raise TrackingError(
                        f"{folder} holds a record that cannot be read ({one_line(error)}):"
                        " move it away"
                    ) from error
                if record.trial.study == self._study.name:
                    self._store.store(record, folder, self._open_parent(), self._machine)
                    shutil.rmtree(folder)
            else:
                shutil.rmtree(folder)

    def _note_unsupported(self, plan: Plan, history: Sequence[Past]) -> None:
        """One run per cell that cannot run here, so that the UI shows why it is missing."""
        known = {(past.cell, past.reason) for past in history if past.outcome == "unsupported"}
        for cell, reason in plan.unsupported:
            if (cell.id, reason) in known:
                continue
            entry = self._trial(cell, plan.labels[cell.id], round_number=0, order=0, attempt=1)
            folder = self._folder(entry)
            self._keep(trial.unsupported(entry, reason), folder)

    def _run_trials(self, plan: Plan) -> str:
        """Run what is to do; return how the sweep ended, in MLflow's words."""
        todo = plan.with_status("to do")
        if not todo:
            return "FINISHED"
        blocks: dict[int, deque[Planned]] = {}
        for planned in todo:
            blocks.setdefault(planned.round, deque()).append(planned)
        with contextlib.ExitStack() as stack:
            meterings = {planned.cell.settings.measurement for planned in todo}
            samplers = {each: stack.enter_context(self._sampler(each)) for each in meterings}
            summary = readable(plan.summary()).encode()
            self._store.attach(self._open_parent(), {"plan.json": summary})
            display = stack.enter_context(Display(self._console, len(todo), plan.expected_s))
            try:
                for block in blocks.values():
                    self._run_block(block, samplers, display)
            except (KeyboardInterrupt, trial.Interrupted):
                return "KILLED"
        return "FINISHED"

    def _run_block(
        self,
        block: deque[Planned],
        samplers: Mapping[MeasurementConfig, Sampler | None],
        display: Display,
    ) -> None:
        """Run one round; what fails goes to the end of it while attempts are left."""
        while block:
            planned = block.popleft()
            sampler = samplers[planned.cell.settings.measurement]
            record = self._run_one(planned, sampler, display)
            attempts = planned.attempts + 1
            if record.outcome.name == "valid" or attempts >= self._study.attempts:
                display.finished(record)
            else:
                display.retrying(record)
                block.append(dataclasses.replace(planned, attempts=attempts))

    def _run_one(self, planned: Planned, sampler: Sampler | None, display: Display) -> Record:
        entry = self._trial(
            planned.cell,
            planned.label,
            round_number=planned.round,
            order=planned.order,
            attempt=planned.attempts + 1,
        )
        folder = self._folder(entry)

        def progress(phase: str, share: float) -> None:
            display.phase(planned.label, planned.round, phase, share)

        try:
            model_path = models.fetch(planned.cell.settings.model, self._cache)
            entry = dataclasses.replace(entry, model_path=str(model_path))
            record = trial.run(entry, folder, sampler, progress)
        except ModelError as error:
            record = trial.failed(entry, str(error), time.time_ns(), {})
        except trial.Interrupted as stop:
            self._keep(stop.record, folder)
            raise
        except OSError as error:
            raise _cannot_write(folder, error) from error
        self._keep(record, folder)
        if set(record.phases_s) & trial.PREPARATIONS.keys():
            self._trim_cache()
        return record

    def _trim_cache(self) -> None:
        """Make room for what was just derived; what this invocation used stays."""
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
        )

    def _folder(self, entry: Trial) -> Path:
        folder = self._pending / entry.id
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        return folder

    def _keep(self, record: Record, folder: Path) -> None:
        """Write the record to disk, then send it; only then drop the folder."""
        prompts = self._grid.prompts[record.trial.cell.workload_digest]
        try:
            artifacts.write(folder, record, prompts)
            shutil.rmtree(folder / trial.EXCHANGE, ignore_errors=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        try:
            place = self._store.store(record, folder, self._open_parent(), self._machine)
            shutil.rmtree(folder)
        except TrackingError as error:
            self._unsent += 1
            place = str(folder)
            text = f"[yellow]not sent, kept in {folder}[/]: {escape(str(error))}"
            self._console.print(text, soft_wrap=True)
        self._records.append((record, place))

    @contextlib.contextmanager
    def _sampler(self, measurement: MeasurementConfig) -> Iterator[Sampler | None]:
        if measurement.mode == "off":
            yield None
            return
        self._pending.mkdir(parents=True, exist_ok=True)
        with Sampler(measurement, self._pending) as sampler:
            for note in sampler.notes:
                self._console.print(f"[dim]{escape(note)}[/]", highlight=False, soft_wrap=True)
            yield sampler


def _cannot_write(path: Path, error: OSError) -> SlmEnergyError:
    return SlmEnergyError(
        f"cannot write {path}: {error.strerror or error}; free space or set tracking.folder=DIR,"
        " then run the same command again: finished trials are kept"
    )
