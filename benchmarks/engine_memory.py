#!/usr/bin/env python3
"""How much memory an engine takes for a model: the peak of its trial and of its export.

    python benchmarks/engine_memory.py [--model tinyllama-1.1b] [--engines A,B] [--tokens N]

Each step (build, prepare, serve) runs in a process of its own, as in a sweep; its peak is the
largest resident set that the kernel saw, pages of files that are mapped included. Weights are
random. Wanted: a trial at most 1.15 times the weights and 1 GiB, an export less than three times
the weights. Exits with 1 if a trial is above that.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bundled import batches, loaded, prepare, random_trial

from slm_energy.cell import Trial

GIB = 2**30
ENGINES = "torch,torch_compile,torchscript,onnx,openvino,llama_cpp"


def main() -> int:
    """Print one line per engine; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="tinyllama-1.1b")
    parser.add_argument("--engines", default=ENGINES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.cache"))
    args = parser.parse_args()
    cache, missed = args.cache.absolute(), 0
    for engine in args.engines.split(","):
        words = [f"model={args.model}", f"engine={engine}", f"engine.dtype={args.dtype}"]
        words += [f"workload.new_tokens={args.tokens}", "workload.limit=2"]
        in_child(lambda words=words: random_trial(words, cache))
        trial, reason = random_trial(words, cache)
        if reason is not None:
            print(f"{engine:14} {reason}")
            continue
        weights = weight_bytes(trial)
        preparing = in_child(lambda trial=trial: prepare(trial))
        serve = in_child(lambda trial=trial: served(trial))
        if preparing is None or serve is None:
            print(f"{engine:14} failed")
            missed = 1
            continue
        allowed = 1.15 * weights + GIB
        missed |= serve > allowed
        print(
            f"{engine:14} weights {weights / GIB:.2f} GiB   trial {serve / GIB:.2f} GiB"
            f" (allowed {allowed / GIB:.2f}: {'met' if serve <= allowed else 'MISSED'})"
            f"   preparing {preparing / GIB:.2f} GiB ({preparing / weights:.1f} times)",
            flush=True,
        )
    return missed


def weight_bytes(trial: Trial) -> float:
    """Size of the weights in float32: stored ones have two bytes per value."""
    stored = sum(path.stat().st_size for path in Path(trial.model_path).glob("*.safetensors"))
    return 2.0 * stored


def served(trial: Trial) -> None:
    """Load, compile and serve."""
    engine = loaded(trial)
    for batch in batches(trial):
        engine.generate(batch)


def in_child(task: Callable[[], object]) -> int | None:
    """Peak resident bytes of a forked process that does the task; None if it failed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            task()
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    time.sleep(0.1)
    return usage.ru_maxrss * 1024 if status == 0 else None


if __name__ == "__main__":
    sys.exit(main())
