"""A trial in its job, on a compute node; `cluster.py` submits it and reads what it leaves.

    job.json -> code, kind of the node, GPU, lock, meters, trial -> record.json

A job that is cancelled (SIGTERM), or killed with its node, leaves no record: then the queue knows
how it ended. Slurm may start a job again (`--requeue`), even while its first start still runs on a
node that it has lost: each start has a folder of its own, and the first to end leaves the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from slm_energy import source_code
from slm_energy.cell import Trial
from slm_energy.config.groups import ProviderConfig, StudyConfig
from slm_energy.devices import nvidia
from slm_energy.errors import SlmEnergyError
from slm_energy.machine import machine_kind
from slm_energy.places import file_errors
from slm_energy.record import EXCHANGE, Record
from slm_energy.running.local import LocalExecutor
from slm_energy.running.slurm import REPEATS, job_here
from slm_energy.running.trial import asked, failed
from slm_energy.serialization import read_json, write_json
from slm_energy.store import artifacts
from slm_energy.store.mlflow_schema import INTERRUPTED, interrupted
from slm_energy.worker import files

ORDER_FILE = "job.json"
REST = "rest-"
UNLIKE_NODE = "UNLIKE_NODE"
"""`Record.ended_by` of a trial that its job refused, since its node is not like the study's."""
NO_GPU = "NO_GPU"
"""The same, of a job without the GPU that its trial needs."""
_ENDED = "ended"
"""A folder in a trial's, made by the first start of its job that ends."""

_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""What Slurm sends ahead of a time limit, as `--signal` requests; with some sites' settings also
ahead of a preemption."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The input of a job.

    Attributes:
        trial: what to run.
        study: its settings: how to share the node with others, and how long to wait at the gate.
        code: digest of the sweep's code; empty in an order of an older version.
        package: the folder of that code.
    """

    trial: Trial
    study: StudyConfig
    code: str = ""
    package: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NodeKind:
    """The node on which a study began.

    Attributes:
        node: its host name.
        kind: what the study's other nodes must have in common with it (`machine_kind`).
    """

    node: str
    kind: str


def run_on_node(folder: str) -> None:
    """Run a trial in its job, and write its record to its folder.

    Args:
        folder: the trial's; absolute.
    """
    trial_folder, restarts = Path(folder), _restarts()
    if artifacts.is_complete(trial_folder):  # Slurm requeued the job after its end
        return
    work = trial_folder / EXCHANGE / f"start-{restarts}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # The variable is the submitting machine's, and its folder may not exist here.
    os.environ["TMPDIR"] = tempfile.gettempdir()
    order, received = read_json(trial_folder / ORDER_FILE, Order), _interrupted_by()
    record = _run(order, work, trial_folder.parent)
    for number in (signal.SIGTERM, *_WARNINGS):
        signal.signal(number, signal.SIG_IGN)
    if interrupted(record):
        if received[0] not in _WARNINGS:
            sys.exit("cancelled: no record is written")
        near = "got this signal ahead of its time limit, hydra.launcher.timeout_min"
        record = _ended(order.trial, received[0].name, near, record.started_unix_ns)
    artifacts.write(
        work,
        dataclasses.replace(
            record,
            node=platform.node(),
            node_kind=machine_kind(),
            job=job_here(),
            restarts=restarts,
        ),
        asked(work),
    )
    shutil.rmtree(work / EXCHANGE, ignore_errors=True)
    _publish(work, trial_folder)


def _publish(work: Path, folder: Path) -> None:
    """Move a start's files to the trial's folder, `record.json` last, unless another start has."""
    try:
        (folder / _ENDED).mkdir()
    except FileExistsError:
        sys.exit("another start of this job has ended: no second record is written")
    for path in sorted(work.iterdir(), key=lambda path: path.name == artifacts.RECORD):
        path.rename(folder / path.name)
    shutil.rmtree(folder / EXCHANGE, ignore_errors=True)


def _interrupted_by() -> list[signal.Signals]:
    """Let the first signal that ends a job interrupt it, and list it; a second must not disturb."""
    received: list[signal.Signals] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, *_WARNINGS):
        signal.signal(number, interrupt)
    return received


def _run(order: Order, folder: Path, spool: Path) -> Record:
    """Run the trial as a sweep of one on this node; `spool` is what jobs share."""
    trial, begun_ns = order.trial, time.time_ns()
    try:
        if (restarts := _restarts()) > REPEATS:
            return _ended(trial, "REQUEUED", f"was started {restarts + 1} times", begun_ns)
        if order.code not in ("", source_code.digest()):
            return failed(trial, _other_code(order), begun_ns)
        if (why := _unlike(trial, spool)) is not None:
            return _ended(trial, UNLIKE_NODE, why, begun_ns)
        if (why := _no_gpu(trial.cell.settings.provider)) is not None:
            return _ended(trial, NO_GPU, why, begun_ns, permanent=True)
        rest_file = spool / f"{REST}{platform.node()}.json"
        with (
            file_errors(files.places(trial, folder)),
            LocalExecutor(order.study, folder, Console(width=100), rest_file) as executor,
        ):
            executor.ready([trial.cell.settings])
            executor.start(trial, folder)
            [(record, _)] = executor.ended(lambda trial, phase, share: None)
            return record
    except SlmEnergyError as error:
        return failed(trial, str(error), begun_ns)
    except KeyboardInterrupt:
        return failed(trial, INTERRUPTED, begun_ns)


def _other_code(order: Order) -> str:
    return (
        f"job {job_here()} on {platform.node()} imports other code ({source_code.digest()} in"
        f" {source_code.PACKAGE}) than its sweep did ({order.code} in {order.package}): run the"
        " same command again if that was edited; else let hydra.launcher.setup keep PYTHONPATH"
    )


def _no_gpu(provider: ProviderConfig) -> str | None:
    """Why this job cannot compute on the GPU that a trial needs; None if it can, or needs none.

    Slurm tells a job by this variable which GPUs it was granted, and all others by its absence.
    """
    if provider.name not in nvidia.PROVIDERS:
        return None
    if "SLURM_JOB_ID" in os.environ and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return (
            f"was granted no GPU; set hydra.launcher.gpus_per_node={provider.device + 1}, or where"
            " Slurm does not manage GPUs hydra.launcher.setup=['export CUDA_VISIBLE_DEVICES=0']"
        )
    if (why := nvidia.missing(provider.name, provider.device)) is None:
        return None
    granted = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return (
        f"cannot use its GPU: {why}; it was granted CUDA_VISIBLE_DEVICES={granted}, and"
        " hydra.launcher.gpus_per_node requests more"
    )


def _ended(trial: Trial, by: str, why: str, begun_ns: int, *, permanent: bool = False) -> Record:
    """The record of a trial whose end is no fault of its cell."""
    reason = f"job {job_here()} on {platform.node()} ended early ({by}): it {why}"
    record = failed(trial, reason, begun_ns, permanent=permanent)
    return dataclasses.replace(record, ended_by=by)


def _restarts() -> int:
    """How often Slurm has requeued this job."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def study_kind(spool: Path, study: str) -> str:
    """The kind of node on which a study began; empty before it has, or where it uses no cluster."""
    file = _kind_file(spool, study)
    return read_json(file, NodeKind).kind if file.is_file() else ""


def _kind_file(spool: Path, study: str) -> Path:
    return spool / f"kind-{study}.json"


def _unlike(trial: Trial, spool: Path) -> str | None:
    """How this node differs from the one on which the study began; None if it does not.

    The first job of a study says what the kind is; a hard link is made by exactly one.
    """
    here = NodeKind(node=platform.node(), kind=machine_kind())
    # In the same folder: some file systems of clusters link only there.
    mine, first = spool / f"kind-{trial.id}-{_restarts()}", _kind_file(spool, trial.study)
    write_json(mine, here)
    with contextlib.suppress(FileExistsError):
        os.link(mine, first)
    mine.unlink()
    begun = read_json(first, NodeKind)
    if here.kind == begun.kind:
        return None
    return (
        f"is of another kind ({here.kind}) than {begun.node} ({begun.kind}), on which"
        f" study.name={trial.study} began; set hydra.launcher.exclude={here.node}, or"
        " hydra.launcher.constraint or partition to nodes of one kind"
    )
