"""Trials of optimum-benchmark in its own environment: process launcher, PyTorch, all its trackers.

    python optimum_trials.py MODEL TRIALS REQUESTS PROMPT_TOKENS NEW_TOKENS FILE

Writes to FILE when each trial began, on the monotonic clock, and how long its model was at work:
the report's own durations for loading, the first request and the latency run. Runs that the report
does not time (warm-up, memory, energy) are taken to be as long as those that it does.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

WARM_UPS = 4


def main() -> None:
    """Run the trials, one after the other."""
    model, *numbers, file = sys.argv[1:]
    trials, requests, prompt_tokens, new_tokens = map(int, numbers)
    from optimum_benchmark import (
        Benchmark,
        BenchmarkConfig,
        InferenceConfig,
        ProcessConfig,
        PyTorchConfig,
    )

    config = BenchmarkConfig(
        name="trial_overhead",
        launcher=ProcessConfig(),
        backend=PyTorchConfig(
            model=model,
            device="cpu",
            task="text-generation",
            library="transformers",
            torch_dtype="float32",
        ),
        scenario=InferenceConfig(
            latency=True,
            memory=True,
            energy=True,
            iterations=requests,
            duration=0,
            warmup_runs=WARM_UPS,
            input_shapes={"batch_size": 1, "sequence_length": prompt_tokens},
            generate_kwargs={"max_new_tokens": new_tokens, "min_new_tokens": new_tokens},
        ),
    )
    found = []
    for number in range(trials):
        started = time.monotonic()
        report = Benchmark.launch(config)
        Benchmark(config=config, report=report).save_json(f"{file}.trial{number}")
        found.append({"started_s": started, "windows_s": at_work_s(report, requests)})
    answer = {"version": version("optimum-benchmark"), "trials": found, "ended_s": time.monotonic()}
    Path(file).write_text(json.dumps(answer), encoding="utf-8")


def at_work_s(report: Any, requests: int) -> float:
    """Seconds in which the model was loaded or computed."""
    request_s, prompt_s = report.generate.latency.mean, report.prefill.latency.mean
    timed_s = report.load_model.latency.total + report.first_generate.latency.total
    timed_s += report.generate.latency.total
    # Memory: one of each. Energy: as many of each as there were requests.
    untimed_s = (1 + requests) * (request_s + prompt_s)
    return float(timed_s + untimed_s + WARM_UPS * request_s)


if __name__ == "__main__":
    main()
