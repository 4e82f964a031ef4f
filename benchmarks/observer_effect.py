"""Does sampling slow the work? Tokens per second with and without the sampling process at work.

    python benchmarks/observer_effect.py [--pairs 60] [--powercap-root DIR]

One process serves the bundled model; segments of about half a second with sampling on and off take
turns, in an order that alternates. Printed per engine: the median over pairs of the ratio on / off,
with a 95 % interval (order statistics of the median), and the sampler's own share of a core. The
target is at least 0.99.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import scipy.stats
from bundled import batches, bundled_trial, loaded

from slm_energy.engines.base import Batch, Engine
from slm_energy.sampler.client import Sampler, read_samples

SEGMENT_S = 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--powercap-root", default="/sys/class/powercap")
    args = parser.parse_args()
    for name in ("torch", "onnx"):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, args.pairs, args.powercap_root, Path(folder))


def measure(name: str, pairs: int, powercap_root: str, folder: Path) -> None:
    """Print one engine's lines."""
    overrides = [f"engine={name}", f"measurement.powercap_root={powercap_root}"]
    trial = bundled_trial(overrides, folder / "cache")
    engine, prompts = loaded(trial), batches(trial)
    ratios, shares = [], []
    with Sampler(trial.cell.settings.measurement, folder) as sampler:
        for batch in prompts[:8]:
            engine.generate(batch)
        for number in range(pairs):
            speeds = {}
            for on in (True, False) if number % 2 else (False, True):
                if on:
                    sampler.begin(os.getpid(), folder / "samples.jsonl")
                speeds[on] = tokens_per_s(engine, prompts)
                if on:
                    sampler.end()
                    _, report = read_samples(folder / "samples.jsonl")
                    (folder / "samples.jsonl").unlink()
                    if report.cpu_s is not None and report.wall_s:
                        shares.append(report.cpu_s / report.wall_s)
            ratios.append(speeds[True] / speeds[False])
    ratios.sort()
    cut = int(scipy.stats.binom.ppf(0.025, pairs, 0.5))
    low, high = ratios[cut], ratios[pairs - 1 - cut]
    print(
        f"{name:6} sampling on / off = {median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f},"
        f" {pairs} pairs); sampler: {100 * median(shares):.2f} % of a core"
    )


def tokens_per_s(engine: Engine, prompts: list[Batch]) -> float:
    """Serve for about SEGMENT_S seconds."""
    tokens, begun = 0, time.perf_counter()
    while True:
        batch = prompts[tokens // 64 % len(prompts)]
        tokens += len(engine.generate(batch)[0].output_ids)
        spent = time.perf_counter() - begun
        if spent >= SEGMENT_S:
            return tokens / spent


if __name__ == "__main__":
    main()
