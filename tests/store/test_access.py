"""MLflow servers that want to know who asks, over TLS; and what brings one up.

One real server: MLflow's own basic-auth app behind a certificate whose CA only this test knows.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import http.server
import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store.access import PATIENCE
from slm_energy.store.connection import ask, ui_command
from slm_energy.store.tracking import Store
from tests.conftest import Command

ROOT = Path(__file__).parents[2]
USER, PASSWORD, TOKEN = "ada", "kept-Secret-4-us", "kept-Token-4-us"
INSECURE = {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
SECRETS = (PASSWORD, TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@dataclasses.dataclass(frozen=True)
class Paper:
    """Files of a CA, and of a certificate for 127.0.0.1 that it signed."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    folder = tmp_path_factory.mktemp("paper")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of our own")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an MLflow server")])
    usage = {
        each: False
        for each in (
            *("digital_signature", "content_commitment", "key_encipherment", "key_agreement"),
            *("data_encipherment", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        )
    }
    ca = (
        _begun(issuer, issuer, ca_key, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage | {"key_cert_sign": True}), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        _begun(name, issuer, key, ca_key)
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / "server.key").write_bytes(key.private_bytes(pem, plain[1], plain[0]))
    return Paper(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    """A certificate with the key identifiers that Python 3.13 requires."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(own, critical=False)
        .add_extension(signer, critical=False)
    )


@dataclasses.dataclass(frozen=True)
class Server:
    """A running MLflow server."""

    uri: str
    folder: Path
    pid: int


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, paper: Paper
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
    command += ["--uvicorn-opts", f"--ssl-keyfile {paper.key} --ssl-certfile {paper.certificate}"]
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
        wait_until_healthy(f"https://127.0.0.1:{port}", paper.ca, process, log)
        yield Server(f"https://127.0.0.1:{port}", folder, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt per request."""
    for name in PATIENCE:
        monkeypatch.setenv(name, "30" if "TIMEOUT" in name else "0")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, paper: Paper) -> None:
    """What a user of the server has in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(paper.ca))


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


@pytest.mark.usefixtures("known")
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
    store = Store(TrackingConfig(name="server", folder=str(tmp_path / "mlruns"), uri=server.uri))
    [run] = store.frame("guarded")["run_id"]
    assert list((server.folder / "artifacts").rglob(f"{run}/artifacts/checks.json"))
    assert {"slm_energy.worker", "slm_energy.sampler.service"} <= watch.told.keys()
    told = {"printed": done.stdout + done.stderr} | watch.told
    for place in (tmp_path, server.folder / "artifacts"):
        told |= {str(path): path.read_text(errors="replace") for path in files(place)}
    told["runs"] = (server.folder / "mlflow.db").read_text(errors="replace")
    for place, text in told.items():
        for secret in SECRETS:
            assert secret not in text, place


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("known")
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
        ("", {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/none.pem"}, "must name a file of certificates"),
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


@pytest.mark.usefixtures("known")
def test_a_server_is_called_by_a_name_that_its_certificate_has(server: Server) -> None:
    with pytest.raises(TrackingError, match=r"Hostname mismatch.*: give the server another one"):
        ask(server.uri.replace("127.0.0.1", "localhost"))


@contextlib.contextmanager
def answering(
    status: int, text: str, paper: Paper | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server that says the same to everybody: its URI, and who asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as made:
        if paper is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(paper.certificate, paper.key)
            made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield f"http{'s' if paper else ''}://127.0.0.1:{made.server_port}", asked
        made.shutdown()
        thread.join()


def test_a_token_goes_to_the_server(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(paper.ca))
    with answering(200, "{}", paper) as (uri, asked):
        ask(uri)
    assert asked == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (200, "<!DOCTYPE html><title>Home</title>", "this is no MLflow server: mend the URL"),
        (404, "no such page", r"this is no MLflow server \(HTTP 404\): mend the URL"),
        (404, '{"detail": "Not Found"}', "this is no MLflow server: mend the URL"),
        (403, "Permission denied", r"no permission for this \(HTTP 403\): ask"),
        (
            403,
            "Invalid Host header - possible",
            r"\(HTTP 403\): start it with --allowed-hosts HOST",
        ),
        (503, "down for maintenance", "too many 503 error responses: look at the server's log"),
    ],
)
def test_what_a_strange_answer_means(status: int, text: str, message: str) -> None:
    with answering(status, text) as (uri, _), pytest.raises(TrackingError, match=message) as raised:
        ask(uri)
    assert str(raised.value).startswith(f"tracking.uri={uri}: ")
    assert "\n" not in str(raised.value)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"https://127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError, match=r"nobody answers \(Connection refused\): start the"):
        ask(uri)

    def unknown(*words: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TrackingError, match=r"name is not known \(Name or service not known\)"):
        ask("https://nowhere.invalid")


def test_a_server_that_listens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrackingError, match="does not answer in time: check the server, or ML"):
            ask(uri)


def test_http_where_https_is_spoken_and_the_other_way_round(server: Server) -> None:
    with pytest.raises(TrackingError, match=r"it hangs up: .* begins with https://"):
        ask(server.uri.replace("https", "http"))
    with answering(200, "{}") as (uri, _), pytest.raises(TrackingError, match="no TLS connection"):
        ask(uri.replace("http", "https"))


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_no_password_leaves_this_machine_in_clear_text(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    with pytest.raises(TrackingError, match="clear text: use https://"):
        ask("http://192.0.2.1:5000")
    with answering(200, "{}") as (uri, asked):
        ask(uri)
    assert len(asked) == 1


@pytest.mark.parametrize(("wanted", "requests"), [(None, 3), ("1", 2)])
def test_a_failing_server_is_asked_again_as_often_as_the_user_wants_or_else_twice(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, requests: int
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    if wanted is not None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", wanted)
    with answering(503, "down") as (uri, asked), pytest.raises(TrackingError, match="too many 503"):
        ask(uri)
    assert len(asked) == requests


def test_the_ui_of_a_database_is_served_and_that_of_a_server_is_named(
    slm_energy: Command, tmp_path: Path
) -> None:
    uri = "https://mlflow.example"
    told = slm_energy("ui", "tracking=server", f"tracking.uri={uri}", quick=False)
    assert told.stdout == f"this store has its own UI: {uri}\n"
    database = TrackingConfig(name="server", folder=str(tmp_path), uri="postgresql://ada@db/runs")
    command, _ = ui_command(database, 5050)
    assert command[command.index("--backend-store-uri") + 1] == "postgresql://ada@db/runs"


def test_a_database_that_the_uri_names_has_its_files_in_the_folder(
    tmp_path: Path, empty_store: Path
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path)}"
    store = Store(TrackingConfig(name="server", folder=str(tmp_path / "runs"), uri=uri))
    place = store.attach(store.open_sweep("test", "s1", "here", "note"), {"a.txt": b"x"})
    assert place.startswith((tmp_path / "runs" / "artifacts" / "test").as_uri())


def test_a_database_that_does_not_answer_is_asked_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"postgresql+psycopg2://ada@127.0.0.1:{free_port()}/runs"
    with pytest.raises(TrackingError, match=r"connection to server .* failed: Connection refused"):
        Store(TrackingConfig(name="server", folder=str(tmp_path), uri=uri))
    assert not caplog.records


def test_a_database_without_its_driver_names_what_to_install(tmp_path: Path) -> None:
    tracking = TrackingConfig(name="server", folder=str(tmp_path), uri="postgresql://ada@db/runs")
    with pytest.raises(TrackingError, match=r"needs the package psycopg: .*slm-energy\[server\]"):
        Store(tracking)


def test_compose_brings_a_database_and_a_server_on_loopback() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert services.keys() == {"postgres", "mlflow"}
    postgres, mlflow = services["postgres"], services["mlflow"]
    assert postgres["image"].startswith("postgres:17-")
    assert "ports" not in postgres
    assert mlflow["ports"] == ["${LISTEN:-127.0.0.1}:5000:5000"]
    assert mlflow["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for service in (postgres, mlflow):
        assert service["healthcheck"]["test"]
        [password] = [v for k, v in service["environment"].items() if "PASSWORD" in k]
        assert password.startswith("${POSTGRES_PASSWORD:?write POSTGRES_PASSWORD=")
    # SQLAlchemy takes another driver than psycopg2 for plain `postgresql`.
    uri = "postgresql+psycopg2://mlflow@postgres/mlflow"
    assert mlflow["environment"]["MLFLOW_BACKEND_STORE_URI"] == uri


def test_the_server_of_compose_is_one_that_the_pinned_mlflow_starts() -> None:
    with warnings.catch_warnings(action="ignore"):
        from mlflow.cli import cli

    dockerfile, pins = (ROOT / "Dockerfile").read_text(), (ROOT / "constraints.txt").read_text()
    [stage] = [part for part in dockerfile.split("\nFROM ") if "AS server\n" in part]
    assert "pip install --no-cache-dir -c /constraints.txt mlflow psycopg2-binary" in stage
    for package in ("mlflow", "psycopg2-binary"):
        assert f"\n{package}==" in pins
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    program, verb, *words = services["mlflow"]["command"]
    assert program == "mlflow"
    command = cli.commands[verb]
    context = command.make_context(verb, words)
    assert context.params["serve_artifacts"]
    assert context.params["artifacts_destination"] == "/artifacts"
    known = {option.envvar for option in command.params} | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION"}
    assert services["mlflow"]["environment"].keys() <= known | {"PGPASSWORD"}
