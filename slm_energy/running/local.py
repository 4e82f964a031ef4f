"""Trials on this machine, one at a time, under its lock.

`Executor` is what a sweep needs of the place where its trials run; `cluster.py` has the other one.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape

from slm_energy.cell import Settings, Trial
from slm_energy.config.groups import MeasurementConfig, StudyConfig
from slm_energy.errors import MeterError, SlmEnergyError
from slm_energy.machine import machine_id, measuring
from slm_energy.record import Record
from slm_energy.running.gate import Gate
from slm_energy.running.scoring import Interrupted, scored
from slm_energy.running.trial import run as run_trial
from slm_energy.sampler.client import Sampler
from slm_energy.scope import Scope, of_sources, refusals
from slm_energy.scratch import collect
from slm_energy.worker.forkserver import Templates

ReportProgress = Callable[[Trial, str, float], None]
"""Called about once a second with a running trial, its phase, and the share of it that is done."""


class Executor(Protocol):
    """Runs trials; entered before the store is read, left when the sweep ends.

    Attributes:
        machine: its name in the store.
    """

    machine: str

    def __enter__(self) -> Self:
        """Keep other sweeps out."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave no process behind."""

    def adopt(self, unfinished: Sequence[Path]) -> list[Trial]:
        """Take over trials that an earlier invocation started and that are still running.

        Args:
            unfinished: folders of trials without a record.

        Returns:
            Those whose records `ended` will return.
        """

    def ready(self, coming: Iterable[Settings]) -> tuple[Scope, ...]:
        """Prepare for the coming trials.

        Returns:
            The scopes of their sums; empty if they are not known yet or nothing is metered.

        Raises:
            MeterError: `measurement.mode=strict`, and nothing can be measured, or the sum of a
                trial would not contain the device that it computes on.
        """

    @property
    def room(self) -> bool:
        """Whether another trial may be started now."""

    def start(self, trial: Trial, folder: Path) -> None:
        """Begin a trial in an empty folder of its own."""

    def ended(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        """Wait until at least one trial has ended; return its record, and its folder.

        After an interrupt the running trials are gone, and their records say so
        (`mlflow_schema.interrupted`).

        Raises:
            OSError: a folder cannot be written.
        """


class LocalExecutor:
    """This machine."""

    def __init__(
        self, study: StudyConfig, folder: Path, console: Console, rest_file: Path | None = None
    ) -> None:
        """Do nothing yet: work begins when it is entered.

        Args:
            study: its settings.
            folder: for the log of the sampling process.
            console: for notes and warnings.
            rest_file: see `Gate`.
        """
        self.machine = machine_id()
        self._study = study
        self._folder = folder
        self._console = console
        self._rest_file = rest_file
        self._samplers: dict[MeasurementConfig, Sampler | None] = {}
        self._gates: dict[MeasurementConfig, Gate] = {}
        self._next: tuple[Trial, Path] | None = None
        self._interrupted = False
        self._stack = contextlib.ExitStack()
        self._templates = Templates()

    def __enter__(self) -> Self:
        """Take the machine's lock.

        Raises:
            SlmEnergyError: `study.busy=refuse` and another sweep holds it.
        """
        share = self._study.busy == "share"
        busy = when_busy(self._study, self._console, "is measuring on this machine")
        self._stack.enter_context(measuring(busy, share=share))
        collect()  # what killed processes left
        self._stack.enter_context(self._templates)
        return self

    def __exit__(self, *_: object) -> None:
        """End the sampling processes and templates, and release the lock."""
        self._stack.close()

    def adopt(self, unfinished: Sequence[Path]) -> list[Trial]:
        """A worker ends with its parent: none is left running."""
        return []

    def ready(self, coming: Iterable[Settings]) -> tuple[Scope, ...]:
        """Start one sampling process per measurement, and see how the machine is at rest."""
        providers: dict[MeasurementConfig, set[str]] = {}
        for settings in coming:
            providers.setdefault(settings.measurement, set()).add(settings.provider.name)
        scopes = dict[str, Scope]()
        for measurement in providers:
            sampler = self._samplers[measurement] = self._sampler(measurement)
            scope = None if sampler is None else of_sources(sampler.sources)
            if sampler is not None and scope is not None:
                scopes[scope.digest] = scope
                self._show_scope(measurement, scope, sampler.notes, providers[measurement])
            self._gates[measurement] = Gate(self._study.gate, sampler, self._rest_file)
        return tuple(scopes.values())

    def _show_scope(
        self,
        measurement: MeasurementConfig,
        scope: Scope,
        notes: Sequence[str],
        providers: Iterable[str],
    ) -> None:
        """Print what is summed, and which trials will be invalid because it lacks their device.

        Raises:
            MeterError: there are such trials, and `measurement.mode=strict`.
        """
        lacks = refusals(scope, providers, notes)
        if lacks and measurement.mode == "strict":
            raise MeterError(f"measurement.mode=strict: {lacks[0]}")
        self._console.print(escape(f"energy of: {scope.words}"), highlight=False, soft_wrap=True)
        for line in lacks:
            text = f"[yellow]will be invalid[/]: {escape(line)}"
            self._console.print(text, highlight=False, soft_wrap=True)

    def _sampler(self, measurement: MeasurementConfig) -> Sampler | None:
        if measurement.mode == "off":
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        sampler = self._stack.enter_context(Sampler(measurement, self._folder))
        for note in sampler.notes:
            self._console.print(f"[dim]{escape(note)}[/]", highlight=False, soft_wrap=True)
        return sampler

    @property
    def room(self) -> bool:
        """One at a time."""
        return self._next is None

    def start(self, trial: Trial, folder: Path) -> None:
        """Keep the trial for `ended` to run."""
        self._next = (trial, folder)

    def ended(self, progress: ReportProgress) -> list[tuple[Record, Path]]:
        """Run the trial, then test its answers: before the next trial waits at its gate."""
        assert self._next is not None
        if self._interrupted:
            raise KeyboardInterrupt
        (trial, folder), self._next = self._next, None
        measurement = trial.cell.settings.measurement
        record = run_trial(
            trial,
            folder,
            self._samplers[measurement],
            lambda phase, share: progress(trial, phase, share),
            self._gates[measurement],
            self._templates,
        )
        try:
            record = scored(record, self._study, lambda n, of: progress(trial, "score", n / of))
        except Interrupted as error:
            # What was measured is kept first; the next trial then does not begin.
            record, self._interrupted = error.record, True
        return [(record, folder)]


def when_busy(study: StudyConfig, console: Console, activity: str) -> Callable[[Path], None]:
    """What to do when another sweep holds a lock, as `study.busy` requires.

    Args:
        study: its settings.
        console: for the note that this invocation waits.
        activity: what the other sweep does, as a predicate.
    """

    def busy(path: Path) -> None:
        reason = f"another sweep {activity} ({shlex.quote(str(path))})"
        if study.busy == "refuse":
            raise SlmEnergyError(f"{reason}: wait for it to end, or set study.busy=wait")
        console.print(f"{escape(reason)}; waiting for it to end", soft_wrap=True)

    return busy
