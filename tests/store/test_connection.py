"""What cannot be reached, and what answers something else, is one line that names the remedy."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
import sqlalchemy

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store.connection import ask, exists, store_uri, ui_command
from slm_energy.store.tracking import Store
from tests.conftest import Command, refusal
from tests.store.conftest import (
    PASSWORD,
    TOKEN,
    USER,
    Certificates,
    answering,
    free_port,
)

pytestmark = pytest.mark.usefixtures("one_attempt")


def test_a_token_goes_to_the_server(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    with answering(200, "{}", certificates) as (uri, asked):
        ask(uri)
    assert asked == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (200, "<!DOCTYPE html><title>Home</title>", "not an MLflow server: check tracking.uri"),
        (404, "no such page", r"not an MLflow server \(HTTP 404\): check tracking.uri"),
        (404, '{"detail": "Not Found"}', "not an MLflow server: check tracking.uri"),
        (403, "Permission denied", r"permission denied \(HTTP 403\): ask"),
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
    with pytest.raises(TrackingError, match=r"connection failed \(Connection refused\): start the"):
        ask(uri)

    def unknown(*words: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TrackingError, match=r"host name not found \(Name or service not known\)"):
        ask("https://nowhere.invalid")


def test_a_server_that_listens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrackingError, match="timed out: check the server, or raise ML"):
            ask(uri)


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


def test_the_ui_of_a_database_is_served_and_a_server_must_answer(
    slm_energy: Command, tmp_path: Path
) -> None:
    uri = "http://127.0.0.1:9"
    told = refusal(slm_energy("ui", "tracking=server", f"tracking.uri={uri}", quick=False))
    assert told.startswith(f"error: tracking.uri={uri}: ")
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


PRINTABLE = [char for char in map(chr, range(32, 127)) if char != "/"]


def test_a_folder_may_have_any_character(tmp_path: Path, empty_store: Path) -> None:
    for name in (*(f"a{char}b" for char in PRINTABLE), "feature%2Fx", "%41", "a b\u00e9\u4e2d"):
        folder = tmp_path / name
        folder.mkdir()
        here = TrackingConfig(name="local", folder=str(folder))
        assert not exists(here)
        shutil.copy(empty_store, folder)
        assert exists(here)
        engine = sqlalchemy.create_engine(store_uri(here))
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT count(*) FROM experiments")).scalar()
        engine.dispose()
        assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    assert len(list(tmp_path.iterdir())) == len(PRINTABLE) + 3


def test_a_store_is_made_and_used_in_a_folder_of_all_characters(tmp_path: Path) -> None:
    folder = tmp_path / ("".join(PRINTABLE) + "%2Fé") / "runs"
    store = Store(TrackingConfig(name="local", folder=str(folder)))
    parent = store.open_sweep("test", "s1", "here", "note")
    store.attach(parent, {"a.txt": b"x"})
    assert store.attached(parent, "a.txt") == "x"
    assert len(list((folder / "artifacts" / "test").rglob("a.txt"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.parent.name]


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
