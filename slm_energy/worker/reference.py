"""What the reference engine generates: every model once beforehand, one prompt at a time.

    needed(trial) -> make(trial), in a process of its own -> read(trial)
                     give_up(trial, error), where that failed

`study.reference` (torch, unless a study says otherwise) serves each model with each workload before
its first trial, in the type and on the provider of the trial; that costs one pass of the workload
per model, type and provider. One prompt at a time, so that padding of larger batches is compared
too. It takes float32 in place of int8 to int4, which each engine rounds in its own way, and CUDA or
else the processor in place of a provider that it does not have. The cache keeps what it generated.

Without a reference trials stay valid: agreement is then unknown, and a flag gives the reason. The
next sweep tries again, not every trial of this one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from slm_energy import cache, prompts, workload
from slm_energy.cell import Settings, Trial
from slm_energy.config.groups import EngineConfig, ProviderConfig
from slm_energy.engines import precision
from slm_energy.engines.base import Compiles, LoadRequest, find
from slm_energy.engines.describe import refusal
from slm_energy.errors import EngineError
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.record import Reference, ReferenceAnswer
from slm_energy.serialization import Json, read_json, to_plain, write_json
from slm_energy.worker import requests

_FILE = "reference.json"


def needed(trial: Trial) -> bool:
    """Whether the trial is to be compared and this sweep has not yet tried to make its reference.

    Raises:
        ConfigError: there is no such engine.
    """
    return trial.reference is not None and read(trial) is None


def make(trial: Trial, progress: Callable[[float], None] = lambda share: None) -> None:
    """Serve the trial's prompts with the reference engine, and keep the outputs.

    Args:
        trial: whose prompts.
        progress: called with the share of them that is done, after each.

    Raises:
        SlmEnergyError: it cannot serve them.
        OSError: the cache cannot be written.
    """
    settings = _settings(trial)
    reason = refusal(settings)
    if reason is not None:
        raise EngineError(reason)
    _store(trial, _identity(trial), lambda: _serve(trial, settings, progress))


def give_up(trial: Trial, error: str) -> Reference:
    """Keep why there is no reference, for the other trials of this sweep; return it.

    In a cache that cannot be written, each of them tries again.
    """
    settings = _settings(trial)
    failed = Reference(
        engine=settings.engine.name,
        dtype=settings.engine.dtype,
        provider=settings.provider.name,
        error=error,
    )
    with contextlib.suppress(OSError):
        _store(trial, _failure(trial), lambda: failed)
    return failed


def read(trial: Trial) -> Reference | None:
    """The trial's reference, or why there is none; None if it was not tried or not requested."""
    if trial.reference is None:
        return None
    for identity in (_identity(trial), _failure(trial)):
        folder = _place(trial, identity)
        if cache.intact(folder):
            return read_json(folder / _FILE, Reference)
    return None


def _serve(trial: Trial, settings: Settings, progress: Callable[[float], None]) -> Reference:
    path, spec = Path(trial.model_path), find(settings.engine.name)
    request = LoadRequest(
        settings=settings,
        model_path=path,
        model_digest=trial.cell.model_digest,
        cache_path=Path(trial.cache_path),
        versions=spec.versions(),
        eos_ids=prompts.end_ids(path, settings),
    )
    tokenizer = load_tokenizer(path)
    config = settings.workload
    tasks = prompts.load_unchanged(config, trial.cell.workload_digest)
    tasks = prompts.rendered(tasks, settings.model, path, config)
    ids = [prompts.token_ids(tokenizer, task.prompt, config) for task in tasks]
    batches = list(requests.batches(tasks, ids, config, TokenTexts(tokenizer), size=1))
    if spec.needs_preparation(request):
        spec.prepare(request)
    engine = spec.create()
    effective = engine.load(request)
    if isinstance(engine, Compiles):
        engine.compile(batches)
    answers = list[ReferenceAnswer]()
    for task, batch in zip(tasks, batches, strict=True):
        answers.append(
            ReferenceAnswer(
                task_id=task.task_id,
                prompt_digest=workload.token_digest(batch.prompts[0]),
                output_ids=engine.generate(batch)[0].output_ids,
            )
        )
        progress(len(answers) / len(tasks))
    engine.close()
    return Reference(
        engine=settings.engine.name,
        dtype=str(effective["dtype"]),
        provider=str(effective["provider"]),
        answers=tuple(answers),
    )


def _settings(trial: Trial) -> Settings:
    """The trial's settings with the reference engine in place of its own."""
    own = trial.cell.settings
    dtype = own.engine.dtype
    if dtype != precision.STORED:  # only those weights are there
        dtype = precision.computed(dtype)
    engine = EngineConfig(name=str(trial.reference), dtype=dtype)
    cuda = ProviderConfig(name="cuda", device=own.provider.device)
    candidates = [
        dataclasses.replace(own, engine=engine, provider=provider)
        for provider in (own.provider, cuda, ProviderConfig(name="cpu"))
    ]
    return next((c for c in candidates if refusal(c) is None), candidates[0])


def _identity(trial: Trial) -> dict[str, Json]:
    settings = _settings(trial)
    return {
        "engine": settings.engine.name,
        "dtype": settings.engine.dtype,
        "provider": settings.provider.name,
        "attention": settings.model.attention,
        "model": trial.cell.model_digest,
        "workload": trial.cell.workload_digest,
        "fim": to_plain(settings.model.fim) if settings.workload.fim else None,
        "new_tokens": settings.workload.new_tokens,
        "stop": settings.workload.stop,
        "versions": find(settings.engine.name).versions(),
    }


def _failure(trial: Trial) -> dict[str, Json]:
    return _identity(trial) | {"failed_in": trial.sweep}


def _place(trial: Trial, identity: dict[str, Json]) -> Path:
    return cache.place(Path(trial.cache_path), "reference", identity)


def _store(trial: Trial, identity: dict[str, Json], make_it: Callable[[], Reference]) -> None:
    def fill(partial: Path) -> dict[str, Json]:
        write_json(partial / _FILE, make_it())
        return {}

    cache.make(_place(trial, identity), identity, fill, trial.cell.settings.model.name)
