"""A tracking server that is down at the start, in the middle or at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from tests.benchmark import load
from tests.browsing import fetched, free_port
from tests.conftest import Command, ready_store
from tests.faults.conftest import (
    again,
    assert_sound,
    meanwhile,
    trials,
    until,
)

FaultProxy = load("fault_proxy").FaultProxy


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


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each request up soon, and repeat it at once."""
    for name, value in {"TIMEOUT": "1", "BACKOFF_FACTOR": "0", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)


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
    assert done.returncode == 3
    assert "not sent, kept in" in done.stdout
    waiting = list((tmp_path / "mlruns" / "pending").glob("*/*/record.json"))
    assert len(waiting) >= 1
    server.start()
    again(slm_energy, *words)
    assert trials(tmp_path, "middle", server.uri)["outcome"].tolist() == ["valid"] * 3
    assert_sound(tmp_path, cells=1, rounds=3, study="middle", uri=server.uri)


def deleted(server: Server, study: str) -> list[Run]:
    """The runs of a study that the UI hides."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY, max_results=1000
    )
    return list(found)


def shown(server: Server, study: str) -> list[tuple[str, str]]:
    """Kind and status of the runs of a study that the UI shows."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return sorted((run.data.tags["slm.kind"], run.info.status) for run in runs)


def first(count: int, fault: str, path: str) -> Callable[[str], str | None]:
    """A fault of the first requests to a path."""
    left = [fault] * count
    return lambda asked: left.pop() if left and asked.endswith(path) else None


@pytest.mark.parametrize("fault", ["drop after", "503 after", "late request"])
def test_a_tracking_server_whose_answers_are_lost_shows_each_run_once(
    fault: str,
    tmp_path: Path,
    slm_energy: Command,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    impatient(monkeypatch)
    server.start()
    study = fault.replace(" ", "_")
    with FaultProxy(server.uri, first(2, fault, "/runs/create"), late_s=1.2) as proxy:
        words = ("tracking=server", f"tracking.uri={proxy.uri}", f"study.name={study}")
        slm_energy(*words)
        again(slm_energy, *words)
    assert len(proxy.done) == 2
    assert_sound(tmp_path, cells=1, rounds=1, study=study, uri=server.uri)
    assert shown(server, study)[-1] == ("trial", "FINISHED")
    twins = deleted(server, study)
    assert all("slm.deleted" in run.data.tags for run in twins)
    assert len(twins) >= 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "authentication required (HTTP 401): set MLFLOW_TRACKING_USERNAME"),
        ("429", "too many 429 error responses: look at the server's log"),
        ("503", "too many 503 error responses: look at the server's log"),
        ("HTML", "not an MLflow server"),
        ("truncated", "an answer was cut off"),
    ],
)
def test_what_a_server_refuses_waits_and_is_sent_once(
    fault: str,
    said: str,
    tmp_path: Path,
    slm_energy: Command,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a trial; the sweep's own run is there already."""
    impatient(monkeypatch)
    server.start()
    study, refuses = f"refused_{fault.replace(' ', '_')}", [True]

    def choose(path: str) -> str | None:
        return fault if refuses and path.endswith("/runs/log-batch") else None

    with FaultProxy(server.uri, choose) as proxy:
        to = ("tracking=server", f"tracking.uri={proxy.uri}")
        done = slm_energy(*to, f"study.name={study}")
        assert done.returncode == 3, done.stdout + done.stderr
        [line] = [line for line in done.stdout.splitlines() if "not sent, kept in" in line]
        assert f"tracking.uri={proxy.uri}: {said}" in line
        assert "Traceback" not in done.stdout + done.stderr
        assert len(proxy.done) == (2 if fault in ("429", "503") else 1)
        refuses.clear()
        for sent in ("1 records sent", "nothing is pending"):
            done = slm_energy("sync", *to, quick=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert sent in done.stdout
    assert_sound(tmp_path, cells=1, rounds=1, study=study, uri=server.uri)
    assert shown(server, study)[-1] == ("trial", "FINISHED")


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
