#!/usr/bin/env python3
"""What the convenience class costs: decoded tokens/s of `session` against `generate`.

    python benchmarks/decoding_path.py [--quick] [--threads N]

The bundled model decodes the same prompts both ways, batch 1, in rounds that take turns in one
process per engine. Speed is taken from the first token of a request to its last: the prompt is read
by the same kernels either way. The figure is the median over rounds of the ratio of the two speeds,
which a busy neighbour disturbs less than it disturbs either speed; beside it stands the same with
the prompts' time counted. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bundled import batches, bundled_trial, loaded

from slm_energy.engines.base import Batch, Engine

TARGETS = {"onnx": 2.0, "torch": 1.0}
DECODES = ("session", "generate")


class Speed(NamedTuple):
    """Tokens per second between first and last token, and over all."""

    decode: float
    whole: float


def main() -> int:
    """Measure each engine in a process of its own; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--engine", choices=TARGETS, help="measure in this process (internal)")
    args = parser.parse_args()
    if args.engine:
        return measure(args.engine, args.threads, *((2, 3, 32) if args.quick else (8, 31, 64)))
    print(f"{args.threads} thread(s), medians over rounds; target for the ratio while decoding")
    command = [sys.executable, *sys.argv]
    return max(subprocess.run([*command, "--engine", name]).returncode for name in TARGETS)


def measure(name: str, threads: int, prompts: int, rounds: int, new_tokens: int) -> int:
    """Print one engine's line; return the exit code."""
    speeds: dict[str, list[Speed]] = {decode: [] for decode in DECODES}
    with tempfile.TemporaryDirectory() as cache:
        words = [f"engine={name}", f"engine.threads={threads}", f"workload.limit={prompts}"]
        words += [f"workload.new_tokens={new_tokens}"]
        trials = {d: bundled_trial([*words, f"engine.decode={d}"], Path(cache)) for d in DECODES}
        asked = batches(trials["session"])
        engines = {decode: loaded(trial) for decode, trial in trials.items()}
        for engine in engines.values():
            engine.generate(asked[0])
        for number in range(rounds):
            for decode in DECODES if number % 2 else DECODES[::-1]:
                speeds[decode].append(speed(engines[decode], asked))
    pairs = list(zip(speeds["session"], speeds["generate"], strict=True))
    ratios = sorted(s.decode / g.decode for s, g in pairs)
    ratio, quarter = statistics.median(ratios), len(ratios) // 4
    whole = statistics.median(s.whole / g.whole for s, g in pairs)
    per_s = {key: statistics.median(speed.decode for speed in speeds[key]) for key in DECODES}
    target = TARGETS[name]
    print(
        f"{name:6} session {per_s['session']:7.1f}   generate {per_s['generate']:7.1f} tokens/s"
        f"   ratio {ratio:.2f} (middle half {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f};"
        f" with prompts {whole:.2f})"
        f"   target {target}: {'met' if ratio >= target else 'MISSED'}",
        flush=True,
    )
    return int(ratio < target)


def speed(engine: Engine, batches: list[Batch]) -> Speed:
    """Serve all batches once."""
    start_ns = time.monotonic_ns()
    answers = [answer for batch in batches for answer in engine.generate(batch)]
    whole_ns = time.monotonic_ns() - start_ns
    decode_ns = sum(answer.token_ns[-1] - answer.token_ns[0] for answer in answers)
    tokens = sum(len(answer.output_ids) for answer in answers)
    return Speed(decode=(tokens - len(answers)) / decode_ns * 1e9, whole=tokens / whole_ns * 1e9)


if __name__ == "__main__":
    sys.exit(main())
