#!/usr/bin/env python3
"""How much memory an engine takes for a model: the peak of its trial and of its export.

    python benchmarks/engine_memory.py [--model tinyllama-1.1b] [--engines A,B] [KEY=VALUE ...]

Each step (build, prepare, serve) runs in a process of its own, as in a sweep; its peak is the
largest resident set that the kernel saw, pages of files that are mapped included. Weights are
random. Wanted: a trial at most 1.15 times the weights and 1 GiB, an export less than three times
the weights. Beside each peak is what `slm-energy plan` predicts (`planning/memory.py`) and the
ratio of the prediction to the peak. Exits with 1 if a trial is above what is wanted, or a
prediction is off by more than 15 %. Last comes the time of one pass of the workload, after one that
warms up, beside what `plan` guesses where nothing was ever measured (`guess_s` in
`planning/needs.py`): wanted within a factor of 3. Prompts are the workload's; `--prompt-tokens`
makes others of that length.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bundled import batches, loaded, prepare, random_trial

from slm_energy import cache, workload
from slm_energy.cell import Trial
from slm_energy.planning.memory import ERROR
from slm_energy.planning.needs import TEXT_BYTES_PER_TOKEN, Needs, needs_of
from slm_energy.planning.size import size_of
from slm_energy.planning.speed import Speed, measure

GIB = 2**30
ENGINES = "torch,torch_compile,torchscript,onnx,openvino,llama_cpp"


def main() -> int:
    """Print one line per engine; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="tinyllama-1.1b")
    parser.add_argument("--engines", default=ENGINES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, help="of each prompt")
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="further settings")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.cache"))
    args = parser.parse_args()
    folder, missed, speed = args.cache.absolute(), 0, measure()
    for engine in args.engines.split(","):
        words = [f"model={args.model}", f"engine={engine}", f"engine.dtype={args.dtype}"]
        words += [f"workload.new_tokens={args.tokens}", f"workload.batch_size={args.batch}"]
        words += [f"workload.limit={2 * args.batch}", *args.words]
        if args.prompt_tokens is not None:
            words += [f"workload.source={prompts_of(args.prompt_tokens, 2 * args.batch, folder)}"]
        in_child(lambda words=words: random_trial(words, folder))
        trial, reason = random_trial(words, folder)
        if reason is not None:
            print(f"{engine:14} {reason}")
            continue
        weights, needs = weight_bytes(trial), predicted(trial)
        preparing, _ = in_child(lambda trial=trial: prepare(trial))
        serve, pass_s = in_child(lambda trial=trial: served(trial))
        if preparing is None or serve is None:
            print(f"{engine:14} failed", flush=True)
            missed = 1
            continue
        allowed = 1.15 * weights + GIB
        missed |= serve > allowed
        missed |= is_off(serve, needs.serve_bytes) or is_off(preparing, needs.prepare_bytes)
        print(
            f"{engine:14} weights {weights / GIB:.2f} GiB"
            f"   trial {beside(serve, needs.serve_bytes)}"
            f" (allowed {allowed / GIB:.2f}: {'met' if serve <= allowed else 'MISSED'})"
            f"   preparing {beside(preparing, needs.prepare_bytes)}"
            f" ({preparing / weights:.1f} times)"
            f"   pass {pass_s:.2f} s, guessed {pass_s_of(needs, speed):.2f} s,"
            f" ratio {pass_s_of(needs, speed) / pass_s:.2f}",
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
    mark = " OFF" * is_off(measured, expected)
    ratio = expected / measured
    return f"{measured / GIB:.2f} GiB, predicted {expected / GIB:.2f}, ratio {ratio:.2f}{mark}"


def pass_s_of(needs: Needs, speed: Speed) -> float:
    """Guessed seconds of one pass; NaN if its work is not known."""
    if needs.pass_bytes is None or needs.pass_flop is None:
        return math.nan
    return needs.pass_flop / speed.flop_per_s + needs.pass_bytes / speed.bytes_per_s


def is_off(measured: float, expected: float | None) -> bool:
    """Whether a prediction misses its target."""
    return expected is not None and abs(expected / measured - 1) > ERROR


def prompts_of(tokens: int, count: int, folder: Path) -> Path:
    """A file of prompts of about that many tokens of code."""
    line = "value = compute(value, 1)\n"
    text = line * math.ceil(tokens * TEXT_BYTES_PER_TOKEN / len(line))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"prompts-{tokens}-{count}.jsonl"
    rows = ({"task_id": str(n), "prompt": f"# {n}\n{text}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def served(trial: Trial) -> float:
    """Load, compile and serve in batches of the workload's size, twice; seconds of the second."""
    single, size = batches(trial), trial.cell.settings.workload.batch_size
    asked = [
        dataclasses.replace(
            single[at], prompts=tuple(p for batch in single[at : at + size] for p in batch.prompts)
        )
        for at in range(0, len(single), size)
    ]
    engine = loaded(trial, asked)
    for _ in range(2):
        begun = time.perf_counter()
        for batch in asked:
            engine.generate(batch)
    return time.perf_counter() - begun


def in_child(task: Callable[[], float | None]) -> tuple[int | None, float]:
    """Peak resident bytes of a forked process that does the task, None if it failed; the result."""
    result, end = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(end, struct.pack("d", task() or 0.0))
            code = 0
        finally:
            os._exit(code)
    os.close(end)
    _, status, usage = os.wait4(child, 0)
    time.sleep(0.1)
    with open(result, "rb") as pipe:
        text = pipe.read()
    return (usage.ru_maxrss * 1024, *struct.unpack("d", text)) if status == 0 else (None, 0.0)


if __name__ == "__main__":
    sys.exit(main())
