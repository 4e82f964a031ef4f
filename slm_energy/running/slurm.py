"""Where jobs wait and run, through submitit: a Slurm cluster, or processes of this machine.

A job has the id of its trial in its name, or on its command line. So there is no list of jobs to
keep, and a sweep that was killed can find its jobs again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slm_energy import redaction
from slm_energy.config.groups import LauncherConfig
from slm_energy.errors import ConfigError, SlmEnergyError, one_line
from slm_energy.machine import machine_id

if TYPE_CHECKING:
    import submitit

REPEATS = 5
"""How often one invocation repeats a trial whose job the cluster ended. Of jobs that are preempted
every third time, one trial in a thousand needs more."""

_FORGOTTEN = "FORGOTTEN"
"""Our own state of a job that Slurm no longer knows: it keeps an ended one for MinJobAge."""
_LOST = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT", _FORGOTTEN)
_ENDED = (
    *_LOST, "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "GONE",
)  # fmt: skip
"""Source: JOB STATE CODES of Slurm's squeue(1), and our own for a job that no queue knows; in
any other state a job may still produce something."""
_NOT_LAUNCHED = "JobLaunchFailure"
"""Slurm's reason why a job has failed that its node could not start, such as one that comes back
from a power failure."""
_FULL = re.compile(r"\w*MaxSubmitJob\w*|temporarily unable to accept job")
"""What sbatch prints when the user, or the cluster (MaxJobCount), has as many jobs as allowed."""
_COMMAND_S = 60
"""A command of Slurm's that takes longer hangs: ten times what a busy controller needs."""
_GRANTS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables with which Slurm tells a job its GPUs. It sets none of them in a job without GPUs, and
there the submitting machine's own would pass for a grant."""
_ANY_CLUSTER = ("name", "timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb")
"""Parameters that submitit takes for any cluster; others are Slurm's alone."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QueuedJob:
    """The state of a job in a queue.

    Attributes:
        id: the queue's own; empty if the queue does not know the job.
        state: one of Slurm's.
        why: what it waits for, or why it ended; empty if the queue gives no reason.
        node: where it runs or ran.
    """

    id: str
    state: str
    why: str = ""
    node: str = ""

    @property
    def description(self) -> str:
        """State and reason."""
        return f"{self.state}: {self.why}" if self.why else self.state

    @property
    def waits(self) -> bool:
        """It has not started."""
        return self.state == "PENDING"

    @property
    def ended(self) -> bool:
        """It has come to its end."""
        return self.state in _ENDED

    @property
    def ended_by(self) -> str:
        """How the cluster ended it, or that nobody knows; empty where its own program ended it."""
        if self.why == _NOT_LAUNCHED:
            return _NOT_LAUNCHED
        return self.state if self.state in _LOST else ""


class QueueFull(SlmEnergyError):
    """The user may not have more jobs in the queue now."""


Work = Callable[[], None]


class Queue(Protocol):
    """Takes jobs, reports their states, cancels them.

    Attributes:
        machine: the cluster's name in the store.
        poll_s: time between two queries.
        unknown: a job that is not among `jobs`.
    """

    machine: str
    poll_s: float
    unknown: QueuedJob

    def submit(self, name: str, folder: Path, work: Work, more: Mapping[str, str]) -> QueuedJob:
        """Run a function as a job, and return the job.

        Args:
            name: unique; the key of the job in `jobs`.
            folder: gets its log, and what submitit needs.
            work: importable from a module, or a partial of such a function.
            more: environment variables that it gets beside this process's own.

        Raises:
            QueueFull: the queue takes it when others have ended.
            SlmEnergyError: the queue refuses it.
        """

    def jobs(self) -> dict[str, QueuedJob] | None:
        """Name to job, also of those that ended some minutes ago; None without an answer."""

    def recall(self, job: QueuedJob) -> QueuedJob:
        """What the cluster's accounting knows of a job that is not among `jobs` any more."""
        return job

    def cancel(self, jobs: Iterable[QueuedJob]) -> bool:
        """Cancel jobs; return whether the queue accepted the request."""


def open_queue(launcher: LauncherConfig) -> Queue:
    """The queue that a configuration names.

    Raises:
        ConfigError: there is none on this machine.
    """
    if launcher.cluster == "slurm":
        return _Slurm(launcher.parameters)
    return _Processes(launcher.parameters)


class _Slurm:
    """A Slurm cluster, from a machine that may submit to it.

    It is queried with squeue and not through submitit, which needs Slurm's accounting: many
    clusters have none, and submitit seldom queries it about long jobs.
    """

    poll_s = 3.0
    unknown = QueuedJob(id="", state=_FORGOTTEN)

    def __init__(self, parameters: dict[str, Any]) -> None:
        settings = self._output("scontrol", "show", "config")
        name = re.search(r"^ClusterName\s*=\s*(\S+)", settings or "", re.MULTILINE)
        if name is None:
            raise ConfigError(
                "hydra/launcher=slurm: scontrol reports no cluster here; run this on a login node"
            )
        partition = parameters.get("partition")
        self.machine = name[1] if partition is None else f"{name[1]}-{partition}"
        self._parameters = parameters

    def submit(self, name: str, folder: Path, work: Work, more: Mapping[str, str]) -> QueuedJob:
        parameters = self._parameters
        further = parameters.get("additional_parameters", {})
        # The sweep repeats a trial, and records why; unless Slurm is to do so.
        further = {"no_requeue": not further.get("requeue")} | further
        if warning_s := parameters.get("signal_delay_s"):
            # To the batch step (B), which is this program; submitit addresses other steps.
            further = {"signal": f"B:USR1@{warning_s}"} | further
        own = {
            # The batch step has every processor of the job; srun would give a task one of them.
            "use_srun": False,
            "additional_parameters": {k: v for k, v in further.items() if v not in (False, None)},
        }
        named = {"name": f"{parameters.get('name', 'slm_energy')}.{name}"}
        with _environment(more, hidden=_GRANTS):
            job = _submit("slurm", parameters | own | named, folder, work)
        return QueuedJob(id=job.job_id, state="PENDING")

    def jobs(self) -> dict[str, QueuedJob] | None:
        rows = self._output(
            "squeue", "--me", "--states=all", "--noheader", "--format=%i|%T|%r|%N|%j"
        )
        if rows is None:
            return None
        jobs = {}
        for row in rows.splitlines():
            number, state, why, node, name = row.split("|", 4)
            reason = "" if why == "None" else why
            jobs[name.rpartition(".")[2]] = QueuedJob(id=number, state=state, why=reason, node=node)
        return jobs

    def recall(self, job: QueuedJob) -> QueuedJob:
        columns = ("--allocations", "--noheader", "--parsable2", "--format=State,NodeList")
        row = self._output("sacct", f"--jobs={job.id}", *columns) if job.id else None
        if not row:  # no accounting here
            return job
        state, node = row.splitlines()[-1].split("|", 1)  # after a requeue, the latest start
        known = dataclasses.replace(job, state=state.split()[0], node=node)  # CANCELLED by 1000
        return known if known.ended else job

    def cancel(self, jobs: Iterable[QueuedJob]) -> bool:
        return self._output("scancel", *(job.id for job in jobs)) is not None

    def _output(self, *command: str) -> str | None:
        """Output of one of Slurm's commands; None if it fails: the controller may just be busy."""
        try:
            done = subprocess.run(_limited(*command), capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout if done.returncode == 0 else None


class _Processes(Queue):
    """Processes of this machine, each under submitit's controller, which outlives the sweep."""

    poll_s = 0.2
    unknown = QueuedJob(id="", state="GONE")

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.machine = machine_id()
        self._parameters = parameters
        self._ours: dict[str, submitit.Job[None]] = {}

    def submit(self, name: str, folder: Path, work: Work, more: Mapping[str, str]) -> QueuedJob:
        with _environment(more):
            job = _submit("local", self._parameters, folder, work)
        self._ours[name] = job
        return QueuedJob(id=job.job_id, state="RUNNING")

    def jobs(self) -> dict[str, QueuedJob]:
        adopted = dict(filter(None, map(self._running, Path("/proc").glob("[0-9]*"))))
        self._ours = {name: job for name, job in self._ours.items() if not job.done()}
        return adopted | {
            name: QueuedJob(id=job.job_id, state="RUNNING") for name, job in self._ours.items()
        }

    def _running(self, process: Path) -> tuple[str, QueuedJob] | None:
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            return None
        if "submitit.local._local" not in words:
            return None
        # Its last argument is the folder, which is inside the trial's own.
        return Path(words[-2]).parent.name, QueuedJob(id=process.name, state="RUNNING")

    def cancel(self, jobs: Iterable[QueuedJob]) -> bool:
        for job in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.id), signal.SIGINT)
        return True


def job_here() -> str:
    """Id of the job that this process runs as."""
    import submitit

    return submitit.JobEnvironment().job_id


def _submit(
    cluster: str, parameters: dict[str, Any], folder: Path, work: Work
) -> submitit.Job[None]:
    import submitit

    settings = {k if k in _ANY_CLUSTER else f"slurm_{k}": v for k, v in parameters.items()}
    # A trial is one process on one node, and has one log.
    settings |= {"nodes": 1, "tasks_per_node": 1, "stderr_to_stdout": True}
    # In place of the shell of the batch script, which would pass no signal on.
    python = f"exec {shlex.quote(sys.executable)}"
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_python=python)
    if cluster == "slurm":
        # submitit waits for sbatch for ever.
        slurm: Any = executor._executor
        slurm._make_submission_command = lambda path: _limited("sbatch", str(path))
    try:
        executor.update_parameters(**settings)
        job = executor.submit(work)
    except (submitit.core.utils.FailedJobError, ValueError, TypeError, NameError) as error:
        if limit := _FULL.search(str(error)):
            raise QueueFull(limit[0]) from error
        raise SlmEnergyError(
            f"the job was not accepted: {one_line(error)}; check hydra.launcher.*"
        ) from error
    # A link with an absolute path, which a copy of the record would take elsewhere.
    for link in folder.glob(".submission_file_*"):
        link.unlink()
    return job


def _limited(*command: str) -> list[str]:
    """A command of Slurm's that is ended when it hangs."""
    return ["timeout", str(_COMMAND_S), *command]


@contextlib.contextmanager
def _environment(more: Mapping[str, str], hidden: Collection[str] = ()) -> Iterator[None]:
    """Set what a job gets, as submitit passes on this process's own variables; hide secrets."""
    before = dict(os.environ)
    for name in before.keys() - redaction.without_store().keys() | (before.keys() & {*hidden}):
        del os.environ[name]
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]
        os.environ.update(before)
