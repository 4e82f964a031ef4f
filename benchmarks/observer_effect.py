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

from slm_energy import models, workload
from slm_energy.cell import Cell, Trial, settings
from slm_energy.compose import compose
from slm_energy.config import RunConfig, run_config
from slm_energy.engines.base import Batch, Engine, find, job_of
from slm_energy.meters.sampler import Sampler, read_samples

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
    config = run_config(compose("config", overrides))
    engine, batches = loaded(name, config, folder)
    ratios, shares = [], []
    with Sampler(config.measurement, folder) as sampler:
        for batch in batches[:8]:
            engine.generate(batch)
        for number in range(pairs):
            speeds = {}
            for on in (True, False) if number % 2 else (False, True):
                if on:
                    sampler.begin(os.getpid(), folder / "samples.jsonl")
                speeds[on] = tokens_per_s(engine, batches)
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


def loaded(name: str, config: RunConfig, folder: Path) -> tuple[Engine, list[Batch]]:
    """The engine with the bundled model, and the workload in batches of one."""
    levels = settings(config)
    path = models.fetch(levels.model)
    spec = find(name)
    cell = Cell(
        id="",
        settings=levels,
        model_digest=models.digest(path),
        workload_digest="",
        versions=spec.versions(),
    )
    trial = Trial(
        id="",
        study="",
        sweep="",
        cell=cell,
        label="",
        round=1,
        order=1,
        attempt=1,
        model_path=str(path),
        cache_path=str(folder / "cache"),
        timeout_s=600,
    )
    if spec.needs_preparation(job_of(trial)):
        spec.prepare(job_of(trial))
    engine = spec.create()
    engine.load(job_of(trial))
    tokenizer = models.load_tokenizer(path)
    prompts = [tuple(tokenizer.encode(t.prompt).ids) for t in workload.load(levels.workload)]
    return engine, [Batch(prompts=(ids,), new_tokens=64, stop="fixed") for ids in prompts]


def tokens_per_s(engine: Engine, batches: list[Batch]) -> float:
    """Serve for about SEGMENT_S seconds."""
    tokens, begun = 0, time.perf_counter()
    while True:
        batch = batches[tokens // 64 % len(batches)]
        tokens += len(engine.generate(batch)[0].output_ids)
        spent = time.perf_counter() - begun
        if spent >= SEGMENT_S:
            return tokens / spent


if __name__ == "__main__":
    main()
