#!/usr/bin/env python3
"""Is each engine as fast here as its library is in plain public use? Decoded tokens/s, in turns.

    python benchmarks/engine_speed.py [--models A,B] [--engines A,B] [--rounds N] [--tokens N]

Ours and the plain use (`plain_use.py`: what a user of that library writes) are loaded into one
process and take turns on one prompt of 32 tokens, float32, batch 1, the same number of threads,
the same weights. Time per decoded token is what N tokens take beyond what one token takes, so
reading the prompt is not in it. The figure is the median over rounds of plain / ours: 1.0 or more
means that ours is not slower. `loop` is what our own Python takes of ours, beside the runtime's
call (`loop_cost.py` says how). Models other than the bundled one have random weights at full size,
which cost what real ones cost. Exits with 1 below --at-least, or if the tokens are not the same.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import loop_cost
import plain_use
from bundled import bundled_trial, loaded, random_trial

from slm_energy.cell import Trial
from slm_energy.engines.base import Batch

MODELS = "bundled,tiny_starcoder_py,tinyllama-1.1b"
PROMPT = tuple(range(7, 39))
Decode = Callable[[int], list[int]]
"""Decodes the prompt; takes the number of new tokens, returns their ids."""


def main() -> int:
    """Measure each model and engine in a process of its own; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--engines", default=",".join(plain_use.USES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=33, help="new tokens per request")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--options", default="", help="engine.options of ours, as KEY=VALUE,...")
    parser.add_argument("--at-least", type=float, default=1.0, help="lowest ratio that is well")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.cache"))
    parser.add_argument("--inside", nargs=2, metavar=("MODEL", "ENGINE"), help="internal")
    args = parser.parse_args()
    if args.inside:
        return measure(*args.inside, args)
    print(f"{args.threads} thread(s), {args.tokens} tokens, medians of {args.rounds} rounds")
    command = [sys.executable, *sys.argv, "--inside"]
    codes = [
        subprocess.run([*command, model, engine], stderr=subprocess.DEVNULL).returncode
        for model in args.models.split(",")
        for engine in args.engines.split(",")
    ]
    return max(codes)


def measure(model: str, name: str, args: argparse.Namespace) -> int:
    """Print one line; return the exit code."""
    try:
        trial = the_trial(model, name, args)
        engine = loaded(trial, [batch(args.tokens)])
        plain = plain_use.USES[name](trial, PROMPT)
    except Exception as error:
        print(f"{model:18} {name:14} cannot be compared: {type(error).__name__}: {error}")
        return 1

    def ours(tokens: int) -> list[int]:
        return list(engine.generate(batch(tokens))[0].output_ids)

    plain(1)  # a static cache is as long as the request: each length compiles once
    same = ours(args.tokens) == plain(args.tokens)
    gc.collect()
    gc.disable()
    ratios, seconds = [], []
    for number in range(args.rounds):
        pair = {}
        for who in ("ours", "plain") if number % 2 else ("plain", "ours"):
            pair[who] = per_token_s(ours if who == "ours" else plain, args.tokens)
        ratios.append(pair["plain"] / pair["ours"])
        seconds.append(pair)
    low, ratio, high = statistics.quantiles(ratios, n=4)
    ms = {who: 1000 * statistics.median(pair[who] for pair in seconds) for who in ("ours", "plain")}
    loop_us = loop_cost.us_per_token(name, engine, batch(args.tokens), args.rounds)
    well = same and ratio >= args.at_least
    print(
        f"{model:18} {name:14} ours {ms['ours']:8.3f}   plain {ms['plain']:8.3f} ms/token"
        f"   loop {loop_us:4.0f} us"
        f"   plain/ours {ratio:.2f} (middle half {low:.2f} to {high:.2f})"
        f"   {'same' if same else 'OTHER'} tokens   {'met' if well else 'MISSED'}",
        flush=True,
    )
    return int(not well)


def the_trial(model: str, engine: str, args: argparse.Namespace) -> Trial:
    """A trial of ours."""
    words = [f"model={model}", f"engine={engine}", f"engine.threads={args.threads}"]
    words += [f"workload.new_tokens={args.tokens}"]
    words += [f"engine.options.{option}" for option in args.options.split(",") if option]
    if model == "bundled":
        return bundled_trial(words, args.cache.absolute())
    trial, reason = random_trial(words, args.cache.absolute())
    if reason is not None:
        raise RuntimeError(reason)
    return trial


def batch(tokens: int) -> Batch:
    """The prompt and so many new tokens."""
    return Batch(prompts=(PROMPT,), new_tokens=tokens, stop="fixed")


def per_token_s(decode: Decode, tokens: int) -> float:
    """Seconds per token beyond the first."""
    started = time.perf_counter()
    decode(1)
    middle = time.perf_counter()
    decode(tokens)
    ended = time.perf_counter()
    return ((ended - middle) - (middle - started)) / (tokens - 1)


if __name__ == "__main__":
    sys.exit(main())
