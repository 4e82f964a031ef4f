"""A tracking server that is down at the start, in the middle or at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

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
    """The server, not necessarily started; who finds it down asks once more, and no more."""
    for name, value in {"MAX_RETRIES": "1", "BACKOFF_FACTOR": "0", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
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
    assert done.returncode == 3
    assert "not sent, kept in" in done.stdout
    waiting = list((tmp_path / "mlruns" / "pending").glob("*/*/record.json"))
    assert len(waiting) >= 1
    server.start()
    again(slm_energy, *words)
    assert trials(tmp_path, "middle", server.uri)["outcome"].tolist() == ["valid"] * 3
    assert_sound(tmp_path, cells=1, rounds=3, study="middle", uri=server.uri)


def one_by_one(faults: Sequence[str | None], path: str) -> Callable[[str], str | None]:
    """What happens to the first requests to a path."""
    coming = iter(faults)
    return lambda asked: next(coming, None) if asked.endswith(path) else None


def test_a_tracking_server_whose_answers_are_lost_shows_each_run_once(
    tmp_path: Path, slm_energy: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    server.start()
    # Of the sweep's run, and of the trial's.
    faults = ["drop after", "503 after", None, "late request", "drop after", None]
    with FaultProxy(server.uri, one_by_one(faults, "/runs/create"), late_s=0.1) as proxy:
        words = ("tracking=server", f"tracking.uri={proxy.uri}", "study.name=lost")
        again(slm_energy, *words)
        again(slm_energy, *words)
    assert len(proxy.done) == 4
    assert_sound(tmp_path, cells=1, rounds=1, study="lost", uri=server.uri)
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("lost")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted((run.data.tags["slm.kind"], run.info.status) for run in runs) == [
        ("sweep", "FINISHED"),
        ("trial", "FINISHED"),
    ]
    twins = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert ["slm.deleted" in run.data.tags for run in twins] == [True] * 4


def test_what_a_server_refuses_waits_and_is_sent_once(
    tmp_path: Path, slm_energy: Command, server: Server
) -> None:
    server.start()
    said = {
        "401": "authentication required (HTTP 401): set MLFLOW_TRACKING_USERNAME",
        "429": "too many 429 error responses: look at the server's log",
        "503": "too many 503 error responses: look at the server's log",
        "HTML": "not an MLflow server",
        "truncated": "a response was cut off",
    }
    # Each strikes one trial. What may pass is asked for once more, as the fixture says.
    faults = [fault for fault in said for _ in range(2 if fault in ("429", "503") else 1)]
    with FaultProxy(server.uri, one_by_one(faults, "/runs/log-batch")) as proxy:
        to = ("tracking=server", f"tracking.uri={proxy.uri}")
        done = slm_energy(*to, "study.name=refused", f"study.rounds={len(said)}")
        assert done.returncode == 3, done.stdout + done.stderr
        told = [line for line in done.stdout.splitlines() if "not sent, kept in" in line]
        for line, why in zip(told, said.values(), strict=True):
            assert f"tracking.uri={proxy.uri}: {why}" in line
        assert [fault for fault, _ in proxy.done] == faults
        for sent in ("study refused: 5 records sent", "nothing is pending"):
            done = slm_energy("sync", *to, quick=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert sent in done.stdout
    assert_sound(tmp_path, cells=1, rounds=len(said), study="refused", uri=server.uri)


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
