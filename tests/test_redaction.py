"""Passwords are refused in settings, masked in messages, and kept from a trial's processes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from slm_energy import redaction
from slm_energy.config.groups import MeasurementConfig, TrackingConfig
from slm_energy.engines.openai.process import ServerProcess
from slm_energy.errors import ConfigError, TrackingError, one_line
from slm_energy.sampler.client import Sampler
from slm_energy.worker import interpreters

TELLING = {
    "MLFLOW_TRACKING_USERNAME": "ada",
    "MLFLOW_TRACKING_PASSWORD": "kept-secret",
    "MLFLOW_TRACKING_TOKEN": "kept-secret",
    "PGPASSWORD": "kept-secret",
    "DATABRICKS_TOKEN": "kept-secret",
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://ada:pw@host/api: 401", "GET https://***@host/api: 401"),
        ("http://token@host:5000 is gone", "http://***@host:5000 is gone"),
        ("postgresql+psycopg2://ada:p@w@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        (
            "http://plug/cm?user=ada&password=pw&cmnd=x",
            "http://plug/cm?user=ada&password=***&cmnd=x",
        ),
        ("postgresql://ada@db/mlflow", "postgresql://ada@db/mlflow"),
        ("sqlite:////home/ada@lab/mlflow.db", "sqlite:////home/ada@lab/mlflow.db"),
        ("https://host/rpc?id=0, see ada@host", "https://host/rpc?id=0, see ada@host"),
    ],
)
def test_what_gives_access_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert redaction.masked(text) == shown
    assert str(TrackingError(text)) == shown
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("https://ada:kept-secret@host", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("https://ada:kept/secret@host", "or MLFLOW_TRACKING_TOKEN"),
        ("http://kept-secret@host:5000", "or MLFLOW_TRACKING_TOKEN"),
        ("postgresql://ada:kept-secret@db/mlflow", "PGPASSWORD"),
        ("mysql+pymysql://db/mlflow?user=ada&password=kept-secret", "an MLflow server"),
    ],
)
def test_a_tracking_uri_has_no_password(uri: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"^tracking.uri has .*{remedy}") as raised:
        TrackingConfig(name="server", uri=uri)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("uri", ["https://host:5000/mlflow", "postgresql://ada@db/mlflow"])
def test_a_tracking_uri_without_one_is_taken(uri: str) -> None:
    assert TrackingConfig(name="server", uri=uri).uri == uri


def test_worker_sampler_and_server_do_not_inherit_what_opens_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in TELLING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_TOKEN", "stays")
    monkeypatch.setenv(redaction.WALL_TOKEN, "kept-secret")
    for python in (None, "/elsewhere/python"):
        _, variables = interpreters.command(python, ["serve"], tmp_path)
        assert not {redaction.WALL_TOKEN, *TELLING} & variables.keys()
        assert variables["HF_TOKEN"] == "stays"
    measurement = MeasurementConfig(name="auto", powercap_root=str(tmp_path))
    with Sampler(measurement, tmp_path) as sampler:
        assert sampler.pid is not None
        inherited = psutil.Process(sampler.pid).environ()
        assert not TELLING.keys() & inherited.keys()
        assert inherited[redaction.WALL_TOKEN] == "kept-secret"  # it reads the wall meter
    assert ServerProcess(["env"], gpu=None).end(wait_s=30) is not None
    printed = capfd.readouterr().err
    assert "HF_TOKEN=stays" in printed
    assert "kept-secret" not in printed
