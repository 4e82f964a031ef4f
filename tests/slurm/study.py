"""A study on a real Slurm cluster and a real MLflow server, with faults: does it come out whole?

    python -m tests.slurm.study

As root on Debian; it installs Slurm, munge and PostgreSQL if they are missing. It starts a cluster
of one node with two processors, a PostgreSQL server and an MLflow server, all on loopback and in
one folder that goes afterwards. Then 12 trials run as jobs, two at a time. One job is cancelled,
and then the sweep is killed while two run; the same command completes the study. Exit code 1 if the
store does not hold each trial once, or anything else of the table is not so. Takes some minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.slurm import cluster, server
from tests.slurm.daemons import Daemons

STUDY = "cluster"
TRIALS = 12
SWEEP = (
    "-m", "hydra/launcher=slurm",
    "hydra.launcher.array_parallelism=2",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.additional_parameters.exclusive=false",
    f"study.name={STUDY}", "study.rounds=3", "study.busy=share",
    "engine=onnx,openvino", "workload.new_tokens=16,32", "workload.limit=4",
    "tracking=server", "measurement=off", "measurement.serve_s=2", "measurement.warmup_s=2",
)  # fmt: skip


def main() -> int:
    """Run the study with its faults; print the table."""
    begun = time.monotonic()
    cluster.install()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with tempfile.TemporaryDirectory(prefix="slm_energy_cluster.") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database has a user of its own
        with Daemons(folder) as daemons, cluster.started(daemons, folder) as variables:
            uri = server.start(daemons, folder)
            told(begun, "cluster and server are up")
            survivors = faulty_sweep(folder, uri, variables, begun)
            resumed = subprocess.run(sweep(folder, uri), env=variables, timeout=280, check=False)
            code = resumed.returncode
            told(begun, f"resumed by the same command, exit code {code}")
            left = cluster.jobs(variables, "--states=PENDING,RUNNING")
            processes = processes_left(folder)
            pending = list((folder / "mlruns" / "pending").glob("*/*/"))
            rows = [
                ("the resumed sweep ended well", code == 0, f"exit code {code}"),
                ("no job is left", not left, str(left or "none")),
                ("no process of a job is left", not processes, str(processes or "none")),
                ("no record waits", not pending, str(pending or "none")),
                *checks(uri, survivors),
            ]
    print()
    for what, good, figures in rows:
        print(f"{'ok' if good else 'FAILED':<7} {what:<58} {figures}")
    told(begun, "done")
    return 0 if all(good for _, good, _ in rows) else 1


def faulty_sweep(folder: Path, uri: str, variables: Mapping[str, str], begun: float) -> set[str]:
    """Cancel one job, then kill the sweep while two run; return the ids of these two."""
    running = subprocess.Popen(sweep(folder, uri), env=variables)
    try:
        two = wait_for_running(variables, after=set())
        subprocess.run(["scancel", min(two)], env=variables, check=True)
        told(begun, f"job {min(two)} is cancelled")
        # Later jobs than these four: the sweep has seen what became of the first.
        seen = two | wait_for_running(variables, after=two)
        last = wait_for_running(variables, after=seen)
    finally:
        running.kill()
        running.wait()
    told(begun, f"the sweep is killed while jobs {', '.join(sorted(last))} run")
    return last


def sweep(folder: Path, uri: str) -> list[str]:
    """The command that starts the study, and that goes on with it."""
    command = [sys.executable, "-m", "slm_energy", *SWEEP, f"tracking.uri={uri}"]
    return [*command, f"tracking.folder={folder}/mlruns", f"cache.folder={folder}/cache"]


def wait_for_running(variables: Mapping[str, str], after: set[str]) -> set[str]:
    """Wait until two jobs run that are none of those; return their ids."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        running = cluster.jobs(variables, "--states=RUNNING").keys() - after
        if len(running) == 2:
            return running
        time.sleep(0.3)
    raise SystemExit(f"no two jobs run: {cluster.jobs(variables, '--states=all')}")


def processes_left(folder: Path) -> list[str]:
    """Command lines that name a trial's folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(file.read_bytes().decode(errors="replace").replace("\0", " "))
    return [words for words in found if f"{folder}/mlruns/pending" in words]


def checks(uri: str, survivors: set[str]) -> list[tuple[str, bool, str]]:
    """What the store has to hold: what, whether it does, and the figures."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    trials = [run for run in runs if run.data.tags.get("slm.kind") == "trial"]
    valid = [run for run in trials if run.data.tags.get("slm.outcome") == "valid"]
    other = [run for run in trials if run not in valid]
    places = {(run.data.tags["slm.cell"], run.data.tags["slm.round"]) for run in valid}
    statuses = sorted(run.info.status for run in runs)
    jobs = {run.data.tags.get("slm.job", "") for run in valid}
    nodes = {run.data.tags.get("slm.node", "") for run in trials}
    found = [facts(client, run) for run in valid]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[i + 1 :] if overlap(a, b)]
    apart = [not (a["processors"] & b["processors"]) for a, b in pairs]
    reasons = "; ".join(run.data.tags.get("slm.reason", "?") for run in other)
    return [
        (f"{TRIALS} valid trials", len(valid) == TRIALS, str(len(valid))),
        ("none twice", len(places) == len(valid), f"{len(places)} places in the plan"),
        ("the cancelled job, and nothing else, failed", is_cancelled(other), reasons or "none"),
        ("no run is left RUNNING", "RUNNING" not in statuses, ", ".join(sorted(set(statuses)))),
        ("every trial names its node", nodes == {cluster.host()}, ", ".join(sorted(nodes))),
        ("every valid trial was a job of its own", len(jobs) == TRIALS, ", ".join(sorted(jobs))),
        ("jobs outlived the killed sweep", survivors <= jobs, ", ".join(sorted(survivors))),
        ("artifacts came through the server", all(each["proxied"] for each in found), uri),
        ("two trials ran at a time", len(pairs) >= 3, f"{len(pairs)} pairs"),
        ("... on processors of their own", all(apart), processors(found)),
    ]


def facts(client: MlflowClient, run: Run) -> dict[str, Any]:
    """When and where a trial ran, from its artifacts."""
    with tempfile.TemporaryDirectory() as folder:
        place = client.download_artifacts(run.info.run_id, "environment.json", folder)
        environment = json.loads(Path(place).read_text())["environment"]
    return {
        "from": run.info.start_time,
        "to": run.info.end_time,
        "processors": numbers(environment["processors_allowed"]),
        "proxied": run.info.artifact_uri.startswith("mlflow-artifacts:"),
    }


def numbers(listed: str) -> frozenset[int]:
    """`0-1,4` as numbers."""
    spans = [part.split("-") for part in listed.split(",")]
    return frozenset(n for span in spans for n in range(int(span[0]), int(span[-1]) + 1))


def overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two trials ran at the same time."""
    return bool(a["from"] < b["to"] and b["from"] < a["to"])


def processors(found: Sequence[Mapping[str, Any]]) -> str:
    """The sets that were used."""
    used = {tuple(sorted(each["processors"])) for each in found}
    return " and ".join(str(list(each)) for each in sorted(used))


def is_cancelled(trials: Sequence[Run]) -> bool:
    """Whether there is one trial that somebody cancelled, and no other."""
    return len(trials) == 1 and "CANCELLED" in trials[0].data.tags.get("slm.reason", "")


def told(begun: float, text: str) -> None:
    """Say what has happened, and when."""
    print(f"[{time.monotonic() - begun:5.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
