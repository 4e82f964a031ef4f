"""One trial of optimum-benchmark in its own environment: process launcher, PyTorch, all trackers.

    python optimum_trial.py MODEL REQUESTS PROMPT_TOKENS NEW_TOKENS FILE

Writes to FILE when the trial began, how long it took with its report saved, and how long its model
was at work: the report's own durations for loading, the first request and the latency run. Requests
that the report does not time (warm-up, memory, energy) are taken to be as long as those it does.
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
    """Run the trial."""
    model, *numbers, file = sys.argv[1:]
    requests, prompt_tokens, new_tokens = map(int, numbers)
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
    begun_unix_s, begun_s = time.time(), time.monotonic()
    report = Benchmark.launch(config)
    Benchmark(config=config, report=report).save_json(f"{file}.report")
    answer = {
        "version": version("optimum-benchmark"),
        "begun_unix_s": begun_unix_s,
        "trial_s": time.monotonic() - begun_s,
        "windows_s": at_work_s(report, requests),
    }
    Path(file).write_text(json.dumps(answer), encoding="utf-8")


def at_work_s(report: Any, requests: int) -> float:
    """Seconds in which the model was loaded or computed."""
    request_s, prompt_s = report.generate.latency.mean, report.prefill.latency.mean
    timed_s = report.load_model.latency.total + report.first_generate.latency.total
    timed_s += report.generate.latency.total
    # Warming up: one, and some that are shorter. Memory: one of each. Energy: as many as latency.
    untimed_s = (WARM_UPS + 2 + requests) * request_s + (1 + requests) * prompt_s
    return float(timed_s + untimed_s)


if __name__ == "__main__":
    main()
