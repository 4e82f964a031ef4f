"""What a cell's model and workload are, and why one of them cannot be had here.

Many cells share a model and a workload: each is looked at once. Nothing is downloaded; where a
model must be, the hub is asked once whether it has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slm_energy import hub, prompts, workload
from slm_energy.cell import Settings
from slm_energy.config.groups import ModelConfig, WorkloadConfig
from slm_energy.errors import ConfigError, HubUnreachable, ModelError, SlmEnergyError, WorkloadError
from slm_energy.models import source
from slm_energy.scoring.stop_texts import stop_texts
from slm_energy.tasks import Task

_SERVED = "openai_server"
"""The engine whose server decides how long a sequence may be."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What is known of a model or a workload.

    Attributes:
        digest: identifies its content; empty where that is not known.
        error: why it cannot be had.
        download_bytes: what must be downloaded first.
        tasks: a workload's problems.
    """

    digest: str = ""
    error: SlmEnergyError | None = None
    download_bytes: int = 0
    tasks: tuple[Task, ...] = ()


class Contents:
    """The models and workloads of a grid."""

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._models = dict[str, Found]()
        self._workloads = dict[WorkloadConfig, Found]()
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

    def refusal(self, levels: Settings) -> str | None:
        """Why this model cannot be asked these problems, as far as its files are here."""
        model, asked = self.model(levels.model), self.workload(levels.workload)
        if error := model.error or asked.error:
            return str(error)
        key = repr((levels.model, levels.workload, levels.engine.name == _SERVED))
        if key not in self._refusals:
            self._refusals[key] = _refusal(levels, asked.tasks)
        return self._refusals[key]

    def require_any(self, requested: Sequence[Settings]) -> None:
        """Refuse a grid of which no cell can run, for want of one model or workload.

        Raises:
            SlmEnergyError: what they all lack.
        """
        errors = [
            self.model(levels.model).error or self.workload(levels.workload).error
            for levels in requested
        ]
        if errors and errors[0] is not None and len({str(error) for error in errors}) == 1:
            raise errors[0]

    def _find_model(self, model: ModelConfig) -> Found:
        digest = ""
        try:
            digest = source.identity(model)
            return Found(digest=digest, download_bytes=source.download_bytes(model, self._ask))
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
