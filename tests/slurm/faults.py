"""What happens to jobs on a cluster, done to a job at a moment when it surely runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.slurm.cluster import HIGH, Cluster
from tests.slurm.daemons import wait


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A running job whose worker is stopped (SIGSTOP): it neither ends nor fails by itself."""

    id: str
    node: str
    worker: int


def hold(cluster: Cluster, sweep: subprocess.Popen[bytes], but: Collection[Held] = ()) -> Held:
    """Stop the worker of a running job of a sweep, other than these."""
    found: list[Held] = []

    def look() -> bool:
        if sweep.poll() is not None:
            raise TimeoutError(f"the sweep has ended with exit code {sweep.returncode}")
        rows = cluster.run("squeue", "--noheader", "--states=RUNNING", "--format=%i|%N|%j")
        for job, node, name in (row.split("|") for row in rows.splitlines()):
            if job not in {held.id for held in but}:
                trial = name.rpartition(".")[2]
                found.extend(Held(id=job, node=node, worker=pid) for pid in _workers(trial))
        return bool(found)

    wait("a job with a worker runs", look)
    os.kill(found[0].worker, signal.SIGSTOP)
    return found[0]


def preempt(cluster: Cluster, folder: Path, job: Held) -> None:
    """Let a job of a more important partition take the node."""
    script = folder / "important.sh"
    script.write_text("#!/bin/sh\n")
    where = ("--exclusive", f"--partition={HIGH}", f"--nodelist={job.node}")
    cluster.run("sbatch", *where, f"--output={folder}/important.log", str(script))


def limit(cluster: Cluster, job: Held, in_s: int) -> None:
    """Let the time limit of a job be over soon; Slurm looks twice a minute."""
    cluster.run("scontrol", "update", f"JobId={job.id}", f"EndTime=now+{in_s}")


def become(cluster: Cluster, job: Held, state: str) -> None:
    """Wait until Slurm says that a job is in a state."""
    step = f"job {job.id} on {job.node} is {state}"
    wait(step, lambda: cluster.jobs("--states=all").get(job.id) == state)


def start_again(cluster: Cluster, job: Held, *more: str) -> None:
    """Spare a requeued job the two minutes for which Slurm lets it wait; change more of it."""
    become(cluster, job, "PENDING")
    cluster.run("scontrol", "update", f"JobId={job.id}", "StartTime=now", *more)


def processes(words: str) -> Iterator[tuple[int, str]]:
    """Ids and command lines of this machine's processes that contain these words."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            line = file.read_bytes().decode(errors="replace").replace("\0", " ")
            if words in line:
                yield int(file.parent.name), line


def _workers(trial: str) -> list[int]:
    """Process ids of a trial's worker in its serve phase."""
    return [pid for pid, line in processes(f"{trial}/exchange") if " serve " in line]
