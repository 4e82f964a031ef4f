"""From configurations to cells: runnable, excluded, or unsupported on this machine, and why.

Nothing is downloaded, and no engine's library is imported. The abilities and versions of an engine
are queried in the environment where it would run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from slm_energy import environments, prompts, workload
from slm_energy.cell import Cell, Settings, cell_id, cell_labels, flat, sentinel, settings
from slm_energy.config.groups import RunConfig, StudyConfig
from slm_energy.devices import nvidia
from slm_energy.engines.base import find
from slm_energy.engines.describe import Description, describe
from slm_energy.errors import ConfigError, ModelError, WorkloadError
from slm_energy.models import source
from slm_energy.planning.plan import Excluded, exclusion, matches
from slm_energy.scoring.stop_texts import stop_texts
from slm_energy.tasks import Task
from slm_energy.worker import interpreters

_OWN_CONTEXT = ("openai_server",)
"""Engines whose server decides how long a sequence may be."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The configurations of one invocation, resolved.

    Attributes:
        config: study, measurement and tracking, the same for every cell.
        cells: runnable cells, with the sentinel if there is one.
        excluded: left out by `study.exclude`.
        unsupported: cells that engine or machine cannot run, with the reason.
        pythons: `engine.python` as configured, to the interpreter's path.
    """

    config: RunConfig
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]
    unsupported: tuple[tuple[Cell, str], ...]
    pythons: dict[str, str]


def resolve(configs: Sequence[RunConfig]) -> Grid:
    """Turn configurations into cells; nothing is downloaded and nothing heavy is imported.

    Raises:
        SlmEnergyError: a model, workload, engine or option does not exist, or `study.*`,
            `tracking.*` differ between the configurations, or `engine.python` cannot run a worker.
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
    unsupported: dict[str, tuple[Cell, str]] = {}
    included, excluded = _divided(configs)
    pythons = {
        name: environments.interpreter(name)
        for name in dict.fromkeys(levels.engine.python for levels in included)
        if name is not None and environments.missing(name) is None
    }
    # Many cells share a model and a workload: each is read once.
    load, identities = functools.cache(workload.load), dict[str, str]()
    refusals = dict[str, str | None]()
    descriptions = _described(included, pythons)
    # A login node may have no GPU; a job says whether its node has.
    elsewhere = first.launcher is not None and first.launcher.cluster == "slurm"
    # From all engines, so that one message names all that do not accept an option.
    if errors := dict.fromkeys(d.error for d in descriptions if d.error is not None):
        raise ConfigError("; ".join(errors))
    for levels, described in zip(included, descriptions, strict=True):
        key = repr(levels.model)
        if key not in identities:
            identities[key] = source.identity(levels.model)
        model = identities[key]
        tasks = load(levels.workload)
        digest = prompts.digest(tasks, levels.workload)
        if levels.workload.stop == "code":
            for task in tasks:
                stop_texts(task, levels.workload)  # refuses a task without code
        cell = Cell(
            id=cell_id(levels, model, digest, described.versions),
            settings=levels,
            model_digest=model,
            workload_digest=digest,
            versions=described.versions,
        )
        way = repr((levels.model, levels.workload, levels.engine.name in _OWN_CONTEXT))
        if way not in refusals:
            refusals[way] = _refusal(levels, tasks)
        reason = described.unsupported or refusals[way]
        if reason is None and not elsewhere:
            reason = nvidia.missing(levels.provider.name, levels.provider.device)
        if reason is None:
            cells[cell.id] = cell
        else:
            unsupported[cell.id] = (cell, reason)
    return Grid(
        config=first,
        cells=(*cells.values(), *_sentinels(first.study, list(cells.values()))),
        excluded=excluded,
        unsupported=tuple(unsupported.values()),
        pythons=pythons,
    )


def _refusal(levels: Settings, tasks: Sequence[Task]) -> str | None:
    """Why this model cannot be asked in this way, as far as its files are on this machine."""
    model, config = levels.model, levels.workload
    as_it_is = config.prompt == "completion" and not config.fim
    limit = None if levels.engine.name in _OWN_CONTEXT else source.context(model)
    try:
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
