"""Does sampling slow the work? Tokens per second with and without the sampling process.

    python benchmarks/observer_effect.py [--rounds 10]

Runs the bundled model with `measurement=auto` and `measurement=off` in shuffled order within each
round and prints the ratio of the two, per engine, with a 95 % t interval over rounds.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import scipy.stats
from rich.console import Console

from slm_energy import sweep
from slm_energy.compose import compose
from slm_energy.config import run_config
from slm_energy.grid import resolve
from slm_energy.tracking import Store

METRIC = "throughput/output_tokens_per_s"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        common = [f"tracking.folder={folder}", f"study.rounds={rounds}", "measurement.baseline_s=0"]
        configs = [
            run_config(compose("config", [f"engine={engine}", f"measurement={mode}", *common]))
            for engine in ("torch", "onnx")
            for mode in ("auto", "off")
        ]
        sweep.run(resolve(configs), Console(quiet=True))
        frame = Store(configs[0].tracking).frame("default")
    valid = frame[frame["outcome"] == "valid"]
    for engine, rows in valid.groupby("engine.name"):
        table = rows.pivot(index="round", columns="measurement.mode", values=METRIC).dropna()
        logs = np.log(table["auto"] / table["off"])
        half = scipy.stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
        low, mid, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
        print(f"{engine}: sampling on / off = {mid:.3f}, 95 % interval {low:.3f} to {high:.3f},")
        print(f"  {len(logs)} rounds; off: {table['off'].median():.0f} tokens/s")


if __name__ == "__main__":
    main()
