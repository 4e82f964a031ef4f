"""What the reference engine generates: every model once beforehand, one prompt at a time.

`study.reference` (torch, unless a study says otherwise) serves each model with each workload before
its first trial, in the type and on the provider of the trial. What it generated lies in the cache.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from slm_energy import cache, models, workload
from slm_energy.cell import Settings, Trial
from slm_energy.config import EngineConfig
from slm_energy.engines.base import Batch, Job, find
from slm_energy.plain import Json, read_json, write_json
from slm_energy.record import Reference

_FILE = "reference.json"


def place(trial: Trial) -> Path | None:
    """Where a trial's reference is, or will be; None if nothing is compared."""
    if trial.reference is None:
        return None
    return cache.place(Path(trial.cache_path), "reference", _identity(trial))


def make(trial: Trial) -> None:
    """Let the reference engine serve the trial's prompts.

    Raises:
        SlmEnergyError: it cannot.
    """
    folder = place(trial)
    if folder is None:
        return

    def fill(partial: Path) -> dict[str, Json]:
        write_json(partial / _FILE, _serve(trial))
        return {}

    cache.make(folder, _identity(trial), fill)


def read(trial: Trial) -> Reference | None:
    """The trial's reference, if it was made."""
    folder = place(trial)
    if folder is None or not cache.intact(folder):
        return None
    cache.facts(folder)
    return read_json(folder / _FILE, Reference)


def _serve(trial: Trial) -> Reference:
    job = _job(trial)
    tasks = workload.load(job.settings.workload)
    tokenizer = models.load_tokenizer(job.model_path)
    engine = find(job.settings.engine.name).create()
    engine.load(job)
    output_ids = {}
    for task in tasks:
        batch = Batch(
            prompts=(tuple(tokenizer.encode(task.prompt).ids),),
            new_tokens=job.settings.workload.new_tokens,
            stop=job.settings.workload.stop,
        )
        output_ids[task.task_id] = engine.generate(batch)[0].output_ids
    engine.close()
    return Reference(engine=job.settings.engine.name, output_ids=output_ids)


def _settings(trial: Trial) -> Settings:
    """The trial's settings with the reference engine in place of its own."""
    asked = trial.cell.settings
    dtype = "float32" if asked.engine.dtype == "int8" else asked.engine.dtype
    engine = EngineConfig(name=str(trial.reference), dtype=dtype)
    return dataclasses.replace(asked, engine=engine)


def _job(trial: Trial) -> Job:
    path = Path(trial.model_path)
    return Job(
        settings=_settings(trial),
        model_path=path,
        model_digest=trial.cell.model_digest,
        cache_path=Path(trial.cache_path),
        versions=find(str(trial.reference)).versions(),
        eos_ids=models.eos_ids(path),
    )


def _identity(trial: Trial) -> dict[str, Json]:
    settings = _settings(trial)
    return {
        "engine": settings.engine.name,
        "dtype": settings.engine.dtype,
        "provider": settings.provider.name,
        "attention": settings.model.attention,
        "model": trial.cell.model_digest,
        "workload": trial.cell.workload_digest,
        "new_tokens": settings.workload.new_tokens,
        "stop": settings.workload.stop,
        "versions": find(settings.engine.name).versions(),
    }
