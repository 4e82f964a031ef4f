"""What the benchmarks share: trials of the bundled and of random models, and prompts in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slm_energy import environments, prompts, workload
from slm_energy.cell import Cell, Settings, Trial, settings
from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.engines.base import Batch, Compiles, Engine, find, load_request_of
from slm_energy.engines.describe import Description, describe
from slm_energy.errors import ConfigError
from slm_energy.models import source
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.worker import interpreters


def bundled_trial(overrides: Sequence[str], cache: Path) -> Trial:
    """A trial as a sweep would make it.

    Args:
        overrides: as on the command line.
        cache: for exported models.

    Raises:
        ConfigError: the engine cannot do what the overrides ask for.
    """
    levels = settings(run_config(compose("config", overrides)))
    trial, reason = _trial(levels, cache)
    if reason is not None:
        raise ConfigError(reason)
    return trial


def random_trial(overrides: Sequence[str], cache: Path) -> tuple[Trial, str | None]:
    """A trial of a model with random weights, which are built if they are not in the cache.

    Returns:
        The trial, and the reason why its engine cannot run it, or None.
    """
    words = ["model.weights=random", *overrides]
    levels = settings(run_config(compose("config", words)))
    if source.needs_building(levels.model, source.fetch(levels.model, cache)):
        source.build(levels.model, cache)
    return _trial(levels, cache)


def _trial(levels: Settings, cache: Path) -> tuple[Trial, str | None]:
    """The trial, and what its engine says of it where it would run."""
    path, name = source.fetch(levels.model, cache), levels.engine.python
    if name is None:
        python, told = None, describe(levels)
    elif (command := environments.missing(name)) is not None:
        python, told = None, Description(versions={}, unsupported=command)
    else:
        python = environments.interpreter(name)
        (told,) = interpreters.ask(python, [levels])
    cell = Cell(
        id="benchmark",
        settings=levels,
        model_digest=source.identity(levels.model),
        workload_digest=prompts.digest(workload.load(levels.workload), levels.workload),
        versions=told.versions,
    )
    trial = Trial(
        id="benchmark",
        study="benchmark",
        sweep="benchmark",
        cell=cell,
        label="",
        round=1,
        order=1,
        attempt=1,
        model_path=str(path),
        cache_path=str(cache),
        timeout_s=600.0,
        python=python,
    )
    return trial, told.error or told.unsupported


def prepare(trial: Trial) -> None:
    """What the prepare step does."""
    spec, target = find(trial.cell.settings.engine.name), load_request_of(trial)
    if spec.needs_preparation(target):
        spec.prepare(target)


def loaded(trial: Trial, asked: Sequence[Batch] | None = None) -> Engine:
    """The trial's engine, prepared, with its model, and compiled.

    Args:
        trial: what to load.
        asked: what will be served; None is the trial's own workload.
    """
    prepare(trial)
    engine = find(trial.cell.settings.engine.name).create()
    engine.load(load_request_of(trial))
    if isinstance(engine, Compiles):
        engine.compile(asked or batches(trial))
    return engine


def batches(trial: Trial) -> list[Batch]:
    """The trial's prompts, one per batch."""
    asked = trial.cell.settings.workload
    tokenizer = load_tokenizer(Path(trial.model_path))
    prompts = [tuple(tokenizer.encode(task.prompt).ids) for task in workload.load(asked)]
    return [Batch(prompts=(ids,), new_tokens=asked.new_tokens, stop="fixed") for ids in prompts]
