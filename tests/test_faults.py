"""One test per fault: what it leaves on record, and that the same command completes the study.

What goes wrong inside a worker is scripted by its engine; the rest is done to a sweep from outside.
Whatever it was, the study must be sound in the end (`benchmarks/soundness.py`): every cell has one
valid trial per round, and nothing runs, waits or lies about any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.benchmark import FOLDER, load
from tests.browsing import WAIT_S, fetched, free_port
from tests.conftest import QUICK, Command, ready_store

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


def sweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep in a process of its own, as a terminal starts it."""
    command = [sys.executable, "-m", "slm_energy", "--config-dir", str(CONF), "engine=scripted"]
    return subprocess.Popen(
        [*command, *QUICK, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


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


# --- in the worker ----------------------------------------------------------------------------

WORKER_FAULTS = {
    "load": ("failed", "the script says that loading fails"),
    "generate": ("failed", "the script says that generation fails"),
    "nan_logits": ("failed", "NaN logits at token 0"),
    "drift": ("invalid", "same_outputs"),
    "mute": ("invalid", "no request was served"),
    "unstamped": ("invalid", "tokens but 0 time stamps"),
    "garbage": ("failed", "token_ns: expected int, got 'noon'"),
    "memory": ("failed", "out of memory"),
    "kill": ("failed", "the worker was killed by SIGKILL, not by the kernel"),
    "exit": ("failed", "the worker ended without a result"),
    "hang": ("failed", "took longer than study.timeout_s=6 and was ended"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A study in which each of the faults strikes one cell, once."""
    folder = tmp_path_factory.mktemp("faulty")
    ready_store(folder / "mlruns", empty_store)
    once = f"engine.options.fail_once={folder}/${{engine.options.fail}}"
    faults = f"engine.options.fail={','.join(WORKER_FAULTS)}"
    study = sweep(folder, "-m", faults, once, "measurement.warmup_requests=0", "study.timeout_s=6")
    output, _ = study.communicate(timeout=300)
    assert study.returncode == 0, output
    assert output.count("will be retried at the end of the round") == len(WORKER_FAULTS)
    assert_sound(folder, cells=len(WORKER_FAULTS), rounds=1)
    return folder


@pytest.mark.parametrize("fault", WORKER_FAULTS)
def test_a_fault_of_the_worker_is_on_record_and_the_trial_is_tried_again(
    faulty: Path, fault: str
) -> None:
    outcome, reason = WORKER_FAULTS[fault]
    frame = trials(faulty)
    first, second = frame[frame["engine.options.fail"] == fault].to_dict("records")
    assert (first["outcome"], first["attempt"]) == (outcome, 1)
    assert reason in first["reason"]
    assert (second["outcome"], second["attempt"]) == ("valid", 2)


@pytest.mark.parametrize("fault", ["export", "export_kill"])
def test_an_export_that_fails_is_made_again(
    tmp_path: Path, slm_energy: Command, fault: str
) -> None:
    words = (f"engine.options.fail={fault}", f"engine.options.fail_once={tmp_path / 'once'}")
    again(slm_energy, *words, "engine.options.export_s=0.0", f"cache.folder={tmp_path / 'cache'}")
    first, second = trials(tmp_path).to_dict("records")
    assert (first["outcome"], second["outcome"]) == ("failed", "valid")
    assert first["reason"].startswith("prepare (before the trial) failed")
    assert ("SIGKILL" in first["reason"]) == (fault == "export_kill")
    assert_sound(tmp_path, cells=1, rounds=1)


def test_a_worker_that_is_killed_from_outside(tmp_path: Path, slm_energy: Command) -> None:
    def kill() -> None:
        until(lambda: a_trial_runs(tmp_path) and children("worker"))
        children("worker")[-1].kill()

    with meanwhile(kill):
        again(slm_energy, SLOW)
    first, second = trials(tmp_path).to_dict("records")
    assert (first["outcome"], second["outcome"]) == ("failed", "valid")
    assert "killed by SIGKILL, not by the kernel" in first["reason"]
    assert_sound(tmp_path, cells=1, rounds=1)


# --- in the sampler ---------------------------------------------------------------------------


def test_a_sampler_that_is_killed(tmp_path: Path, slm_energy: Command) -> None:
    def kill() -> None:
        samples = tmp_path / "mlruns" / "pending"
        until(lambda: any(samples.glob("*/*/exchange/samples.jsonl")))
        for each in children("sampler.service"):
            each.kill()

    root = tmp_path / "powercap"
    root.mkdir()
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    words = ("measurement=strict", f"measurement.powercap_root={root}", SLOW)
    with PowercapTree(root, [zone]), meanwhile(kill):
        again(slm_energy, *words)
    first, second = trials(tmp_path).to_dict("records")
    assert first["outcome"] in ("failed", "invalid")
    assert "sampl" in first["reason"]
    assert "energy/total_j" not in first or pd.isna(first["energy/total_j"])
    assert second["outcome"] == "valid"
    assert second["energy/total_j"] > 0
    assert_sound(tmp_path, cells=1, rounds=1)


# --- in the parent ----------------------------------------------------------------------------


def test_a_sweep_that_is_killed(tmp_path: Path, slm_energy: Command, empty_store: Path) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    study = sweep(tmp_path, "study.rounds=2", SLOW)
    until(lambda: a_trial_runs(tmp_path))
    study.kill()
    study.communicate()
    again(slm_energy, "study.rounds=2", SLOW)
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]
    assert_sound(tmp_path, cells=1, rounds=2)


@pytest.mark.parametrize(
    ("signals", "outcome", "reason"),
    [
        ([signal.SIGINT], "valid", ""),
        ([signal.SIGINT, signal.SIGINT], "failed", "interrupted"),
        ([signal.SIGTERM], "failed", "interrupted"),
    ],
    ids=["ctrl_c_once", "ctrl_c_twice", "sigterm"],
)
def test_an_interrupt(
    tmp_path: Path,
    slm_energy: Command,
    empty_store: Path,
    signals: list[signal.Signals],
    outcome: str,
    reason: str,
) -> None:
    """Once: the running trial comes to its end. Twice, or SIGTERM: it is on record as stopped."""
    ready_store(tmp_path / "mlruns", empty_store)
    study = sweep(tmp_path, "study.rounds=2", "study.attempts=1", SLOW)
    until(lambda: a_trial_runs(tmp_path))
    for number in signals:
        os.killpg(study.pid, number)  # as a terminal does
        time.sleep(0.2)
    output, _ = study.communicate(timeout=60)
    assert study.returncode == 130, output
    assert "Ctrl-C again stops it now" in output or signals != [signal.SIGINT]
    assert "run the same command again" in output
    assert sweeps(tmp_path) == ["KILLED"]
    [stopped] = trials(tmp_path).to_dict("records")
    assert (stopped["outcome"], stopped["reason"]) == (outcome, reason)
    again(slm_energy, "study.rounds=2", "study.attempts=1", SLOW)
    assert_sound(tmp_path, cells=1, rounds=2)


def test_power_loss_at_random_moments() -> None:
    """All processes of a sweep are killed at once, again and again."""
    command = [sys.executable, str(FOLDER / "random_kills.py"), "--kills", "2", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills" in done.stdout


# --- in what it writes to ---------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path, empty_store: Path) -> None:
    """It is one clear line; what was done is kept."""
    small, moved = tmp_path / "small", tmp_path / "moved"
    small.mkdir()
    module = f"{sys.executable} -m slm_energy --config-dir {CONF} engine=scripted {' '.join(QUICK)}"
    script = f"""
        mount -t tmpfs -o size=4m tmpfs {small}
        mkdir {small}/mlruns && cp {empty_store} {small}/mlruns
        {module} tracking.folder={small}/mlruns || exit 9
        dd if=/dev/zero of={small}/filler bs=1k status=none
        {module} tracking.folder={small}/mlruns study.rounds=2; echo "exit $?"
        rm {small}/filler
        {module} tracking.folder={small}/mlruns study.rounds=2; echo "exit $?"
        cp -r {small}/mlruns {moved}
    """
    # A mount of its own needs root, or a user namespace in which to be root.
    become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *become_root, "--mount", "sh", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "exit 2" in done.stdout, done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "tracking.folder" in line
    assert "exit 0" in done.stdout.splitlines()[-1]
    assert "2 of 2 trials valid" in done.stdout
    moved.rename(small / "mlruns")  # where it was: the mount has gone with its processes
    assert_sound(small, cells=1, rounds=2)


def test_a_database_that_another_process_has_locked(tmp_path: Path, slm_energy: Command) -> None:
    hold = (
        "import sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "database.execute('BEGIN EXCLUSIVE')\n"
        "time.sleep(3)\n"
        "database.execute('COMMIT')\n"
    )

    def lock() -> None:
        until(lambda: a_trial_runs(tmp_path))
        command = [sys.executable, "-c", hold, str(tmp_path / "mlruns" / "mlflow.db")]
        subprocess.run(command, check=True)

    with meanwhile(lock):
        again(slm_energy, "study.rounds=2")
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]
    assert_sound(tmp_path, cells=1, rounds=2)


@dataclasses.dataclass
class Server:
    """A real tracking server on loopback, which can be stopped at any moment."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    def start(self) -> None:
        if self.process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert fetched(f"{self.uri}/health") == "OK"

    def stop(self) -> None:
        """End it at once, with all its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def has_trials(self, study: str, count: int) -> bool:
        """Whether it has at least so many trials of a study, complete."""
        query = (
            "SELECT count(*) FROM tags AS a JOIN tags AS b ON a.run_uuid = b.run_uuid"
            " WHERE a.key = 'slm.outcome' AND b.key = 'slm.study' AND b.value = ?"
        )
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as database:
            found: int = database.execute(query, (study,)).fetchone()[0]
        return found >= count


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    ready_store(folder, empty_store)
    server = Server(folder=folder, port=free_port())
    yield server
    server.stop()


@pytest.fixture
def server(module_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, not necessarily started; who finds it down asks once more and no more."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return module_server


def at(server: Server, study: str, *words: str) -> tuple[str, ...]:
    return ("tracking=server", f"tracking.uri={server.uri}", f"study.name={study}", *words)


def test_a_tracking_server_that_is_down_at_the_start(
    tmp_path: Path, slm_energy: Command, server: Server
) -> None:
    words = at(server, "start")
    refused = slm_energy(*words)
    assert refused.returncode == 2
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert server.uri in line
    assert "tracking.uri" in line
    server.start()
    again(slm_energy, *words)
    assert_sound(tmp_path, cells=1, rounds=1, study="start", uri=server.uri)


def test_a_tracking_server_that_goes_down_in_the_middle(
    tmp_path: Path, slm_energy: Command, server: Server
) -> None:
    def stop() -> None:
        until(lambda: server.has_trials("middle", 1))
        server.stop()

    words = at(server, "middle", "study.rounds=3", "measurement.serve_s=0.5")
    server.start()
    with meanwhile(stop):
        done = slm_energy(*words)
    assert done.returncode != 0
    assert "not sent, kept in" in done.stdout
    waiting = list((tmp_path / "mlruns" / "pending").glob("*/*/record.json"))
    assert len(waiting) >= 1
    server.start()
    again(slm_energy, *words)
    assert trials(tmp_path, "middle", server.uri)["outcome"].tolist() == ["valid"] * 3
    assert_sound(tmp_path, cells=1, rounds=3, study="middle", uri=server.uri)


def test_a_tracking_server_that_goes_down_at_the_end(
    tmp_path: Path, slm_energy: Command, server: Server
) -> None:
    """It has every trial by then, but may not know that the sweep has ended."""

    def stop() -> None:
        until(lambda: server.has_trials("end", 1))
        server.stop()

    words = at(server, "end")
    server.start()
    with meanwhile(stop):
        done = slm_energy(*words)
    assert done.returncode != 0
    server.start()
    again(slm_energy, *words)
    assert_sound(tmp_path, cells=1, rounds=1, study="end", uri=server.uri)
