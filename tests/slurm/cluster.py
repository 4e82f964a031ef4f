"""A Slurm cluster of one node on loopback, for as long as a test runs; needs root on Debian.

Everything of it lies in one folder: key, configuration, state, logs. It works in a container
without systemd, so nothing of it uses control groups: processes are tracked through /proc, and
jobs get processors of their own by their affinity.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.daemons import Daemons, free_port

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "postgresql")
PROCESSORS = 2
CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def install() -> None:
    """Install what is missing of Slurm, munge and PostgreSQL, without starting it."""
    wanted = [name for name in PACKAGES if not _installed(name)]
    if not wanted:
        return
    if os.getuid() != 0:
        raise SystemExit(f"run this as root, or install {' '.join(wanted)} first")
    # In run level 1 Debian's packages start none of their services.
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *wanted]):
        subprocess.run(["apt-get", "-qq", *command], env=quiet, stdout=2, check=True)


def _installed(package: str) -> bool:
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout == "installed"


def host() -> str:
    """The node's name."""
    return socket.gethostname().partition(".")[0]


@contextmanager
def started(daemons: Daemons, folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster in a folder; give the variables with which Slurm's commands find it.

    Jobs that are left at the end are cancelled: their processes would outlive the daemons.
    """
    variables = _start(daemons, folder)
    try:
        yield variables
    finally:
        subprocess.run(["scancel", "--me"], env=variables, check=False)
        for _ in range(200):
            if not jobs(variables, "--states=PENDING,RUNNING,COMPLETING"):
                break
            time.sleep(0.1)


def jobs(variables: Mapping[str, str], *which: str) -> dict[str, str]:
    """Job id to state, of those that squeue tells of."""
    told = subprocess.run(
        ["squeue", "--noheader", "--format=%i %T", *which],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(row.split() for row in told.stdout.splitlines())


def _start(daemons: Daemons, folder: Path) -> dict[str, str]:
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration.write_text(
        CONFIGURATION.format(
            host=host(),
            folder=folder,
            controller=free_port(),
            node=free_port(),
            processors=PROCESSORS,
        )
    )
    # The machine's lock is one of the cluster's own: jobs do not wait for who measures here.
    own_lock = str(Path(__file__).parents[1] / "own_lock")
    variables = os.environ | {
        "SLURM_CONF": str(configuration),
        "TMPDIR": str(folder),
        "PYTHONPATH": own_lock,
    }
    munged = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"]
    munged += [f"--log-file={folder}/munge.log"]
    daemons.start("munged", munged, lambda: (folder / "munge.socket").exists())

    def answers(word: str) -> bool:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.returncode == 0 and word in asked.stdout

    daemons.start("slurmctld", ["slurmctld", "-D"], lambda: answers(""), env=variables)
    daemons.start("slurmd", ["slurmd", "-D"], lambda: answers("idle"), env=variables)
    return variables
