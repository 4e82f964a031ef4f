"""What must hold of a study, whatever happened to it; shared by fault tests and benchmarks.

sound = not any(examine(folder, cells=4, rounds=2).values())
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from slm_energy import cache
from slm_energy.config.groups import TrackingConfig
from slm_energy.store import artifacts
from slm_energy.store.connection import store_uri

PATIENCE_S = 10.0
"""A process whose parent has gone may take so long to go too."""


def examine(
    folder: Path, *, cells: int, rounds: int, study: str = "default", uri: str | None = None
) -> dict[str, list[str]]:
    """Look for what must not be, after the command has ended.

    Args:
        folder: where the command ran; it holds `mlruns`, and `cache` if there is one.
        cells: how many cells the study has.
        rounds: how many rounds should be complete.
        study: its name.
        uri: the tracking server; None is the store in `mlruns`.

    Returns:
        Kind of finding to what was found; all are empty if the study is sound.
    """
    tracking = TrackingConfig(name="test", folder=str(folder / "mlruns"), uri=uri)
    client = MlflowClient(store_uri(tracking))
    runs = list(_runs(client, study))
    trials = [run for run in runs if run.data.tags["slm.kind"] == "trial"]
    valid = Counter(_place(run) for run in trials if run.data.tags.get("slm.outcome") == "valid")
    names = Counter(run.data.tags["slm.trial"] for run in trials)
    known = {cell for cell, number in map(_place, trials) if number}
    wanted = {(cell, number) for cell in known for number in range(1, rounds + 1)}
    return {
        "lost": [f"{place}: no valid trial" for place in sorted(wanted - valid.keys())]
        + ([] if len(known) == cells else [f"{len(known)} cells of {cells}"]),
        "duplicated": [f"{place}: {n} valid trials" for place, n in valid.items() if n > 1]
        + [f"trial {name}: {n} runs" for name, n in names.items() if n > 1],
        "running": [run.info.run_name for run in runs if run.info.status == "RUNNING"],
        "half sent": [run.info.run_id for run in trials if "slm.outcome" not in run.data.tags],
        "unreadable": [text for run in trials if (text := _unreadable(client, run))],
        "waiting": [str(path) for path in (folder / "mlruns" / "pending").glob("*/*/")],
        "broken cache": [
            f"{entry.path}: {entry.state}"
            for entry in cache.entries(folder / "cache")
            if entry.state != "whole" or not cache.intact(entry.path)
        ],
        "orphans": [f"{each.pid}: {' '.join(each.cmdline())}" for each in orphans(folder)],
    }


def assert_sound(
    folder: Path, *, cells: int, rounds: int, study: str = "default", uri: str | None = None
) -> None:
    """Fail, with everything that was found; the arguments are `examine`'s."""
    found = examine(folder, cells=cells, rounds=rounds, study=study, uri=uri)
    if any(found.values()):
        raise AssertionError({kind: texts for kind, texts in found.items() if texts})


def processes(folder: Path) -> list[psutil.Process]:
    """What works in a folder or below, this process apart: all that a command started there did."""
    return [
        each
        for each in psutil.process_iter()
        if each.pid != os.getpid() and _works_in(each, folder.resolve())
    ]


def orphans(folder: Path) -> Sequence[psutil.Process]:
    """What still works in a folder after its patience has ended."""
    _, alive = psutil.wait_procs(processes(folder), timeout=PATIENCE_S)
    return alive


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):  # gone, a zombie, somebody else's, or too deep for readlink
        return False


def _runs(client: MlflowClient, study: str) -> Iterator[Run]:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _place(run: Run) -> tuple[str, int]:
    return run.data.tags["slm.cell"], int(run.data.tags["slm.round"])


def _unreadable(client: MlflowClient, run: Run) -> str | None:
    """What is wrong with a trial's files, or None."""
    try:
        record = artifacts.read(Path(client.download_artifacts(run.info.run_id, "")))
    except (OSError, ValueError) as error:
        return f"{run.info.run_id}: {error}"
    return None if record.trial.id == run.data.tags["slm.trial"] else f"{run.info.run_id}: another"
