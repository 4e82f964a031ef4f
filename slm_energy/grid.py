"""From configurations to cells: what can run, what is left out, what cannot run here, and why.

Nothing is downloaded, and no engine's library is imported.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from slm_energy import models, workload
from slm_energy.cell import Cell, Settings, cell_id, cell_labels, flat, settings
from slm_energy.config import RunConfig
from slm_energy.engines.base import EngineSpec, find
from slm_energy.errors import ConfigError
from slm_energy.plan import Excluded, exclusion


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The configurations of one invocation, resolved.

    Attributes:
        config: study, measurement and tracking, the same for every cell.
        cells: what can run.
        excluded: left out by `study.exclude`.
        unsupported: cells that engine or machine cannot run, with the reason.
        prompts: workload digest to task id to prompt.
    """

    config: RunConfig
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]
    unsupported: tuple[tuple[Cell, str], ...]
    prompts: dict[str, dict[str, str]]


def resolve(configs: Sequence[RunConfig]) -> Grid:
    """Turn configurations into cells; nothing is downloaded and nothing heavy is imported.

    Raises:
        SlmEnergyError: a model, workload, engine or option is not there, or `study.*`,
            `tracking.*` differ between the configurations.
    """
    first = configs[0]
    for config in configs:
        own = (config.study, config.tracking, config.cache)
        if own != (first.study, first.tracking, first.cache):
            raise ConfigError(
                "study.*, tracking.* and cache.* belong to the whole sweep and cannot be swept"
            )
    cells: dict[str, Cell] = {}
    unsupported: dict[str, tuple[Cell, str]] = {}
    excluded: list[Excluded] = []
    prompts: dict[str, dict[str, str]] = {}
    asked = {repr(settings(config)): settings(config) for config in configs}
    labels = cell_labels((key, flat(levels)) for key, levels in asked.items())
    # Many cells share a model and a workload: each is read once.
    load, identities = functools.cache(workload.load), dict[str, str]()
    for key, levels in asked.items():
        reason = exclusion(levels, first.study.exclude)
        if reason is not None:
            excluded.append(Excluded(label=labels[key], reason=reason))
            continue
        spec = find(levels.engine.name)
        _check_options(spec, levels)
        tasks = load(levels.workload)
        digest = workload.digest(tasks)
        prompts[digest] = {task.task_id: task.prompt for task in tasks}
        model = identities.setdefault(repr(levels.model), "") or models.identity(levels.model)
        identities[repr(levels.model)] = model
        versions = spec.versions()
        cell = Cell(
            id=cell_id(levels, model, digest, versions),
            settings=levels,
            model_digest=model,
            workload_digest=digest,
            versions=versions,
        )
        cannot = spec.unsupported(levels)
        if cannot is None:
            cells[cell.id] = cell
        else:
            unsupported[cell.id] = (cell, cannot)
    return Grid(
        config=first,
        cells=tuple(cells.values()),
        excluded=tuple(excluded),
        unsupported=tuple(unsupported.values()),
        prompts=prompts,
    )


def _check_options(spec: EngineSpec, levels: Settings) -> None:
    for key, value in levels.engine.options.items():
        if key not in spec.options:
            known = ", ".join(spec.options) or "none"
            raise ConfigError(
                f"engine.options.{key}={value}: engine {spec.name} has no such option; has: {known}"
            )
        allowed = spec.options[key]
        if allowed and str(value) not in allowed:
            raise ConfigError(
                f"engine.options.{key}={value} is not valid: choose one of {', '.join(allowed)}"
            )
