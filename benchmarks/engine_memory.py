#!/usr/bin/env python3
"""How much memory an engine takes for a model: the peak of its trial and of its export.

    python benchmarks/engine_memory.py [--model tinyllama-1.1b] [--engines A,B] [KEY=VALUE ...]

Each step (build, prepare, serve) runs in a process of its own, as in a sweep; its peak is the
largest resident set that the kernel saw, pages of files that are mapped included. Weights are
random. Wanted: a trial at most 1.15 times the weights and 1 GiB, an export less than three times
the weights. Exits with 1 if a trial is above that. Beside each peak is what `slm-energy plan`
predicts (`planning/needs.py`) and by how much that is off.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bundled import batches, loaded, prepare, random_trial

from slm_energy import cache, workload
from slm_energy.cell import Trial
from slm_energy.planning.needs import Needs, needs_of, size_of

GIB = 2**30
ENGINES = "torch,torch_compile,torchscript,onnx,openvino,llama_cpp"


def main() -> int:
    """Print one line per engine; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="tinyllama-1.1b")
    parser.add_argument("--engines", default=ENGINES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="further settings")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.cache"))
    args = parser.parse_args()
    folder, missed = args.cache.absolute(), 0
    for engine in args.engines.split(","):
        words = [f"model={args.model}", f"engine={engine}", f"engine.dtype={args.dtype}"]
        words += [f"workload.new_tokens={args.tokens}", "workload.limit=2"]
        words += args.words
        in_child(lambda words=words: random_trial(words, folder))
        trial, reason = random_trial(words, folder)
        if reason is not None:
            print(f"{engine:14} {reason}")
            continue
        weights, needs = weight_bytes(trial), predicted(trial)
        preparing = in_child(lambda trial=trial: prepare(trial))
        serve = in_child(lambda trial=trial: served(trial))
        if preparing is None or serve is None:
            print(f"{engine:14} failed", flush=True)
            missed = 1
            continue
        allowed = 1.15 * weights + GIB
        missed |= serve > allowed
        print(
            f"{engine:14} weights {weights / GIB:.2f} GiB"
            f"   trial {beside(serve, needs.serve_bytes)}"
            f" (allowed {allowed / GIB:.2f}: {'met' if serve <= allowed else 'MISSED'})"
            f"   preparing {beside(preparing, needs.prepare_bytes)}"
            f" ({preparing / weights:.1f} times)",
            flush=True,
        )
    return missed


def weight_bytes(trial: Trial) -> float:
    """Size of the weights in float32: stored ones have two bytes per value."""
    stored = sum(path.stat().st_size for path in Path(trial.model_path).glob("*.safetensors"))
    return 2.0 * stored


def predicted(trial: Trial) -> Needs:
    """What `plan` says that the trial needs: no export where the cache has it."""
    settings = trial.cell.settings
    prompts = [task.prompt for task in workload.load(settings.workload)]
    cached = cache.entries(Path(trial.cache_path))
    return needs_of(trial.cell, size_of(settings.model.architecture), prompts, cached)


def beside(measured: float, expected: float | None) -> str:
    """A peak, and what was expected."""
    if expected is None:
        return f"{measured / GIB:.2f} GiB"
    off_pct = 100 * (expected / measured - 1)
    return f"{measured / GIB:.2f} GiB, predicted {expected / GIB:.2f} ({off_pct:+.0f} %)"


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
