"""Trials as jobs: on a Slurm whose commands do as a test says, and as processes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from slm_energy.cell import Trial
from slm_energy.config.groups import LauncherConfig, RunConfig
from slm_energy.errors import ConfigError, SlmEnergyError
from slm_energy.machine import measuring
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.running.cluster import ClusterExecutor
from slm_energy.running.job import ORDER_FILE, NodeKind, Order
from slm_energy.running.slurm import REPEATS
from slm_energy.serialization import write_json
from slm_energy.source_code import PACKAGE
from slm_energy.store import artifacts, mlflow_schema
from slm_energy.store.mlflow_schema import INTERRUPTED
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.waveform import constant
from tests.conftest import Command, a_cell, a_trial, ready_store, trials
from tests.fake_slurm import FakeSlurm
from tests.forked import Sweep

SLURM = LauncherConfig(cluster="slurm", at_once=2, parameters={})
PROCESSES = LauncherConfig(cluster="local", at_once=2, parameters={"timeout_min": 5})
QUIET = Console(quiet=True)


pytestmark = pytest.mark.usefixtures("own_lock")


@pytest.fixture
def jobs(config: RunConfig, tmp_path: Path, slurm: FakeSlurm) -> ClusterExecutor:
    return cluster(config, tmp_path)


def cluster(
    config: RunConfig,
    folder: Path,
    ending: Callable[[], bool] = lambda: False,
    console: Console = QUIET,
) -> ClusterExecutor:
    return ClusterExecutor(SLURM, config.study, folder, console, ending)


def test_a_folder_with_a_percent_sign_is_refused(config: RunConfig, tmp_path: Path) -> None:
    """Jobs replace %j, %u and others in the paths of their logs."""
    with pytest.raises(ConfigError, match=r"tracking\.folder: .*feature%2Fx.* without one"):
        cluster(config, tmp_path / "feature%2Fx")


def start(jobs: ClusterExecutor, config: RunConfig, folder: Path, name: str) -> Trial:
    """Start a trial in a folder of that name."""
    entry = a_trial(config, id=name)
    (folder / name).mkdir()
    jobs.start(entry, folder / name)
    return entry


def leaves(entry: Trial, folder: Path, word: str = "done") -> None:
    """What a job does at its end."""
    artifacts.write(folder / entry.id, trial.failed(entry, word, time.time_ns()), {})


def ended(jobs: ClusterExecutor) -> list[Record]:
    return [record for record, _ in jobs.ended(lambda entry, phase, share: None)]


def reasons(records: list[Record]) -> list[str]:
    return [reason for record in records for reason in record.outcome.reasons]


def as_time_passes(monkeypatch: pytest.MonkeyPatch, *events: Callable[[], None]) -> None:
    """One event each time that the sweep sleeps before it asks the queue again."""
    coming = iter(events)
    monkeypatch.setattr("slm_energy.running.cluster.time.sleep", lambda seconds: next(coming)())


def test_a_job_that_has_ended_is_told_by_the_record_that_it_left(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = start(jobs, config, tmp_path, "t1")
    told: list[str] = []

    def ends() -> None:
        leaves(entry, tmp_path)
        slurm.now(1, "COMPLETED")

    as_time_passes(monkeypatch, lambda: slurm.now(1, "RUNNING"), slurm.down, slurm.up, ends)
    [(record, folder)] = jobs.ended(lambda entry, phase, share: told.append(phase))
    assert (record.outcome.reasons, folder) == (("done",), tmp_path / "t1")
    assert told == ["PENDING: Priority", "RUNNING", "RUNNING"]


@pytest.mark.parametrize(
    ("state", "why", "told", "ended_by"),
    [
        ("TIMEOUT", "TimeLimit", r"job 1 on n7 left no record \(TIMEOUT: TimeLimit\)", "TIMEOUT"),
        ("NODE_FAIL", "None", r"job 1 on n7 left no record \(NODE_FAIL\)", "NODE_FAIL"),
        ("PREEMPTED", "None", r"job 1 on n7 left no record \(PREEMPTED\)", "PREEMPTED"),
        ("BOOT_FAIL", "None", r"job 1 on n7 left no record \(BOOT_FAIL\)", "BOOT_FAIL"),
        (
            "FAILED",
            "JobLaunchFailure",
            r"job 1 on n7 left no record \(FAILED: JobLaunchFailure\)",
            "JobLaunchFailure",
        ),
        (None, "", r"job 1 left no record \(FORGOTTEN\)", "FORGOTTEN"),
        # What a person or the trial itself has ended counts as an attempt.
        ("CANCELLED", "None", r"job 1 on n7 left no record \(CANCELLED\)", ""),
        ("OUT_OF_MEMORY", "None", r"job 1 on n7 left no record \(OUT_OF_MEMORY\)", ""),
    ],
)
def test_a_job_without_a_record_has_failed_and_the_queue_and_its_log_say_why(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    state: str | None,
    why: str,
    told: str,
    ended_by: str,
) -> None:
    start(jobs, config, tmp_path, "t1")
    (tmp_path / "t1" / "submitit" / "1_0_log.out").write_text("began\nOSError: disk full\n\n")
    if state is None:
        slurm.forget()
    else:
        slurm.now(1, state, why, "n7")
    [record] = ended(jobs)
    [reason] = record.outcome.reasons
    assert record.outcome.name == "failed"
    assert record.ended_by == ended_by
    assert mlflow_schema.past_of(record).interrupted == bool(ended_by)
    assert record.started_unix_ns <= record.ended_unix_ns
    assert record.duration_s is None  # two machines' dates have no difference
    assert re.fullmatch(f"{told}; its log ends with: OSError: disk full", reason)


def test_a_job_that_the_queue_has_forgotten_keeps_its_number_and_node(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(jobs, config, tmp_path, "t1")
    slurm.now(1, "RUNNING", node="n7")
    as_time_passes(monkeypatch, slurm.forget)
    [record] = ended(jobs)
    assert (record.node, record.job, record.ended_by) == ("n7", "1", "FORGOTTEN")
    assert (
        "and no log: is tracking.folder on a file system that the nodes share?"
        in (reasons([record])[0])
    )


@pytest.mark.parametrize(
    ("account", "told", "ended_by"),
    [
        ("REQUEUED|n3\nPREEMPTED|n7", r"job 1 on n7 left no record \(PREEMPTED\)", "PREEMPTED"),
        ("CANCELLED by 1000|n7", r"job 1 on n7 left no record \(CANCELLED\)", ""),
        ("RUNNING|n7", r"job 1 on n7 left no record \(FORGOTTEN\)", "FORGOTTEN"),
    ],
)
def test_of_a_forgotten_job_the_accounting_knows_the_end(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
    account: str,
    told: str,
    ended_by: str,
) -> None:
    start(jobs, config, tmp_path, "t1")
    slurm.now(1, "RUNNING", node="n7")
    as_time_passes(monkeypatch, lambda: slurm.forget(account))
    [record] = ended(jobs)
    assert re.match(told, reasons([record])[0])
    assert (record.node, record.ended_by) == ("n7", ended_by)


def test_what_jobs_wait_for_is_printed_from_time_to_time(
    config: RunConfig, tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm_energy.running.cluster._NEWS_S", 0.0)
    printed = io.StringIO()
    jobs = cluster(config, tmp_path, console=Console(file=printed))
    first, second = (start(jobs, config, tmp_path, name) for name in ("t1", "t2"))
    slurm.now(1, "PENDING", "ReqNodeNotAvail")

    def ends() -> None:
        for entry, number in ((first, 1), (second, 2)):
            leaves(entry, tmp_path)
            slurm.now(number, "COMPLETED")

    as_time_passes(monkeypatch, slurm.down, slurm.up, ends)
    assert reasons(ended(jobs)) == ["done", "done"]
    assert [line.partition(" ")[2] for line in printed.getvalue().splitlines()] == [
        "jobs: 1 PENDING: ReqNodeNotAvail, 1 PENDING: Priority",
        "alpha does not report its jobs; check squeue",
        "jobs: 1 PENDING: ReqNodeNotAvail, 1 PENDING: Priority",
        "jobs: 2 COMPLETED",
    ]


def test_a_job_that_slurm_starts_again_is_waited_for(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = start(jobs, config, tmp_path, "t1")
    slurm.now(1, "RUNNING", node="n7")

    def ends() -> None:
        leaves(entry, tmp_path)
        slurm.now(1, "COMPLETED")

    requeued = (lambda: slurm.now(1, "REQUEUED"), lambda: slurm.now(1, "PENDING", "BeginTime"))
    as_time_passes(monkeypatch, *requeued, lambda: slurm.now(1, "RUNNING"), ends)
    assert reasons(ended(jobs)) == ["done"]


LIMITS = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_job_beyond_the_site_s_limit_is_submitted_when_another_has_ended(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    slurm.full(limit)
    entry = start(jobs, config, tmp_path, "t1")
    assert not jobs.room
    told: list[str] = []

    def ends() -> None:
        leaves(entry, tmp_path)
        slurm.now(1, "COMPLETED")

    as_time_passes(monkeypatch, lambda: slurm.full(None), lambda: None, ends)
    [(record, _)] = jobs.ended(lambda entry, phase, share: told.append(phase))
    assert record.outcome.reasons == ("done",)
    assert told[0].removeprefix("PENDING: ") in limit
    assert told[-1] == "PENDING: Priority"
    assert jobs.room


def test_a_job_that_was_not_accepted_yet_goes_with_the_sweep(
    config: RunConfig, tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = cluster(config, tmp_path, ending=lambda: True)
    slurm.full(LIMITS[0])
    start(jobs, config, tmp_path, "t1")
    as_time_passes(monkeypatch, lambda: None)
    assert reasons(ended(jobs)) == [INTERRUPTED]
    assert slurm.states == []


def test_only_so_many_jobs_wait_or_run(
    config: RunConfig, tmp_path: Path, jobs: ClusterExecutor
) -> None:
    for name in ("t1", "t2"):
        assert jobs.room
        start(jobs, config, tmp_path, name)
    assert not jobs.room


def test_a_person_who_ends_the_sweep_lets_what_runs_end_and_what_waits_go(
    config: RunConfig, tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = cluster(config, tmp_path, ending=lambda: True)
    runs = start(jobs, config, tmp_path, "t1")
    start(jobs, config, tmp_path, "t2")
    slurm.now(1, "RUNNING")

    def ends() -> None:
        assert slurm.states == ["RUNNING", "CANCELLED"]
        leaves(runs, tmp_path)
        slurm.now(1, "COMPLETED")

    as_time_passes(monkeypatch, lambda: None, ends)
    assert sorted(reasons(ended(jobs))) == ["done", INTERRUPTED]


def test_an_interrupt_cancels_all_and_keeps_what_was_complete(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(jobs, config, tmp_path, "t1")
    complete = start(jobs, config, tmp_path, "t2")
    slurm.now(1, "RUNNING")
    slurm.now(2, "RUNNING")

    def interrupt() -> None:
        leaves(complete, tmp_path)
        raise KeyboardInterrupt

    as_time_passes(monkeypatch, interrupt, lambda: None)
    assert reasons(ended(jobs)) == ["done", INTERRUPTED]
    assert slurm.states == ["CANCELLED", "CANCELLED"]
    # The next sweep does not take the interrupted one for an attempt.
    assert cluster(config, tmp_path).adopt([tmp_path / "t1"]) == []


def test_a_sweep_that_fails_leaves_its_jobs_and_the_next_one_takes_them_over(
    config: RunConfig, tmp_path: Path, slurm: FakeSlurm, jobs: ClusterExecutor
) -> None:
    with contextlib.suppress(SlmEnergyError), jobs:
        entry = start(jobs, config, tmp_path, "t1")
        raise SlmEnergyError("disk full")
    assert slurm.states == ["PENDING"]
    (tmp_path / "never_submitted").mkdir()
    with cluster(config, tmp_path) as following:
        assert following.adopt([tmp_path / "t1", tmp_path / "never_submitted"]) == [entry]
        leaves(entry, tmp_path)
        slurm.now(1, "COMPLETED")
        assert reasons(ended(following)) == ["done"]


def test_a_sweep_that_ends_leaves_no_job(
    config: RunConfig,
    tmp_path: Path,
    slurm: FakeSlurm,
    jobs: ClusterExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_time_passes(monkeypatch, lambda: None)
    with jobs:
        start(jobs, config, tmp_path, "t1")
    assert slurm.states == ["CANCELLED"]


def test_jobs_of_another_study_are_left_alone(
    config: RunConfig, tmp_path: Path, jobs: ClusterExecutor
) -> None:
    start(jobs, config, tmp_path, "t1")
    other = dataclasses.replace(config, study=dataclasses.replace(config.study, name="other"))
    with pytest.raises(SlmEnergyError, match=r"jobs of study\.name=test are still pending in"):
        cluster(other, tmp_path).adopt([tmp_path / "t1"])


def test_nothing_is_adopted_or_dropped_while_the_queue_does_not_answer(
    config: RunConfig, tmp_path: Path, slurm: FakeSlurm, jobs: ClusterExecutor
) -> None:
    start(jobs, config, tmp_path, "t1")
    slurm.down()
    with pytest.raises(SlmEnergyError, match="alpha does not report which jobs are running"):
        jobs.adopt([tmp_path / "t1"])


def test_a_grid_runs_as_processes_and_each_trial_names_its_job(
    tmp_path: Path, slm_energy: Command
) -> None:
    done = slm_energy("-m", "hydra/launcher=processes", "engine.decode=session,generate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]
    logs = list((tmp_path / "mlruns" / "artifacts").glob("**/submitit/*_log.out"))
    records = [artifacts.read(log.parents[1]) for log in logs]
    assert {record.job for record in records} == {log.name.partition("_")[0] for log in logs}
    assert {record.node for record in records} == {os.uname().nodename}
    assert not list((tmp_path / "mlruns" / "pending").glob("*/*/"))


def test_jobs_outlive_a_killed_sweep_and_the_same_command_takes_them_over(
    tmp_path: Path, slm_energy: Command, empty_store: Path
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    words = ("hydra/launcher=processes", "measurement.serve_s=2.0")
    sweep = Sweep(tmp_path, *words)
    pending = tmp_path / "mlruns" / "pending"
    while not list(pending.glob("*/*/exchange")):
        time.sleep(0.05)
    sweep.kill()
    sweep.ended()
    [begun] = [path.parent.name for path in pending.glob("*/*/exchange")]
    done = slm_energy(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    [log] = (tmp_path / "mlruns" / "artifacts").glob("**/submitit/*_log.out")
    assert artifacts.read(log.parents[1]).trial.id == begun


def test_a_killed_job_has_failed(config: RunConfig, tmp_path: Path) -> None:
    jobs = ClusterExecutor(PROCESSES, config.study, tmp_path, QUIET, lambda: False)
    start(jobs, config, tmp_path, "t1")
    log = tmp_path / "t1" / "submitit"
    while not list(log.glob("*_log.out")):
        time.sleep(0.05)
    [file] = log.glob("*_log.out")
    os.kill(int(file.name.partition("_")[0]), signal.SIGKILL)
    [record] = ended(jobs)
    assert re.match(r"job \d+ left no record \(GONE\)", reasons([record])[0])
    assert record.ended_by == ""


def test_a_job_on_a_busy_node_says_so_in_its_record(config: RunConfig, tmp_path: Path) -> None:
    study = dataclasses.replace(config.study, busy="refuse")
    jobs = ClusterExecutor(PROCESSES, study, tmp_path, QUIET, lambda: False)
    with measuring(lambda path: None):
        start(jobs, config, tmp_path, "t1")
        [record] = ended(jobs)
    assert "another sweep is measuring on this machine" in reasons([record])[0]
    assert record.job


def test_a_job_imports_the_code_of_its_sweep_and_no_other(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "slm_energy"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('another checkout')")
    monkeypatch.chdir(tmp_path)
    jobs = ClusterExecutor(PROCESSES, config.study, tmp_path, QUIET, lambda: False)
    fails = dataclasses.replace(config.engine, options={"fail": "load"})
    config = dataclasses.replace(config, engine=fails)
    start(jobs, config, tmp_path, "t1")
    # As if it did: an interpreter may ignore PYTHONPATH, and files may be edited.
    monkeypatch.setattr("slm_energy.running.cluster.source_code.digest", lambda: "0ther")
    start(jobs, config, tmp_path, "t2")
    records = ended(jobs)
    while len(records) < 2:
        records += ended(jobs)
    of_trial = {record.trial.id: reasons([record])[0] for record in records}
    assert "the script says that loading fails" in of_trial["t1"]
    assert re.search(
        rf"imports other code \(\w+ in {PACKAGE}\) than its sweep did \(0ther in {PACKAGE}\): run",
        of_trial["t2"],
    )


def test_a_gpu_that_only_nodes_have_is_looked_for_in_the_job(
    slurm: FakeSlurm, slm_energy: Command
) -> None:
    planned = slm_energy("plan", "hydra/launcher=slurm", "provider=cuda").stdout
    assert "1 trials: 0 done, 1 to do" in planned
    assert "unsupported" not in planned
    assert "machine lock" not in planned


def test_a_job_without_a_gpu_says_how_to_request_one_and_is_not_repeated(
    tmp_path: Path, slm_energy: Command
) -> None:
    machine = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))
    with_gpu = os.environ | {"LD_LIBRARY_PATH": str(write_library(machine, tmp_path))}
    with_gpu.pop("CUDA_VISIBLE_DEVICES", None)
    words = ("hydra/launcher=processes", "provider=cuda", "study.rounds=2")
    done = slm_energy(*words, env=with_gpu)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "hydra.launcher.gpus_per_node requests more" in done.stdout
    assert "run the same command again when the cause is gone" in done.stdout
    assert trials(tmp_path)["ended_by"].tolist() == ["NO_GPU"]


def test_what_the_cluster_ends_is_repeated_so_often_and_counts_as_no_attempt(
    tmp_path: Path, slurm: FakeSlurm, slm_energy: Command
) -> None:
    slurm.fated("PREEMPTED", node="n7")
    done = slm_energy("hydra/launcher=slurm", "study.attempts=1")
    assert done.returncode == 1
    assert done.stdout.count("will be retried at the end of the round") == REPEATS
    assert "not retried any more: run the same command again when the cause is gone" in done.stdout
    frame = trials(tmp_path)
    assert len(frame) == REPEATS + 1
    assert set(frame["attempt"]) == {1}
    assert set(frame["ended_by"]) == {"PREEMPTED"}
    slurm.fated("OUT_OF_MEMORY")
    again = slm_energy("hydra/launcher=slurm", "study.attempts=1")
    assert again.returncode == 1
    assert trials(tmp_path)["ended_by"].tolist()[REPEATS + 1 :] == [""]
    assert "1 trial" in slm_energy("hydra/launcher=slurm", "study.attempts=1").stdout


def test_a_trial_that_is_warned_of_its_limit_ends_cleanly_and_runs_again(
    tmp_path: Path, slm_energy: Command, empty_store: Path
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    words = ("hydra/launcher=processes", "measurement.serve_s=2.0", "study.attempts=1")
    sweep = Sweep(tmp_path, *words)
    pending = tmp_path / "mlruns" / "pending"
    while not (logs := list(pending.glob("*/*/submitit/*_log.out"))) or not list(
        pending.glob("*/*/exchange/*/exchange")
    ):
        time.sleep(0.05)
    controller = logs[0].name.partition("_")[0]
    job = Path(f"/proc/{controller}/task/{controller}/children").read_text()
    os.kill(int(job), signal.SIGUSR1)
    assert sweep.ended()[0] == 0
    frame = trials(tmp_path).sort_values("outcome")
    assert frame["outcome"].tolist() == ["failed", "valid"]
    assert frame["ended_by"].tolist() == ["SIGUSR1", ""]
    assert frame["attempt"].tolist() == [1, 1]
    assert (
        "got this signal ahead of its time limit, hydra.launcher.timeout_min"
        in (frame["reason"].iloc[0])
    )


@pytest.fixture
def requeued(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Record]:
    """The record of a job that Slurm has started so many times before."""

    def run(restarts: int) -> Record:
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        jobs = ClusterExecutor(PROCESSES, config.study, tmp_path, QUIET, lambda: False)
        (tmp_path / "t1" / "exchange").mkdir(parents=True)
        engine = dataclasses.replace(config.engine, options={"fail": "load"})
        jobs.start(a_trial(config, cell=a_cell(config, engine=engine)), tmp_path / "t1")
        [record] = ended(jobs)
        return record

    return run


def test_a_requeued_job_begins_again_in_its_folder(requeued: Callable[[int], Record]) -> None:
    record = requeued(2)
    assert "the script says that loading fails" in reasons([record])[0]
    assert mlflow_schema.tags(record, "alpha")["slm.restarts"] == "2"


def test_two_starts_of_a_job_that_run_side_by_side_leave_one_record(
    config: RunConfig, tmp_path: Path
) -> None:
    """Slurm requeues what runs on a node that it has lost, and the node goes on."""
    folder = tmp_path / "spool" / "t1"
    folder.mkdir(parents=True)
    engine = dataclasses.replace(config.engine, options={"fail": "load"})
    entry = a_trial(config, cell=a_cell(config, engine=engine))
    write_json(folder / ORDER_FILE, Order(trial=entry, study=config.study))
    code = (
        "import os, sys, time\n"
        "from slm_energy.running.job import run_on_node\n"
        "open('ready', 'w').close()\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
        "run_on_node(sys.argv[1])\n"
    )
    starts = []
    for restarts in ("0", "1"):
        (tmp_path / restarts).mkdir()  # a node with a lock of its own
        node = os.environ | {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
        node |= {"TMPDIR": str(tmp_path / restarts), "SLURM_RESTART_COUNT": restarts}
        other = tmp_path / ("1" if restarts == "0" else "0") / "ready"
        command = [sys.executable, "-c", code, str(folder), str(other)]
        starts.append(
            subprocess.Popen(
                command, env=node, cwd=tmp_path / restarts, stderr=subprocess.PIPE, text=True
            )
        )
    errors = [start.communicate()[1] for start in starts]
    codes = [start.returncode for start in starts]
    assert sorted(codes) == [0, 1], errors
    assert artifacts.read(folder).restarts == codes.index(0)
    assert (folder / "worker.log").is_file()


def test_a_job_that_is_requeued_over_and_over_says_so(requeued: Callable[[int], Record]) -> None:
    record = requeued(REPEATS + 1)
    assert record.ended_by == "REQUEUED"
    assert reasons([record])[0].endswith("ended early (REQUEUED): it was started 7 times")


def test_a_node_of_another_kind_than_the_study_s_is_refused_by_name(
    config: RunConfig, tmp_path: Path
) -> None:
    write_json(tmp_path / "kind-test.json", NodeKind(node="n1", kind="Zeta 9 x 64"))
    jobs = ClusterExecutor(PROCESSES, config.study, tmp_path, QUIET, lambda: False)
    start(jobs, config, tmp_path, "t1")
    [record] = ended(jobs)
    assert record.ended_by == "UNLIKE_NODE"
    assert re.search(
        r"it is of another kind \(.+\) than n1 \(Zeta 9 x 64\), on which study\.name=test began; "
        rf"set hydra\.launcher\.exclude={os.uname().nodename},",
        reasons([record])[0],
    )
