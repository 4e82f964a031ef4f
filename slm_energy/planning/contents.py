"""What a cell's model, workload and trace are, and why one of them cannot be had here.

Many cells share them: each is looked at once. Nothing is downloaded; where a
model must be, the hub is asked once whether it has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from slm_energy import hub, prompts, workload
from slm_energy.arrivals import trace_digest
from slm_energy.cell import Settings
from slm_energy.config.groups import LoadConfig, ModelConfig, WorkloadConfig
from slm_energy.errors import ConfigError, HubUnreachable, ModelError, SlmEnergyError, WorkloadError
from slm_energy.models import quantization, random_weights, source, weights
from slm_energy.models.folder import read_json
from slm_energy.planning.size import Size, size_of
from slm_energy.scoring.stop_texts import stop_texts
from slm_energy.tasks import Task

_SERVED = "openai_server"
"""The engine whose server decides how long a sequence may be."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What is known of a model, a workload or a trace.

    Attributes:
        digest: identifies its content; empty where that is not known.
        error: why it cannot be had.
        download_bytes: what must be downloaded first.
        stored_bytes: what the files with its weights have on disk; 0 if there are none.
        size: a model's numbers of parameters; None if they are not known.
        folder: a model's, if it is here.
        tasks: a workload's problems.
    """

    digest: str = ""
    error: SlmEnergyError | None = None
    download_bytes: int = 0
    stored_bytes: int = 0
    size: Size | None = None
    folder: Path | None = None
    tasks: tuple[Task, ...] = ()


class Contents:
    """The models, workloads and traces of a grid."""

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._models = dict[str, Found]()
        self._workloads = dict[WorkloadConfig, Found]()
        self._traces = dict[str, Found]()
        self._refusals = dict[str, str | None]()
        self._hub_answers = True

    def model(self, model: ModelConfig) -> Found:
        """What is known of a model."""
        key = repr(model)
        if key not in self._models:
            self._models[key] = self._find_model(model)
        return self._models[key]

    def workload(self, config: WorkloadConfig) -> Found:
        """What is known of a workload."""
        if config not in self._workloads:
            self._workloads[config] = _find_workload(config)
        return self._workloads[config]

    def trace(self, load: LoadConfig) -> Found:
        """What is known of the trace of a load; nothing where it has none."""
        if load.mode != "open" or load.trace is None:
            return Found()
        if load.trace not in self._traces:
            try:
                self._traces[load.trace] = Found(digest=trace_digest(load))
            except WorkloadError as error:
                self._traces[load.trace] = Found(error=error)
        return self._traces[load.trace]

    def refusal(self, levels: Settings) -> str | None:
        """Why this model cannot be loaded so, or asked these problems, as far as files are here."""
        model, asked = self.model(levels.model), self.workload(levels.workload)
        if error := model.error or asked.error or self.trace(levels.load).error:
            return str(error)
        if model.folder and (reason := quantization.mismatch(model.folder, levels.engine.dtype)):
            return reason
        key = repr((levels.model, levels.workload, levels.engine.name == _SERVED))
        if key not in self._refusals:
            self._refusals[key] = _refusal(levels, asked.tasks)
        return self._refusals[key]

    def require_any(self, requested: Sequence[Settings]) -> None:
        """Refuse a grid of which no cell can run, for want of one model, workload or trace.

        Raises:
            SlmEnergyError: what they all lack.
        """
        errors = [
            self.model(levels.model).error
            or self.workload(levels.workload).error
            or self.trace(levels.load).error
            for levels in requested
        ]
        if errors and errors[0] is not None and len({str(error) for error in errors}) == 1:
            raise errors[0]

    def _find_model(self, model: ModelConfig) -> Found:
        digest = ""
        try:
            digest = source.identity(model)
            folder = None if model.weights == "random" else source.present(model)
            size, stored_bytes = _looked_up(model, folder)
            return Found(
                digest=digest,
                download_bytes=source.download_bytes(model, self._ask),
                stored_bytes=stored_bytes,
                size=size,
                folder=folder,
            )
        except (ConfigError, ModelError) as error:
            return Found(digest=digest, error=error)

    def _ask(self, repository: str, commit: str) -> hub.Repository:
        """Ask the hub, unless it did not answer before: waiting for that takes seconds."""
        if not self._hub_answers:
            raise hub.unreachable(repository)
        try:
            return hub.repository(repository, commit)
        except HubUnreachable:
            self._hub_answers = False
            raise


def _looked_up(model: ModelConfig, folder: Path | None) -> tuple[Size | None, int]:
    """A model's size, and the bytes of its weights here."""
    if model.weights == "random":
        return size_of(random_weights.config_of(model)), 0
    if folder is None:
        return size_of(model.architecture), 0
    files = weights.stored(folder, pickled=model.allow_pickle)
    config = read_json(folder / "config.json")
    return size_of(config), sum(file.stat().st_size for file in files)


def _find_workload(config: WorkloadConfig) -> Found:
    try:
        tasks = workload.load(config)
        if config.stop == "code":
            for task in tasks:
                stop_texts(task, config)  # refuses a task without code
        return Found(digest=prompts.digest(tasks, config), tasks=tasks)
    except (ConfigError, WorkloadError) as error:
        return Found(error=error)


def _refusal(levels: Settings, tasks: Sequence[Task]) -> str | None:
    model, config = levels.model, levels.workload
    as_it_is = config.prompt == "completion" and not config.fim
    try:
        limit = None if levels.engine.name == _SERVED else source.context(model)
        if config.fim:
            prompts.markers(model)
        if as_it_is and not prompts.may_exceed(tasks, config.new_tokens, limit):
            return None
        folder = source.present(model)
        if folder is None:
            return None
        asked = prompts.rendered(tasks, model, folder, config)
        prompts.require_room(asked, folder, config, limit)
    except (ModelError, WorkloadError) as error:
        return str(error)
    return None
