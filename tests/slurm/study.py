"""Studies on a real Slurm cluster and a real MLflow server, with faults: do they come out whole?

    python -m tests.slurm.study

As root on Debian; it installs Slurm, munge and PostgreSQL if they are missing. It starts a cluster
of two nodes (`cluster.py`), a PostgreSQL server and an MLflow server, all on loopback and in one
folder that goes afterwards. Then

    faults   exclusive nodes, metered: a job each is cancelled, preempted, over its time limit, and
             lost with its node; the sweep is killed, and Slurm forgets its jobs; the same command
             goes on, now with --requeue: again one is preempted and one lost, and one is warned
    shared   two jobs at a time share a node, each with a processor of its own
    gpus     one of two GPUs is granted; a job that needs two, and one without any, are refused

Exit code 1 if anything in the table is not so. A step that takes too long is named, with the last
lines of the daemons' logs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slm_energy.testing import CONF
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_cuda_library, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import LENIENT
from tests.slurm import checks, cluster, server
from tests.slurm.checks import Row, Study
from tests.slurm.cluster import Cluster
from tests.slurm.daemons import LONGEST_S, Daemons, wait
from tests.slurm.faults import become, hold, limit, preempt, processes, start_again

WATTS = {"n1": 20, "n2": 50}
GPU_WATTS = (100, 200)
ENDED_BY = Counter(cancelled=1, PREEMPTED=1, TIMEOUT=1, NODE_FAIL=1, SIGUSR1=1)

METERED = (
    "--config-dir", str(CONF), "engine=scripted", "measurement=strict",
    "measurement.baseline_s=0.2", "measurement.serve_s=1", "measurement.warmup_s=0.2",
    "measurement.target_error=0.2", "workload.limit=3",
)  # fmt: skip
FAULTS = (
    *METERED, "study.name=faults", "study.rounds=2", "workload.new_tokens=4,5,6,7",
    "hydra.launcher.array_parallelism=2",
)  # fmt: skip
SHARED = (
    "study.name=shared", "study.busy=share",
    "engine=onnx", "workload.new_tokens=16,32", "workload.limit=4",
    "measurement=off", "measurement.serve_s=2", "measurement.warmup_s=1",
    "hydra.launcher.cpus_per_task=1", "hydra.launcher.array_parallelism=2",
    "hydra.launcher.additional_parameters.exclusive=false",
    "hydra.launcher.additional_parameters.nodelist=n1",
)  # fmt: skip
GPUS = (
    *METERED, "provider=cuda", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.additional_parameters.exclusive=false",
    "hydra.launcher.additional_parameters.nodelist=n2",
)  # fmt: skip


class Test:
    """The cluster, the server, and the commands."""

    def __init__(self, folder: Path, uri: str, slurm: Cluster) -> None:
        self.folder, self.uri, self.slurm = folder, uri, slurm
        self._begun_s = time.monotonic()

    def command(self, *words: str) -> list[str]:
        """A sweep on the cluster."""
        command = [sys.executable, "-m", "slm_energy", "-m", "hydra/launcher=slurm", *words]
        command += [*LENIENT, "study.reference=null", "study.sandbox=off"]
        command += [f"measurement.powercap_root={self.folder}/powercap"]
        command += ["tracking=server", f"tracking.uri={self.uri}"]
        command += [f"tracking.folder={self.folder}/mlruns", f"cache.folder={self.folder}/cache"]
        return command

    def sweep(self, *words: str, **more: str) -> int:
        """Run one to its end, with more variables; return its exit code."""
        env = self.slurm.variables | more
        command = self.command(*words)
        return subprocess.run(command, env=env, timeout=LONGEST_S, check=False).returncode

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A running sweep; killed at the end of the block unless it has ended."""
        sweep = subprocess.Popen(self.command(*words), env=self.slurm.variables)
        try:
            yield sweep
        finally:
            sweep.kill()
            sweep.wait()

    def told(self, text: str) -> None:
        """Say what has happened, and when."""
        print(f"[{time.monotonic() - self._begun_s:5.1f} s] {text}", flush=True)


def main() -> int:
    """Run the studies with their faults; print the table."""
    begun = time.monotonic()
    cluster.install()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    # Not in /tmp, which the nodes do not share.
    with tempfile.TemporaryDirectory(prefix="slm_energy_cluster.", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database has a user of its own
        with ExitStack() as stack:
            daemons = stack.enter_context(Daemons(folder))
            try:
                slurm = stack.enter_context(cluster.started(daemons, folder))
                test = Test(folder, server.start(daemons, folder), slurm)
                test.told("cluster and server are up")
                rows = studies(test, stack)
            except (TimeoutError, subprocess.SubprocessError) as error:
                print(f"FAILED: {error}\n{daemons.logs()}", flush=True)
                return 1
    print()
    for what, good, figures in rows:
        print(f"{'ok' if good else 'FAILED':<7} {what:<58} {figures}")
    print(f"{time.monotonic() - begun:.0f} s altogether")
    return 0 if all(good for _, good, _ in rows) else 1


def studies(test: Test, stack: ExitStack) -> list[Row]:
    """Give the nodes their sensors, run the three studies, and judge them."""
    for node, watts in WATTS.items():
        zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(watts))
        stack.enter_context(PowercapTree(test.folder / f"powercap-{node}", (zone,)))
    uuids = [f"GPU-{n}{n}{n}{n}0000-0000-0000-0000-000000000000" for n in range(cluster.GPUS)]
    machine = FakeNvml(
        gpus=tuple(
            FakeGpu(uuid=uuid, waveform=constant(watts), speed=number)
            for number, (uuid, watts) in enumerate(zip(uuids, GPU_WATTS, strict=True))
        )
    )
    for write in (write_library, write_cuda_library):
        write(machine, test.folder / "driver-n2")
    rows = [*faults(test), *shared(test), *gpus(test, uuids)]
    left = test.slurm.jobs("--states=PENDING,RUNNING")
    remains = [line for _, line in processes(f"{test.folder}/mlruns/pending")]
    pending = list((test.folder / "mlruns" / "pending").glob("*/*/"))
    return [
        *rows,
        ("no job is left", not left, str(left or "none")),
        ("no process of a job is left", not remains, str(remains or "none")),
        ("no record waits", not pending, str(pending or "none")),
    ]


def faults(test: Test) -> list[Row]:
    """The study on exclusive nodes, with one of each fault."""
    slurm = test.slurm
    with test.running(*FAULTS, "hydra.launcher.signal_delay_s=0") as sweep:
        late = hold(slurm, sweep)
        limit(slurm, late, 1)
        lost = hold(slurm, sweep, but=[late])
        slurm.power_off(lost.node)
        become(slurm, lost, "NODE_FAIL")
        test.told(f"job {lost.id} is lost with its node {lost.node}")
        slurm.power_on(lost.node)
        become(slurm, late, "TIMEOUT")
        test.told(f"job {late.id} is over its limit")
        taken = hold(slurm, sweep, but=[late, lost])
        preempt(slurm, test.folder, taken)
        become(slurm, taken, "PREEMPTED")
        test.told(f"job {taken.id} is preempted")
        cancelled = hold(slurm, sweep, but=[late, lost, taken])
        slurm.run("scancel", cancelled.id)
        become(slurm, cancelled, "CANCELLED")
        test.told(f"job {cancelled.id} is cancelled")
        wait("all four are noted", lambda: len(Study(test.uri, "faults").other) == 4)
        last = hold(slurm, sweep, but=[late, lost, taken, cancelled])
    slurm.run("scancel", last.id)
    test.told("the sweep is killed")
    wait("Slurm has forgotten all jobs", lambda: not slurm.jobs("--states=all"))
    test.told("Slurm has forgotten its jobs")
    with test.running(*FAULTS, "hydra.launcher.additional_parameters.requeue=true") as sweep:
        warned = hold(slurm, sweep)
        limit(slurm, warned, 90)
        lost = hold(slurm, sweep, but=[warned])
        slurm.power_off(lost.node)
        start_again(slurm, lost, f"ExcNodeList={lost.node}")  # it may not launch one that it had
        slurm.power_on(lost.node)
        test.told(f"job {lost.id} is lost with its node {lost.node}, and requeued")
        become(slurm, warned, "COMPLETED")
        test.told(f"job {warned.id} was warned of its limit")
        taken = hold(slurm, sweep, but=[warned, lost])
        preempt(slurm, test.folder, taken)
        start_again(slurm, taken)
        test.told(f"job {taken.id} is preempted, and requeued")
        code = sweep.wait(timeout=LONGEST_S)
    study = Study(test.uri, "faults")
    return [
        ("the resumed sweep ended well", code == 0, f"exit code {code}"),
        *study.once_each("faults", 8),
        *checks.endings(study, ENDED_BY),
        *checks.nodes(study),
        *checks.joules(study, WATTS),
    ]


def shared(test: Test) -> list[Row]:
    """The study on a shared node."""
    code = test.sweep(*SHARED)
    test.told("two at a time shared a node")
    study = Study(test.uri, "shared")
    return [
        ("the sweep on a shared node ended well", code == 0, f"exit code {code}"),
        *study.once_each("shared", 2),
        *checks.side_by_side(study),
    ]


def gpus(test: Test, uuids: list[str]) -> list[Row]:
    """Another job has the first GPU; the trials get the second one, or none."""
    script = test.folder / "other.sh"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    output = f"--output={test.folder}/other.log"
    other = test.slurm.run("sbatch", "--parsable", "--gres=gpu:1", output, str(script)).strip()
    wait("another job has a GPU", lambda: other in test.slurm.jobs("--states=R"))
    driver = {"LD_LIBRARY_PATH": f"{test.folder}/driver"}  # of n2; elsewhere it is empty
    granted = (*GPUS, "study.name=gpus", "hydra.launcher.gpus_per_node=1", "provider.device=0,1")
    codes = (test.sweep(*granted, **driver), test.sweep(*GPUS, "study.name=no_gpu", **driver))
    test.slurm.run("scancel", other)
    test.told("one of two GPUs was granted, then none")
    none = Study(test.uri, "no_gpu")
    return [
        ("sweeps with refused trials say so", codes == (1, 1), f"exit codes {codes}"),
        *checks.gpus(Study(test.uri, "gpus"), uuids[1], GPU_WATTS[1]),
        *checks.refused((*none.valid, *none.other), "was granted no GPU"),
    ]


if __name__ == "__main__":
    sys.exit(main())
