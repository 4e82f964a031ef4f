"""How long `slm-energy report` takes on a large study, and what of it is loading.

    python benchmarks/report_speed.py [--trials 1000 10000] [--folder FOLDER]

One trial of the bundled model is run, under counters that a thread drives, and stored as a sweep
does it. It is then copied (`copies.py`). Printed, per size:

    report    seconds of the command, from process start to its end, the processor time in them,
              and its peak memory
    loading   seconds of `tracking.Store.frame` and of plain `mlflow.search_runs`, in turns, each
              the median, and their ratio
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import copies
import mlflow
from copies import Copy
from rich.console import Console

from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.config.groups import TrackingConfig
from slm_energy.planning.grid import resolve
from slm_energy.running import sweep
from slm_energy.store.connection import store_uri
from slm_energy.store.tracking import Store
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

TEMPLATE = "template"


class Shape(NamedTuple):
    """How many cells of which kinds a study of copies has."""

    models: int = 5
    engines: int = 5
    batches: int = 4

    @property
    def cells(self) -> int:
        """Of them all."""
        return self.models * self.engines * self.batches


INVALID = 0.005
"""Share of the copied trials that are not valid."""
QUICK = (
    "engine=torch",
    "measurement.baseline_s=0.2",
    "measurement.serve_s=1",
    "measurement.limits.foreign_cpu_pct=100",
    "measurement.limits.steal_pct=100",
    "workload.limit=3",
    "study.rounds=1",
    "study.reference=null",
    "study.gate.at_most_s=0",
    f"study.name={TEMPLATE}",
)


def run_template(tracking: TrackingConfig) -> None:
    """Run and store the trial that others are copies of, with its sweep."""
    with tempfile.TemporaryDirectory() as folder:
        zones = (
            Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
            Zone(folder="intel-rapl:0:0", name="dram", waveform=constant(5)),
        )
        asked = [*QUICK, f"tracking.folder={tracking.folder}"]
        asked.append(f"measurement.powercap_root={folder}")
        asked += [f"tracking.uri={tracking.uri}"] if tracking.uri is not None else []
        with PowercapTree(Path(folder), zones):
            sweep.run(resolve([run_config(compose("config", asked))]), Console(quiet=True))


def fill(tracking: TrackingConfig, study: str, trials: int, shape: Shape) -> None:
    """Make a study of copies of the template, with a sweep of its own.

    Args:
        tracking: a store with the template.
        study: its name.
        trials: how many, a multiple of its cells.
        shape: its cells.
    """
    store = Store(tracking)
    [source] = store.frame(TEMPLATE)["run_id"]
    parent = store.open_sweep(study, "copied", "copies", "")
    store.close_sweep(parent, "FINISHED")
    experiment = mlflow.MlflowClient(store_uri(tracking)).get_experiment_by_name(study)
    assert experiment is not None
    id_ = experiment.experiment_id
    copies.make(store_uri(tracking), source, study, id_, parent, _different(trials, shape))


def _different(trials: int, shape: Shape) -> Iterator[Copy]:
    """Cells differ by a few per cent, a trial's noise is 1 %."""
    generator = random.Random(trials)
    for n in range(trials):
        number, cell = divmod(n, shape.cells)
        model, rest = divmod(cell, shape.engines * shape.batches)
        engine, batch = divmod(rest, shape.batches)
        names = f"model-{model}", f"engine-{engine}", f"batch_size={batch + 1}"
        factor = math.exp(0.1 * model + 0.03 * engine + 0.002 * batch + generator.gauss(0, 0.01))
        yield Copy(
            run=copies.run_id(generator),
            cell=f"cell-{cell:03}",
            label=" / ".join(names),
            model=names[0],
            engine=names[1],
            batch=batch + 1,
            round=number + 1,
            number=n + 1,
            factor=factor,
            valid=generator.random() >= INVALID,
        )


def report(tracking: TrackingConfig, study: str, out: Path) -> tuple[float, float, float]:
    """Run the command; return its seconds, its processor seconds and its peak memory in MB."""
    words = ["report", f"study={study}", f"tracking.folder={tracking.folder}", f"out={out}"]
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "slm_energy", *words], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"slm-energy {' '.join(words)} ended with {child.returncode}")
    seconds = time.perf_counter() - start
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def loading(tracking: TrackingConfig, study: str, turns: int) -> tuple[float, float]:
    """Median seconds to load a study, ours and MLflow's own."""
    mlflow.set_tracking_uri(store_uri(tracking))
    store = Store(tracking)

    def plain() -> None:
        mlflow.search_runs(experiment_names=[study])

    spent: dict[Callable[[], object], list[float]] = {lambda: store.frame(study): [], plain: []}
    for _ in range(turns):
        for load, seconds in spent.items():
            start = time.perf_counter()
            load()
            seconds.append(time.perf_counter() - start)
    ours, theirs = (median(seconds) for seconds in spent.values())
    return ours, theirs


def measure(folder: Path, sizes: list[int], turns: int) -> None:
    """Print the figures of each size; a study that the folder has already is used as it is."""
    tracking = TrackingConfig(name="local", folder=str(folder / "mlruns"))
    store = Store(tracking)
    if store.last_sweep(TEMPLATE) is None:
        run_template(tracking)
    print(f"{'trials':>8}{'report, s':>12}{'of processor':>14}{'peak, MB':>10}{'frame, s':>12}"
          f"{'search_runs, s':>16}{'ratio':>8}")  # fmt: skip
    for trials in sizes:
        study = f"copies-{trials}"
        if store.last_sweep(study) is None:
            fill(tracking, study, trials, Shape())
        seconds, busy, peak = report(tracking, study, folder / study)
        ours, theirs = loading(tracking, study, turns)
        print(f"{trials:>8,}{seconds:>12.1f}{busy:>14.1f}{peak:>10,.0f}{ours:>12.2f}{theirs:>16.2f}"
              f"{ours / theirs:>8.2f}", flush=True)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--turns", type=int, default=3, help="of loading")
    parser.add_argument("--folder", type=Path, help="of the store; kept, and used again")
    asked = parser.parse_args()
    if any(trials % Shape().cells for trials in asked.trials):
        raise SystemExit(f"--trials: multiples of {Shape().cells}")
    with tempfile.TemporaryDirectory() as temporary:
        measure(asked.folder or Path(temporary), asked.trials, asked.turns)


if __name__ == "__main__":
    main()
