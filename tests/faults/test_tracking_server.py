"""A tracking server that is down at the start, in the middle or at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.browsing import fetched, free_port
from tests.conftest import Command, ready_store
from tests.faults.conftest import (
    again,
    assert_sound,
    meanwhile,
    trials,
    until,
)


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
    assert done.returncode == 3
    assert "not sent, kept in" in done.stdout
    waiting = list((tmp_path / "mlruns" / "pending").glob("*/*/record.json"))
    assert len(waiting) >= 1
    server.start()
    again(slm_energy, *words)
    assert trials(tmp_path, "middle", server.uri)["outcome"].tolist() == ["valid"] * 3
    assert_sound(tmp_path, cells=1, rounds=3, study="middle", uri=server.uri)


@contextlib.contextmanager
def losing_first_answers(server: Server) -> Iterator[str]:
    """The URI of a proxy before the server that loses the first two answers to new runs."""
    lost: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = urllib.request.Request(server.uri + self.path, body, method=self.command)
            request.add_header("Content-Type", self.headers.get("Content-Type", ""))
            try:
                with urllib.request.urlopen(request) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, content = error.code, error.read()
            if self.path.endswith("/runs/create") and len(lost) < 2:
                lost.append(self.path)
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()
        thread.join()
    assert len(lost) == 2


def test_a_tracking_server_whose_answers_are_lost_shows_each_run_once(
    tmp_path: Path, slm_energy: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    server.start()
    with losing_first_answers(server) as uri:
        words = ("tracking=server", f"tracking.uri={uri}", "study.name=lost")
        again(slm_energy, *words)
        again(slm_energy, *words)
    assert_sound(tmp_path, cells=1, rounds=1, study="lost", uri=server.uri)
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("lost")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted((run.data.tags["slm.kind"], run.info.status) for run in runs) == [
        ("sweep", "FINISHED"),
        ("trial", "FINISHED"),
    ]


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
