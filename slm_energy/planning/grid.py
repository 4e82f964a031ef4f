"""From configurations to cells: runnable, excluded, or unsupported on this machine, and why.

Nothing is downloaded, and no engine's library is imported. The abilities and versions of an engine
are queried in the environment where it would run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from slm_energy import cache, environments, memory_limit
from slm_energy.cell import Cell, Settings, cell_id, cell_labels, flat, sentinel, settings
from slm_energy.config.groups import ModelConfig, RunConfig, StudyConfig
from slm_energy.devices import nvidia
from slm_energy.engines.base import find
from slm_energy.engines.describe import Description, describe
from slm_energy.errors import ConfigError
from slm_energy.planning.contents import Contents
from slm_energy.planning.memory import refusal
from slm_energy.planning.needs import Needs, needs_of
from slm_energy.planning.plan import Excluded, exclusion, matches
from slm_energy.worker import interpreters


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The configurations of one invocation, resolved.

    Attributes:
        config: study, measurement and tracking, the same for every cell.
        cells: runnable cells, with the sentinel if there is one.
        excluded: left out by `study.exclude`.
        unsupported: cells that engine or machine cannot run, with the reason.
        pythons: `engine.python` as configured, to the interpreter's path.
        downloads: models of runnable cells that are not here, and the bytes of their files.
        stored: those that are here, and the bytes of their weights.
        needs: cell id to what the cell needs, of those that can run.
    """

    config: RunConfig
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]
    unsupported: tuple[tuple[Cell, str], ...]
    pythons: dict[str, str]
    downloads: dict[str, int]
    stored: dict[str, int]
    needs: dict[str, Needs]


def resolve(configs: Sequence[RunConfig]) -> Grid:
    """Turn configurations into cells; nothing is downloaded and nothing heavy is imported.

    Raises:
        SlmEnergyError: no cell has a model and a workload that can be had, an engine or option
            does not exist, `study.*`, `tracking.*` differ between the configurations, or
            `engine.python` cannot run a worker.
    """
    first = configs[0]
    for config in configs:
        shared = (config.study, config.tracking, config.cache)
        if shared != (first.study, first.tracking, first.cache):
            raise ConfigError(
                "study.*, tracking.* and cache.* belong to the whole sweep and cannot be swept"
            )
    if first.study.reference is not None:
        find(first.study.reference, "study.reference")
    cells: dict[str, Cell] = {}
    needs: dict[str, Needs] = {}
    unsupported: dict[str, tuple[Cell, str]] = {}
    included, excluded = _divided(configs)
    pythons = {
        name: environments.interpreter(name)
        for name in dict.fromkeys(levels.engine.python for levels in included)
        if name is not None and environments.missing(name) is None
    }
    contents = Contents()
    contents.require_any(included)
    descriptions = _described(included, pythons)
    # A login node may have no GPU; a job says whether its node has.
    elsewhere = first.launcher is not None and first.launcher.cluster == "slurm"
    # From all engines, so that one message names all that do not accept an option.
    if errors := dict.fromkeys(d.error for d in descriptions if d.error is not None):
        raise ConfigError("; ".join(errors))
    folder, allowed = cache.root(first.cache.folder), None if elsewhere else memory_limit.allowed()
    cached = cache.entries(folder) if os.access(folder, os.R_OK | os.X_OK) else []
    for levels, described in zip(included, descriptions, strict=True):
        model, asked = contents.model(levels.model), contents.workload(levels.workload)
        trace = contents.trace(levels.load).digest
        cell = Cell(
            id=cell_id(levels, model.digest, asked.digest, described.versions, trace),
            settings=levels,
            model_digest=model.digest,
            workload_digest=asked.digest,
            versions=described.versions,
            trace_digest=trace,
        )
        reason = described.unsupported or contents.refusal(levels)
        if reason is None and not elsewhere:
            reason = nvidia.missing(levels.provider.name, levels.provider.device)
        need = Needs() if reason is not None else _needs(cell, contents, cached)
        if allowed is not None:
            reason = reason or refusal(need.memory_bytes, *allowed)
        if reason is None:
            cells[cell.id], needs[cell.id] = cell, need
        else:
            unsupported[cell.id] = (cell, reason)
    sentinels = _sentinels(first.study, list(cells.values()))
    needs |= {cell.id: _needs(cell, contents, cached) for cell in sentinels}
    return Grid(
        config=first,
        cells=(*cells.values(), *sentinels),
        excluded=excluded,
        unsupported=tuple(unsupported.values()),
        pythons=pythons,
        downloads=_sizes(cells.values(), lambda model: contents.model(model).download_bytes),
        stored=_sizes(cells.values(), lambda model: contents.model(model).stored_bytes),
        needs=needs,
    )


def _needs(cell: Cell, contents: Contents, cached: Sequence[cache.CacheEntry]) -> Needs:
    levels = cell.settings
    prompts = [task.prompt for task in contents.workload(levels.workload).tasks]
    return needs_of(cell, contents.model(levels.model).size, prompts, cached)


def _sizes(cells: Iterable[Cell], size_of: Callable[[ModelConfig], int]) -> dict[str, int]:
    """Names of models to sizes, where there are any."""
    sizes = {cell.settings.model.name: size_of(cell.settings.model) for cell in cells}
    return {name: size for name, size in sizes.items() if size}


def _sentinels(study: StudyConfig, cells: Sequence[Cell]) -> list[Cell]:
    """A second copy of the cell that `study.sentinel` names; none if it is unset.

    Raises:
        ConfigError: it does not name exactly one cell that can run.
    """
    rule = study.sentinel
    if rule is None:
        return []
    matching = [cell for cell in cells if matches(flat(cell.settings), rule, "study.sentinel")]
    if len(matching) != 1:
        raise ConfigError(
            f"study.sentinel={rule} names {len(matching)} of the {len(cells)} cells that can run"
            " here: give keys and values that only one of them has"
        )
    return [sentinel(matching[0])]


def _divided(configs: Sequence[RunConfig]) -> tuple[list[Settings], tuple[Excluded, ...]]:
    """Settings without duplicates, and combinations that `study.exclude` leaves out."""
    distinct = {repr(settings(config)): settings(config) for config in configs}
    labels = cell_labels((key, flat(levels)) for key, levels in distinct.items())
    reasons = {key: exclusion(levels, configs[0].study.exclude) for key, levels in distinct.items()}
    included = [levels for key, levels in distinct.items() if reasons[key] is None]
    excluded = tuple(
        Excluded(label=labels[key], reason=reason)
        for key, reason in reasons.items()
        if reason is not None
    )
    return included, excluded


def _described(requested: Sequence[Settings], pythons: Mapping[str, str]) -> list[Description]:
    """The engines' descriptions of settings; each other interpreter is started once."""
    descriptions: dict[int, Description] = {}
    for python in dict.fromkeys(levels.engine.python for levels in requested):
        indices = [i for i, levels in enumerate(requested) if levels.engine.python == python]
        group = [requested[i] for i in indices]
        if python is None:
            described = [describe(levels) for levels in group]
        elif python in pythons:
            described = interpreters.ask(pythons[python], group)
        else:
            reason = f"engine.python={python} does not exist: {environments.missing(python)}"
            described = [Description(versions={}, unsupported=reason) for _ in group]
        descriptions |= dict(zip(indices, described, strict=True))
    return [descriptions[i] for i in range(len(requested))]
