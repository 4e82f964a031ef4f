"""From configurations to cells: what can run, what is left out, what cannot run here, and why.

Nothing is downloaded, and no engine's library is imported. What an engine can do, and its versions,
is asked in the environment where it would run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from slm_energy import environments, workload
from slm_energy.cell import Cell, Settings, cell_id, cell_labels, flat, sentinel, settings
from slm_energy.config.groups import RunConfig, StudyConfig
from slm_energy.engines.base import find
from slm_energy.engines.describe import Description, describe
from slm_energy.errors import ConfigError
from slm_energy.models import source
from slm_energy.planning.plan import Excluded, exclusion, matches
from slm_energy.worker import interpreters


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The configurations of one invocation, resolved.

    Attributes:
        config: study, measurement and tracking, the same for every cell.
        cells: what can run, with the sentinel if there is one.
        excluded: left out by `study.exclude`.
        unsupported: cells that engine or machine cannot run, with the reason.
        prompts: workload digest to task id to prompt.
        pythons: `engine.python` as it was asked for, to the interpreter's path.
    """

    config: RunConfig
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]
    unsupported: tuple[tuple[Cell, str], ...]
    prompts: dict[str, dict[str, str]]
    pythons: dict[str, str]


def resolve(configs: Sequence[RunConfig]) -> Grid:
    """Turn configurations into cells; nothing is downloaded and nothing heavy is imported.

    Raises:
        SlmEnergyError: a model, workload, engine or option is not there, or `study.*`,
            `tracking.*` differ between the configurations, or `engine.python` cannot run a worker.
    """
    first = configs[0]
    for config in configs:
        own = (config.study, config.tracking, config.cache)
        if own != (first.study, first.tracking, first.cache):
            raise ConfigError(
                "study.*, tracking.* and cache.* belong to the whole sweep and cannot be swept"
            )
    if first.study.reference is not None:
        find(first.study.reference, "study.reference")
    cells: dict[str, Cell] = {}
    unsupported: dict[str, tuple[Cell, str]] = {}
    prompts: dict[str, dict[str, str]] = {}
    included, excluded = _divided(configs)
    pythons = {
        name: environments.interpreter(name)
        for name in dict.fromkeys(levels.engine.python for levels in included)
        if name is not None and environments.missing(name) is None
    }
    # Many cells share a model and a workload: each is read once.
    load, identities = functools.cache(workload.load), dict[str, str]()
    descriptions = _described(included, pythons)
    # Of each engine, so that one message names all that do not accept an option.
    if errors := dict.fromkeys(each.error for each in descriptions if each.error is not None):
        raise ConfigError("; ".join(errors))
    for levels, described in zip(included, descriptions, strict=True):
        key = repr(levels.model)
        if key not in identities:
            identities[key] = source.identity(levels.model)
        model = identities[key]
        tasks = load(levels.workload)
        digest = workload.digest(tasks)
        prompts[digest] = {task.task_id: task.prompt for task in tasks}
        cell = Cell(
            id=cell_id(levels, model, digest, described.versions),
            settings=levels,
            model_digest=model,
            workload_digest=digest,
            versions=described.versions,
        )
        if described.unsupported is None:
            cells[cell.id] = cell
        else:
            unsupported[cell.id] = (cell, described.unsupported)
    return Grid(
        config=first,
        cells=(*cells.values(), *_sentinels(first.study, list(cells.values()))),
        excluded=excluded,
        unsupported=tuple(unsupported.values()),
        prompts=prompts,
        pythons=pythons,
    )


def _sentinels(study: StudyConfig, cells: Sequence[Cell]) -> list[Cell]:
    """The cell that `study.sentinel` names, once more; none where it names none.

    Raises:
        ConfigError: it does not name exactly one cell that can run.
    """
    rule = study.sentinel
    if rule is None:
        return []
    found = [cell for cell in cells if matches(flat(cell.settings), rule, "study.sentinel")]
    if len(found) != 1:
        raise ConfigError(
            f"study.sentinel={rule} names {len(found)} of the {len(cells)} cells that can run here:"
            " give keys and values that only one of them has"
        )
    return [sentinel(found[0])]


def _divided(configs: Sequence[RunConfig]) -> tuple[list[Settings], tuple[Excluded, ...]]:
    """Settings without duplicates, and those that `study.exclude` leaves out."""
    asked = {repr(settings(config)): settings(config) for config in configs}
    labels = cell_labels((key, flat(levels)) for key, levels in asked.items())
    reasons = {key: exclusion(levels, configs[0].study.exclude) for key, levels in asked.items()}
    included = [levels for key, levels in asked.items() if reasons[key] is None]
    excluded = tuple(
        Excluded(label=labels[key], reason=reason)
        for key, reason in reasons.items()
        if reason is not None
    )
    return included, excluded


def _described(asked: Sequence[Settings], pythons: Mapping[str, str]) -> list[Description]:
    """What engines say of these settings; each other interpreter is asked once."""
    found: dict[int, Description] = {}
    for python in dict.fromkeys(levels.engine.python for levels in asked):
        places = [i for i, levels in enumerate(asked) if levels.engine.python == python]
        about = [asked[i] for i in places]
        if python is None:
            told = [describe(levels) for levels in about]
        elif python in pythons:
            told = interpreters.ask(pythons[python], about)
        else:
            reason = f"engine.python={python} is not there: {environments.missing(python)}"
            told = [Description(versions={}, unsupported=reason) for _ in about]
        found |= dict(zip(places, told, strict=True))
    return [found[i] for i in range(len(asked))]
