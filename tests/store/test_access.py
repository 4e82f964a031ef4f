"""MLflow servers that require a login, over TLS: who gets in, and who learns of the password.

One real server: MLflow's own basic-auth app behind a certificate whose CA only the tests know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store.connection import ask
from slm_energy.store.tracking import Store
from tests.conftest import Command
from tests.store.conftest import (
    INSECURE,
    PASSWORD,
    SECRETS,
    USER,
    Certificates,
    answering,
    free_port,
)

pytestmark = pytest.mark.usefixtures("one_attempt")


@dataclasses.dataclass(frozen=True)
class Server:
    """A running MLflow server."""

    uri: str
    folder: Path
    pid: int


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, certificates: Certificates
) -> Iterator[Server]:
    """MLflow's basic-auth app behind TLS, with one user."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder)
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n"
        f"admin_username = {USER}\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/{empty_store.name}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    command += [
        "--uvicorn-opts",
        f"--ssl-keyfile {certificates.key} --ssl-certfile {certificates.certificate}",
    ]
    variables = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "not the user's",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(f"https://127.0.0.1:{port}", certificates.ca, process, log)
        yield Server(f"https://127.0.0.1:{port}", folder, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(uri: str, ca: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    trust = ssl.create_default_context(cafile=str(ca))
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"{uri}/health", context=trust, timeout=10),
        ):
            return
        time.sleep(0.1)
    pytest.fail(log.read_text(errors="replace"))


class Watch(threading.Thread):
    """Reads what the system tells everybody of the processes that this one starts, again and again.

    Attributes:
        told: command lines and environments, by the module that runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, str] = {}
        self._before = set(psutil.Process().children(recursive=True))
        self._ours = psutil.Process().cmdline()
        self._enough = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self.join()

    def run(self) -> None:
        while not self._enough.wait(0.1):
            for process in set(psutil.Process().children(recursive=True)) - self._before:
                with contextlib.suppress(psutil.Error):
                    words = process.cmdline()
                    # A process that has just been forked still shows what its parent is.
                    if "-m" in words and words != self._ours:
                        module = words[words.index("-m") + 1]
                        seen = f"{words} {process.environ()}\n"
                        self.told[module] = self.told.get(module, "") + seen


@pytest.mark.usefixtures("credentials")
def test_a_study_goes_to_a_server_that_wants_a_password_and_tells_it_to_nobody(
    slm_energy: Command, server: Server, tmp_path: Path
) -> None:
    with Watch() as watch:
        done = slm_energy(
            *("tracking=server", f"tracking.uri={server.uri}", "study.name=guarded"),
            *("measurement.mode=auto", "engine.options.token_s=0.005"),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"browse the runs: {server.uri}" in done.stdout
    links = slm_energy("ui", "tracking=server", f"tracking.uri={server.uri}", quick=False).stdout
    assert f"this store has its own UI: {server.uri}" in links
    assert f"  guarded: {server.uri}/#/experiments/" in links
    store = Store(TrackingConfig(name="server", folder=str(tmp_path / "mlruns"), uri=server.uri))
    [run] = store.frame("guarded")["run_id"]
    assert list((server.folder / "artifacts").rglob(f"{run}/artifacts/checks.json"))
    assert {"slm_energy.worker", "slm_energy.sampler.service"} <= watch.told.keys()
    told = {"printed": done.stdout + done.stderr + links} | watch.told
    for place in (tmp_path, server.folder / "artifacts"):
        told |= {str(path): path.read_text(errors="replace") for path in files(place)}
    told["runs"] = (server.folder / "mlflow.db").read_text(errors="replace")
    for place, text in told.items():
        for secret in SECRETS:
            assert secret not in text, place


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("unset", "changed", "message"),
    [
        (
            "",
            {"MLFLOW_TRACKING_PASSWORD": "wrong-Secret"},
            "(HTTP 401): set MLFLOW_TRACKING_USERNAME",
        ),
        ("MLFLOW_TRACKING_PASSWORD", {}, "(HTTP 401): set MLFLOW_TRACKING_USERNAME and"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", {}, "set MLFLOW_TRACKING_SERVER_CERT_PATH or"),
        ("", {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/none.pem"}, "must be a file of certificates"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", INSECURE, "MLFLOW_TRACKING_INSECURE_TLS is set"),
    ],
    ids=["wrong password", "no password", "unknown CA", "no CA file", "unverified"],
)
def test_what_keeps_a_server_from_us_is_one_line_that_names_what_to_set(
    slm_energy: Command,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    unset: str,
    changed: dict[str, str],
    message: str,
) -> None:
    monkeypatch.delenv(unset, raising=False)
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    done = slm_energy("tracking=server", f"tracking.uri={server.uri}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(secret in done.stdout + done.stderr for secret in (*SECRETS, "wrong-Secret"))


@pytest.mark.usefixtures("credentials")
def test_a_server_is_called_by_a_name_that_its_certificate_has(server: Server) -> None:
    with pytest.raises(TrackingError, match=r"Hostname mismatch.*: fix the server's certificate"):
        ask(server.uri.replace("127.0.0.1", "localhost"))


def test_http_where_https_is_spoken_and_the_other_way_round(server: Server) -> None:
    with pytest.raises(TrackingError, match=r"connection reset: .* begin with https://"):
        ask(server.uri.replace("https", "http"))
    with (
        answering(200, "{}") as (uri, _),
        pytest.raises(TrackingError, match="TLS handshake failed"),
    ):
        ask(uri.replace("http", "https"))
