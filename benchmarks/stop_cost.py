#!/usr/bin/env python3
"""What `workload.stop=code` costs per token, and what it saves.

    python benchmarks/stop_cost.py [--quick] [--threads N]

Cost: requests with stop texts that never occur (a line break and a character that no answer has, as
many as a function has) alternate with `stop=fixed` requests of the same prompt. A step is the
median time between tokens of a request; `with / without` is the median over pairs of requests, and
brackets have its middle half. `check` is the time of the check alone, over the same tokens: for
`generate` with the stopping criterion that transformers then calls. Its share of a step without it
is the figure; the two steps agree with it only as far as the machine is quiet.

Savings: the bundled tasks with the stop texts of their functions, beside `fixed` and `eos`, with
twice the default number of tokens. Exits with 1 if a share reaches 1 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from bundled import bundled_trial, prepare, random_trial

from slm_energy import workload
from slm_energy.cell import Trial
from slm_energy.engines.base import Batch, Engine, find, load_request_of
from slm_energy.engines.decode import _EndOfCode
from slm_energy.engines.ends import Ends
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.worker import requests

TARGET = 0.01
NEVER = tuple("\n" + chr(0xE000 + n) for n in range(56))
WAYS = (("torch", "session"), ("torch", "generate"), ("onnx", "session"))


def main() -> int:
    """Print cost and savings; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs, and no large model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        shares = []
        for name, decode in WAYS:
            words = [f"engine={name}", f"engine.decode={decode}", f"engine.threads={args.threads}"]
            trials = {"bundled": bundled_trial(words, cache)}
            if not args.quick and name == "torch":
                trials["codeparrot-small, 110 M"], _ = random_trial(
                    [*words, "model=codeparrot-small"], cache
                )
            for model, trial in trials.items():
                pairs = 5 if args.quick else 24 if model == "bundled" else 6
                shares.append(cost(f"{name} {decode}, {model}", trial, pairs))
        savings(bundled_trial([f"engine.threads={args.threads}", "engine=torch"], cache))
    return int(max(shares) >= TARGET)


def cost(what: str, trial: Trial, pairs: int) -> float:
    """Print the cost of the check in one engine; return its share of a token step."""
    prepare(trial)
    engine = find(trial.cell.settings.engine.name).create()
    engine.load(dataclasses.replace(load_request_of(trial), eos_ids=()))
    tokenizer = load_tokenizer(Path(trial.model_path))
    tasks = workload.load(trial.cell.settings.workload)[:8]
    steps: list[tuple[float, float]] = []
    ids: tuple[int, ...] = ()
    for number in range(pairs + 2):
        prompt = tuple(tokenizer.encode(tasks[number % len(tasks)].prompt).ids)
        fixed = Batch(prompts=(prompt,), new_tokens=64, stop="fixed")
        code = dataclasses.replace(
            fixed, stop="code", stop_texts=(NEVER,), token_texts=TokenTexts(tokenizer)
        )
        engine.generate(code)  # its tokens are decoded once in a trial, in the warm-up
        order = (fixed, code) if number % 2 else (code, fixed)
        each = {batch.stop: step_us(engine, batch) for batch in order}
        if number >= 2:
            steps.append((each["fixed"], each["code"]))
        ids = engine.generate(fixed)[0].output_ids
    ratios = sorted(checked / plain for plain, checked in steps)
    plain_us = statistics.median(plain for plain, _ in steps)
    ns = check_ns(code, ids, generate=trial.cell.settings.engine.decode == "generate")
    share = ns / 1000 / plain_us
    print(
        f"{what}: check {ns:.0f} ns of a step of {plain_us:.0f} us: {share:.3%};"
        f" with / without {statistics.median(ratios):.4f}"
        f" ({ratios[len(ratios) // 4]:.4f} to {ratios[-1 - len(ratios) // 4]:.4f})"
    )
    engine.close()
    return share


def step_us(engine: Engine, batch: Batch) -> float:
    """Median time between the tokens of one request."""
    stamps = engine.generate(batch)[0].token_ns
    return statistics.median((after - before) / 1000 for before, after in pairwise(stamps))


def check_ns(batch: Batch, ids: tuple[int, ...], generate: bool) -> float:
    """Time of the check per token: the fastest of 200 passes over an answer."""
    columns = [[token] for token in ids]
    passes = []
    for _ in range(200):
        ends = Ends(batch, ())
        began = time.perf_counter_ns()
        for column in columns:
            ends.after(column)
        passes.append((time.perf_counter_ns() - began) / len(columns))
    return min(passes) + (criterion_ns(batch) if generate else 0.0)


def criterion_ns(batch: Batch) -> float:
    """Time of the stopping criterion in transformers' list of criteria, beyond an empty list."""
    import torch
    from transformers import StoppingCriteriaList

    ids = torch.zeros((1, 64), dtype=torch.int64)
    lists: tuple[list[object], ...] = ([], [_EndOfCode(Ends(batch, ()))])
    fastest = []
    for each in map(StoppingCriteriaList, lists):
        passes = []
        for _ in range(2000):
            began = time.perf_counter_ns()
            each(ids, None)
            passes.append(time.perf_counter_ns() - began)
        fastest.append(statistics.median(passes))
    return fastest[1] - fastest[0]


def savings(trial: Trial) -> None:
    """Print tokens and seconds per request of the bundled tasks with each `workload.stop`."""
    prepare(trial)
    engine = find("torch").create()
    engine.load(load_request_of(trial))
    tokenizer = load_tokenizer(Path(trial.model_path))
    asked = dataclasses.replace(trial.cell.settings.workload, new_tokens=128)
    tasks, texts = workload.load(asked), TokenTexts(tokenizer)
    prompts = [tuple(tokenizer.encode(task.prompt).ids) for task in tasks]
    stops = ("fixed", "eos", "code")
    batches: dict[str, list[Batch]] = {}
    for stop in stops:
        ending = dataclasses.replace(asked, stop=stop)  # type: ignore[arg-type]
        batches[stop] = list(requests.batches(tasks, prompts, ending, texts, size=1))
    engine.generate(batches["fixed"][0])
    seconds, tokens = dict.fromkeys(stops, 0.0), dict.fromkeys(stops, 0)
    for number in range(len(tasks)):
        for stop in stops:  # in turn, so that other load on the machine meets all of them
            began = time.perf_counter()
            tokens[stop] += len(engine.generate(batches[stop][number])[0].output_ids)
            seconds[stop] += time.perf_counter() - began
    for stop in stops:
        print(
            f"{len(tasks)} bundled tasks, stop={stop}: {tokens[stop] / len(tasks):.1f} tokens per"
            f" request, {1 - tokens[stop] / tokens['fixed']:.0%} fewer than fixed;"
            f" {1 - seconds[stop] / seconds['fixed']:.0%} less time"
        )


if __name__ == "__main__":
    sys.exit(main())
