"""What the benchmarks share: a trial of the bundled model, and its workload in batches of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slm_energy import models, workload
from slm_energy.cell import Cell, Trial, settings
from slm_energy.compose import compose
from slm_energy.config import run_config
from slm_energy.engines.base import Batch, Engine, find, job_of


def bundled_trial(overrides: Sequence[str], cache: Path) -> Trial:
    """A trial as a sweep would make it.

    Args:
        overrides: as on the command line.
        cache: for exported models.
    """
    levels = settings(run_config(compose("config", overrides)))
    path = models.fetch(levels.model, Path())
    cell = Cell(
        id="",
        settings=levels,
        model_digest=models.digest(path),
        workload_digest="",
        versions=find(levels.engine.name).versions(),
    )
    return Trial(
        id="",
        study="",
        sweep="",
        cell=cell,
        label="",
        round=1,
        order=1,
        attempt=1,
        model_path=str(path),
        cache_path=str(cache),
        timeout_s=600.0,
    )


def loaded(trial: Trial) -> Engine:
    """The trial's engine, prepared and with its model."""
    spec, job = find(trial.cell.settings.engine.name), job_of(trial)
    if spec.needs_preparation(job):
        spec.prepare(job)
    engine = spec.create()
    engine.load(job)
    return engine


def batches(trial: Trial) -> list[Batch]:
    """The trial's prompts, one per batch."""
    asked = trial.cell.settings.workload
    tokenizer = models.load_tokenizer(Path(trial.model_path))
    prompts = [tuple(tokenizer.encode(task.prompt).ids) for task in workload.load(asked)]
    return [Batch(prompts=(ids,), new_tokens=asked.new_tokens, stop="fixed") for ids in prompts]
