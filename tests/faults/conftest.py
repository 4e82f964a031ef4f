"""One test per fault: what it leaves on record, and that the same command completes the study.

What goes wrong inside a worker is scripted by its engine; the rest is done to a sweep from outside.
Whatever it was, the study must be sound in the end (`benchmarks/soundness.py`): every cell has one
valid trial per round, and no process, pending record or run in progress is left.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
from mlflow import MlflowClient

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.tracking import Store
from tests.benchmark import load
from tests.browsing import WAIT_S
from tests.conftest import Command

assert_sound = load("soundness").assert_sound
SLOW = "measurement.serve_s=1.0"


def trials(folder: Path, study: str = "default", uri: str | None = None) -> pd.DataFrame:
    """Every trial, in the order in which they ran."""
    store = Store(TrackingConfig(name="test", folder=str(folder / "mlruns"), uri=uri))
    return store.frame(study).sort_values("started")


def sweeps(folder: Path) -> list[str]:
    """Status of every parent run."""
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("default")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`slm.kind` = 'sweep'")
    return [run.info.status for run in runs]


def until(happened: Callable[[], object]) -> None:
    """Wait for something that the program does."""
    for _ in range(int(WAIT_S / 0.02)):
        if happened():
            return
        time.sleep(0.02)
    raise TimeoutError


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something while the command line runs in this process."""
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def children(module: str) -> list[psutil.Process]:
    """Processes below this one that run a module of the package."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [each] if f"slm_energy.{module}" in each.cmdline() else []
    return found


def a_trial_runs(folder: Path) -> bool:
    """A trial has begun, and its worker is about to start or runs."""
    return any((folder / "mlruns" / "pending").glob("*/*/exchange/tasks.json"))


def again(slm_energy: Command, *words: str) -> None:
    """The same command once more, to the end."""
    done = slm_energy(*words)
    assert done.returncode == 0, done.stdout + done.stderr
