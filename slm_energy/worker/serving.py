"""The windows of one trial, in the order in which they are opened.

    start | load | compile | baseline | warmup | prefill | serve | decode texts | end

Prefill and serve repeat the whole workload, the first with one token per answer. The
sampler is notified of each window; nothing else of it is known here.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from slm_energy import cpu_quota
from slm_energy.cell import Trial
from slm_energy.clocks import ReadClocks, read_clocks
from slm_energy.config.groups import WorkloadConfig
from slm_energy.energy_filter import energy_filter
from slm_energy.engines.base import Batch, Compiles, Completion, Engine, find, load_request_of
from slm_energy.engines.ends import cut
from slm_energy.errors import WorkloadError
from slm_energy.machine import allowed_processors, governor, processor
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.prompts import end_ids, token_ids
from slm_energy.record import Capture, Generation, Metering
from slm_energy.serialization import Json
from slm_energy.tasks import Task
from slm_energy.worker import requests
from slm_energy.worker.timeline import Timeline
from slm_energy.worker.warmup import warm_up
from slm_energy.workload import token_digest

ReportPhase = Callable[[str, float], None]


def serve(
    trial: Trial,
    tasks: Sequence[Task],
    metering: Metering | None,
    progress: ReportPhase,
    clocks: ReadClocks = read_clocks,
) -> Capture:
    """Run the windows of one trial.

    Args:
        trial: what to run.
        tasks: its workload's prompts, as the model gets them (`prompts.rendered`).
        metering: None when nothing is metered.
        progress: called with the phase's name and the share of it that is done, between requests.
        clocks: reads the machine's clocks.

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
    for pid in _adopted(effective):
        timeline.adopt(pid)

    prompts = [token_ids(tokenizer, task.prompt, settings.workload) for task in tasks]
    _check_context(tasks, prompts, settings.workload.new_tokens, effective.get("context"))
    texts, workload = TokenTexts(tokenizer), settings.workload
    batches = list(requests.batches(tasks, prompts, workload, texts, workload.batch_size))

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

    if measurement.prefill_s > 0:
        one_token = [dataclasses.replace(batch, new_tokens=1) for batch in batches]
        with timeline.window("prefill") as span:
            at_least_s = max(measurement.prefill_s, shortest_s)
            span.passes = len(_repeat(engine, one_token, at_least_s, progress, "prefill"))

    with timeline.window("serve") as span:
        at_least_s = max(measurement.serve_s, shortest_s)
        served = _repeat(engine, batches, at_least_s, progress, "serve")
        span.passes = len(served)
    timeline.close()
    engine.close()
    return Capture(
        windows=tuple(timeline.windows),
        generations=tuple(_generations(served, tasks, batches, trial, texts)),
        effective=effective,
        environment=_environment(trial),
        clock=clock,
        warmup=warmed,
    )


def _adopted(effective: dict[str, Json]) -> list[int]:
    """Processes of a running server that computes for the engine."""
    listed = effective.get("adopted")
    return [pid for pid in listed if isinstance(pid, int)] if isinstance(listed, list) else []


def _check_context(
    tasks: Sequence[Task], prompts: Sequence[tuple[int, ...]], new: int, context: Json
) -> None:
    if not isinstance(context, int):
        return
    for task, prompt in zip(tasks, prompts, strict=True):
        if len(prompt) + new > context:
            room = context - len(prompt)
            remedy = f"at most {room} fit" if room > 0 else "take a model with a longer context"
            raise WorkloadError(
                f"prompt {task.task_id} has {len(prompt)} tokens; with workload.new_tokens={new} it"
                f" exceeds the model's context of {context}: {remedy}"
            )


def _repeat(
    engine: Engine,
    batches: Sequence[Batch],
    at_least_s: float,
    progress: ReportPhase,
    phase: str,
) -> list[list[tuple[int, list[Completion]]]]:
    """Repeat the whole workload until `at_least_s` have passed.

    Returns:
        Per pass and batch: when it was handed to the engine, and its answers.
    """
    served: list[list[tuple[int, list[Completion]]]] = []
    reported_ns = 0
    start_ns = time.monotonic_ns()
    enough_ns = start_ns + round(at_least_s * 1e9)
    while not served or time.monotonic_ns() < enough_ns:
        answers: list[tuple[int, list[Completion]]] = []
        for number, batch in enumerate(batches):
            now_ns = time.monotonic_ns()
            if now_ns - reported_ns > 1_000_000_000:
                reported_ns = now_ns
                by_time = (now_ns - start_ns) / max(1, enough_ns - start_ns)
                by_pass = (len(served) + number / len(batches)) / (len(served) + 1)
                progress(phase, min(by_time, by_pass))
            answers.append((time.monotonic_ns(), engine.generate(batch)))
        served.append(answers)
    return served


def _generations(
    served: Sequence[Sequence[tuple[int, list[Completion]]]],
    tasks: Sequence[Task],
    batches: Sequence[Batch],
    trial: Trial,
    texts: TokenTexts,
) -> Iterator[Generation]:
    settings = trial.cell.settings
    ends = end_ids(Path(trial.model_path), settings)
    requests = [batch.request(row) for batch in batches for row in range(len(batch.prompts))]
    digests = [token_digest(request.prompts[0]) for request in requests]
    for pass_index, answered in enumerate(served):
        position = 0
        for batch_index, (start_ns, answers) in enumerate(answered):
            for answer in answers:
                request = requests[position]
                text, stop = _ending(answer.output_ids, request, ends, texts, settings.workload)
                yield Generation(
                    task_id=tasks[position].task_id,
                    pass_index=pass_index,
                    batch_index=batch_index,
                    prompt_digest=digests[position],
                    input_tokens=len(request.prompts[0]),
                    output_ids=answer.output_ids,
                    start_ns=start_ns,
                    token_ns=answer.token_ns,
                    stop=stop,
                    text=text if pass_index == 0 else None,
                )
                position += 1


def _ending(
    ids: Sequence[int],
    request: Batch,
    ends: Sequence[int],
    texts: TokenTexts,
    workload: WorkloadConfig,
) -> tuple[str, Literal["length", "eos", "code"]]:
    """The text of an answer up to where it ends, and what ended it.

    A chat's reply or a middle ends with its first end token, and `stop=fixed` generates on. A
    completion is kept whole: it ends with a line of text (`scoring.answer.end`).
    """
    kept = ids
    if workload.prompt == "chat" or workload.fim:
        kept = list(itertools.takewhile(lambda token: token not in ends, ids))
    text = texts.text(kept)
    ended = request.stop != "fixed" and bool(ids) and ids[-1] in ends
    if request.stop == "code" and not ended:
        code = cut(text, request.stop_texts[0])
        return (text, "length") if code is None else (code, "code")
    full = len(ids) == request.new_tokens
    return text, "length" if full and not ended else "eos"


def _environment(trial: Trial) -> dict[str, Json]:
    quota = cpu_quota.read()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "processors_usable": len(os.sched_getaffinity(0)),
        "processors_allowed": allowed_processors(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "governor": governor(),
        "cpu_quota": None if quota is None else [quota.quota_us, quota.period_us],
        "nvidia_driver": _nvidia_driver(),
        "rapl_energy_filter": energy_filter(),
        "hostname": platform.node(),
        "versions": dict(find(trial.cell.settings.engine.name).versions()),
    }


def _nvidia_driver() -> str | None:
    """The version line of the kernel's module; None where it is not loaded."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else None
