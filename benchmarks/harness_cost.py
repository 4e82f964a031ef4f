"""What a trial costs beyond its windows, and what the parent does while it waits.

    python benchmarks/harness_cost.py [--rounds 5]

Prints, per engine with the bundled model, the seconds from one trial's start to the next one's
that lie outside the windows (process start, imports outside `load`, record, MLflow), and the
parent's own processor time as a share of one core while the worker runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd
from bundled import bundled_trial
from rich.console import Console

from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.config.groups import RunConfig
from slm_energy.planning.grid import resolve
from slm_energy.running import sweep, trial
from slm_energy.sampler.client import Sampler
from slm_energy.store.tracking import Store

ENGINES = ("torch", "onnx")
WINDOWS = ("load", "baseline", "warmup", "serve")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        configs = [_config(engine, folder, rounds) for engine in ENGINES]
        sweep.run(resolve(configs), Console(quiet=True))
        print(f"{'engine':<8}{'outside windows, s':>20}{'median':>10}{'before storing':>18}")
        for engine in ENGINES:
            _print_engine(Store(configs[0].tracking), engine)
        share = _parent_share(Path(folder))
        print(f"parent while waiting: {100 * share:.2f} % of a core")


def _config(engine: str, folder: str, rounds: int) -> RunConfig:
    overrides = [f"engine={engine}", f"tracking.folder={folder}", f"study.rounds={rounds}"]
    return run_config(compose("config", [*overrides, "measurement.serve_s=2"]))


def _print_engine(store: Store, engine: str) -> None:
    frame = store.frame("default")
    cost, inside = outside_s(frame)
    inner = frame["time/trial_s"] - inside
    mine = (frame["engine.name"] == engine) & cost.notna()
    values = sorted(cost[mine])
    spread = f"{values[0]:.2f} to {values[-1]:.2f}"
    print(f"{engine:<8}{spread:>20}{median(values):>10.2f}{median(inner[mine]):>18.2f}")


def outside_s(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Seconds of each trial, to the start of the next, outside and inside its windows.

    What had to be prepared once is counted with the windows. The last trial has no next: NaN.
    """
    started = frame["started"].sort_values()
    phases = [f"time/phase_{name}_s" for name in trial.PREPARATIONS]
    inside = frame.reindex(columns=[*(f"time/{name}_s" for name in WINDOWS), *phases]).sum(axis=1)
    return started.diff().shift(-1).reindex(frame.index) / 1000 - inside, inside


def _parent_share(folder: Path) -> float:
    """Processor seconds per second of this process between the first and last tick of a trial."""
    entry = bundled_trial(["engine=torch", "measurement.serve_s=20"], folder)
    ticks: list[tuple[float, float]] = []
    place = folder / "waiting"
    place.mkdir()
    with Sampler(entry.cell.settings.measurement, place) as sampler:
        trial.run(
            entry,
            place,
            sampler,
            lambda phase, share: ticks.append((time.monotonic(), time.process_time())),
        )
    (wall0, cpu0), (wall1, cpu1) = ticks[0], ticks[-1]
    return (cpu1 - cpu0) / (wall1 - wall0)


if __name__ == "__main__":
    main()
