"""A Slurm cluster on loopback for as long as a test runs; needs root on Debian, and no systemd.

Each node is a host of its own as far as its jobs can see: name, processes, /tmp and RAPL counters.
To kill its first process is what a power failure is to a machine. Nothing uses control groups:
processes are tracked through /proc, and jobs get processors of their own by their affinity.
"""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import debian
from tests.slurm.daemons import Daemons, free_port, wait

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "postgresql")
NODES = ("n1", "n2")
"""The second has GPUs."""
PROCESSORS = 2
GPUS = 2
LOW, HIGH = "low", "high"
"""Partitions: jobs of the second one preempt those of the first."""
FORGET_S = 15
"""How long Slurm remembers an ended job; 300 s unless a site has set MinJobAge."""
_SENSORS = ("powercap", "driver")
"""Folders in which each node sees its own: RAPL counters, and the libraries of GPUs."""
CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=5
MinJobAge={forget_s}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName={low} Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName={high} Nodes=ALL PriorityTier=2 PreemptMode=OFF State=UP
"""
NODE = """
set -e
hostname {name}
{binds}
exec slurmd -D
"""


def install() -> None:
    """Install what is missing of Slurm, munge and PostgreSQL, without starting it."""
    wanted = [name for name in PACKAGES if not _installed(name)]
    if not wanted:
        return
    if os.getuid() != 0:
        raise SystemExit(f"run this as root, or install {' '.join(wanted)} first")
    debian.install(wanted)
    if missing := [name for name in wanted if not _installed(name)]:
        raise SystemExit(f"{' '.join(missing)} cannot be installed")


def _installed(package: str) -> bool:
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout == "installed"


class Cluster:
    """A running cluster.

    Attributes:
        variables: the environment with which Slurm's commands find it.
    """

    def __init__(self, daemons: Daemons, folder: Path, tmp: str) -> None:
        self._daemons = daemons
        self._folder = folder
        self.variables = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            # The machine's locks are below TMPDIR. No node has this one, and each its own /tmp.
            "PYTHONPATH": f"{REPOSITORY}/tests/own_lock:{REPOSITORY}",
            "TMPDIR": tmp,
        }

    def run(self, *command: str) -> str:
        """Output of one of Slurm's commands."""
        return subprocess.run(
            command, env=self.variables, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        ).stdout

    def jobs(self, *which: str) -> dict[str, str]:
        """Job id to state, of those that squeue lists."""
        rows = self.run("squeue", "--noheader", "--format=%i %T", *which).splitlines()
        return dict(row.split() for row in rows)

    def node_state(self, name: str) -> str:
        """Such as `idle`, `alloc`, `down*`."""
        return self.run("sinfo", "--noheader", "--format=%t", f"--nodes={name}").split()[0]

    def power_on(self, name: str) -> None:
        """Start a node, and wait until it takes jobs."""
        script = NODE.format(name=name, binds="\n".join(self._binds(name)))
        namespaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["unshare", *namespaces, "sh", "-c", script]
        states = ("idle", "alloc", "mix", "comp")  # a waiting job may start at once
        self._daemons.start(
            name, command, lambda: self.node_state(name) in states, env=self.variables
        )

    def power_off(self, name: str) -> None:
        """Let a node and all that runs on it vanish; Slurm is told by its administrator."""
        self._daemons.kill(name)
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=power")

    def _binds(self, name: str) -> Iterator[str]:
        """Give the node its own /tmp, without hiding the repository where that is in /tmp."""
        tmp, mount = self._folder / f"tmp-{name}", "mount --bind"
        for path in {REPOSITORY, Path(sys.prefix)}:
            if path.is_relative_to("/tmp"):
                own = tmp / path.relative_to("/tmp")
                yield f"mkdir -p {shlex.quote(str(own))}"
                yield f"{mount} {shlex.quote(str(path))} {shlex.quote(str(own))}"
        yield f"mount --rbind {tmp} /tmp"
        for sensors in _SENSORS:
            yield f"{mount} {self._folder}/{sensors}-{name} {self._folder}/{sensors}"


@contextmanager
def started(daemons: Daemons, folder: Path) -> Iterator[Cluster]:
    """Start a cluster in a folder; jobs that are left at the end are cancelled."""
    with tempfile.TemporaryDirectory(dir="/tmp") as tmp:
        yield from _run(Cluster(daemons, folder, tmp), daemons, folder)


def _run(cluster: Cluster, daemons: Daemons, folder: Path) -> Iterator[Cluster]:
    _configure(folder)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    munged = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"]
    munged += [f"--log-file={folder}/munge.log"]
    daemons.start("munged", munged, lambda: (folder / "munge.socket").exists())
    daemons.start(
        "slurmctld", ["slurmctld", "-D"], lambda: _answers(cluster), env=cluster.variables
    )
    for name in NODES:
        cluster.power_on(name)
    try:
        yield cluster
    finally:
        subprocess.run(["scancel", "--me"], env=cluster.variables, check=False)
        unended = "--states=PENDING,RUNNING,COMPLETING"
        wait("no job is left", lambda: not cluster.jobs(unended))


def _configure(folder: Path) -> None:
    """Write the configuration, and make the folders that it names."""
    nodes = [
        f"NodeName={name} NodeAddr=127.0.0.1 Port={free_port()} CPUs={PROCESSORS}"
        + (f" Gres=gpu:{GPUS}" if name == "n2" else "")
        for name in NODES
    ]
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        port=free_port(),
        folder=folder,
        forget_s=FORGET_S,
        nodes="\n".join(nodes),
        low=LOW,
        high=HIGH,
    )
    (folder / "slurm.conf").write_text(text)
    devices = [folder / f"nvidia{number}" for number in range(GPUS)]
    for device in devices:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null is
    files = f"{folder}/nvidia[0-{GPUS - 1}]"
    (folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n2 Name=gpu File={files}\n")
    own = [f"{what}-{name}" for name in NODES for what in ("spool", "tmp", *_SENSORS)]
    for name in ("state", *_SENSORS, *own):
        (folder / name).mkdir()


def _answers(cluster: Cluster) -> bool:
    asked = subprocess.run(["scontrol", "ping"], env=cluster.variables, capture_output=True)
    return asked.returncode == 0
