"""The windows of one trial, in the order in which they are opened.

    start | load | compile | baseline | warmup | prefill | [ramp] serve | decode texts | end

Prefill and serve repeat the whole workload, the first with one token per answer. The
sampler is notified of each window; nothing else of it is known here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slm_energy import cpu_quota
from slm_energy.cell import Trial
from slm_energy.clocks import ReadClocks, read_clocks
from slm_energy.energy_filter import energy_filter
from slm_energy.engines.base import (
    Batch,
    Compiles,
    Completion,
    Engine,
    adopted,
    find,
    load_request_of,
)
from slm_energy.errors import EngineError
from slm_energy.machine import allowed_processors, governor, processor
from slm_energy.models.folder import context_length
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.prompts import require_fit, token_ids
from slm_energy.record import Capture, ClockAnchor, LoadReport, Metering, WarmUp
from slm_energy.serialization import Json
from slm_energy.tasks import Task
from slm_energy.worker import endings, requests, served
from slm_energy.worker.loading import Loading
from slm_energy.worker.served import Served
from slm_energy.worker.timeline import Timeline
from slm_energy.worker.warmup import warm_up

ReportPhase = Callable[[str, float], None]


def serve(
    trial: Trial,
    tasks: Sequence[Task],
    metering: Metering | None,
    progress: ReportPhase,
    file: Path,
    clocks: ReadClocks = read_clocks,
) -> tuple[Capture, Served]:
    """Run the windows of one trial.

    Args:
        trial: what to run.
        tasks: its workload's prompts, as the model gets them (`prompts.rendered`).
        metering: None when nothing is metered.
        progress: called with the phase's name and the share of it that is done, between requests.
        file: is created, and gets the answers (`served.py`).
        clocks: reads the machine's clocks.

    Returns:
        The capture without its generations, and what they are made of besides the file.

    Raises:
        SlmEnergyError: model, engine and prompts do not allow these settings.
    """
    settings, clock = trial.cell.settings, clocks()
    measurement = settings.measurement
    shortest_s = metering.shortest_s if metering else 0.0
    engine = find(settings.engine.name).create()
    timeline = Timeline(metering, clocks)

    request = load_request_of(trial)
    progress("load", 0.0)
    with timeline.window("load"):
        tokenizer = load_tokenizer(request.model_path)
        effective = engine.load(request)
    for pid in adopted(effective):
        timeline.adopt(pid)

    prompts = [token_ids(tokenizer, task.prompt, settings.workload) for task in tasks]
    context = effective.get("context")
    if isinstance(context, int):
        whole = context_length(request.model_path) in (None, context)
        # A graph has the positions of shorter sequences only: `models.folder.graph_context`.
        of = "the model" if whole else f"engine {settings.engine.name}"
        require_fit(tasks, prompts, settings.workload.new_tokens, context, of)
    texts, workload = TokenTexts(tokenizer), settings.workload
    size = workload.batch_size if settings.load.mode == "batch" else 1
    batches = list(requests.batches(tasks, prompts, workload, texts, size))

    if isinstance(engine, Compiles):
        progress("compile", 0.0)
        with timeline.window("compile"):
            effective |= engine.compile(batches) or {}  # in place: the engine may add to it

    if measurement.baseline_s > 0:
        progress("baseline", 0.0)
        with timeline.window("baseline"):
            time.sleep(max(measurement.baseline_s, shortest_s))

    warmed = None
    if measurement.warmup_requests > 0:
        with timeline.window("warmup"):
            warmed = warm_up(
                engine,
                batches,
                requests=measurement.warmup_requests,
                at_most_s=measurement.warmup_s,
                progress=lambda share: progress("warmup", share),
            )

    if measurement.prefill_s > 0 and settings.load.mode == "batch":
        one_token = [dataclasses.replace(batch, new_tokens=1) for batch in batches]
        with timeline.window("prefill") as span:
            at_least_s = max(measurement.prefill_s, shortest_s)
            span.passes = _repeat(engine, one_token, at_least_s, progress, "prefill")

    if settings.load.mode != "batch":
        at_least_s = max(measurement.serve_s, shortest_s)
        loading = Loading(settings.load, batches, engine, trial.round, progress)
        report = asyncio.run(loading.run(timeline.window, at_least_s))
        timeline.close()
        engine.close()
        loaded = loading.write(file)
        answers = endings.loaded_of(file, tasks, batches, trial, texts, loaded)
        return _capture(trial, timeline, effective, clock, warmed, report), answers

    # The window ends before the file is closed, and the rest of the answers written.
    with (
        file.open("wb", buffering=served.BUFFER_BYTES) as output,
        timeline.window("serve") as span,
    ):
        at_least_s = max(measurement.serve_s, shortest_s)
        keep = functools.partial(served.append, output)
        span.passes = _repeat(engine, batches, at_least_s, progress, "serve", keep)
    timeline.close()
    engine.close()
    answers = endings.served_of(file, tasks, batches, trial, texts)
    return _capture(trial, timeline, effective, clock, warmed), answers


def _capture(
    trial: Trial,
    timeline: Timeline,
    effective: dict[str, Json],
    clock: ClockAnchor,
    warmed: WarmUp | None,
    load: LoadReport | None = None,
) -> Capture:
    """The capture without its generations."""
    return Capture(
        windows=tuple(timeline.windows),
        generations=(),
        effective=effective,
        environment=_environment(trial),
        clock=clock,
        warmup=warmed,
        load=load,
    )


def _repeat(
    engine: Engine,
    batches: Sequence[Batch],
    at_least_s: float,
    progress: ReportPhase,
    phase: str,
    keep: Callable[[int, Sequence[Completion]], None] = lambda start_ns, answers: None,
) -> int:
    """Repeat the whole workload until `at_least_s` have passed; return the number of passes.

    `keep` is called with when each batch was handed to the engine, and its answers.

    Raises:
        EngineError: the engine did not answer each request.
    """
    passes, reported_ns = 0, 0
    start_ns = time.monotonic_ns()
    enough_ns = start_ns + round(at_least_s * 1e9)
    while not passes or time.monotonic_ns() < enough_ns:
        for number, batch in enumerate(batches):
            now_ns = time.monotonic_ns()
            if now_ns - reported_ns > 1_000_000_000:
                reported_ns = now_ns
                by_time = (now_ns - start_ns) / max(1, enough_ns - start_ns)
                by_pass = (passes + number / len(batches)) / (passes + 1)
                progress(phase, min(by_time, by_pass))
            batch_ns = time.monotonic_ns()
            answers = engine.generate(batch)
            if len(answers) != len(batch.prompts):
                asked = len(batch.prompts)
                raise EngineError(f"the engine gave {len(answers)} answers to {asked} requests")
            keep(batch_ns, answers)
        passes += 1
    return passes


def _environment(trial: Trial) -> dict[str, Json]:
    quotas, settings = cpu_quota.read(), trial.cell.settings
    quota = quotas.tightest
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "processors_usable": len(os.sched_getaffinity(0)),
        "processors_allowed": allowed_processors(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "governor": governor(),
        "cpu_quota": quotas.unknown or None if quota is None else [quota.quota_us, quota.period_us],
        "nvidia_driver": _nvidia_driver(),
        "rapl_energy_filter": energy_filter(),
        "hostname": platform.node(),
        "versions": find(settings.engine.name).versions(settings),
    }


def _nvidia_driver() -> str | None:
    """The version line of the kernel's module; None where it is not loaded."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else None
