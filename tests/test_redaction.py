"""Passwords are refused in settings, masked in messages, and kept from a trial's processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from slm_energy import redaction
from slm_energy.config.groups import MeasurementConfig, TrackingConfig
from slm_energy.engines.openai.process import ServerProcess
from slm_energy.errors import ConfigError, TrackingError, one_line
from slm_energy.sampler.client import Sampler
from slm_energy.worker import interpreters
from tests.conftest import Command

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


PASSED = {
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "0",
    "HF_HOME": "/data/hf",
    "LC_ALL": "C",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTORCH_CUDA_ALLOC_CONF": "backend:native",
}
KEPT = {
    "HF_TOKEN": "kept-secret",
    "AWS_SECRET_ACCESS_KEY": "kept-secret",
    "GOOGLE_APPLICATION_CREDENTIALS": "/kept-secret",
    "OPENAI_API_KEY": "kept-secret",
    "VLLM_API_KEY": "kept-secret",
    "LLAMA_API_KEY": "kept-secret",
    "SSH_AUTH_SOCK": "/kept-secret",
    "GITHUB_TOKEN": "kept-secret",
    "HTTPS_PROXY": "http://ada:kept-secret@proxy",
    "SLURM_JWT": "kept-secret",
    "NAME_OF_NOBODY": "kept-secret",
    redaction.WALL_TOKEN: "kept-secret",
    **TELLING,
}


@pytest.fixture
def set_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (PASSED | KEPT).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("set_variables")
@pytest.mark.parametrize("python", [None, "/elsewhere/python"])
def test_a_worker_gets_what_is_listed_and_no_more(python: str | None, tmp_path: Path) -> None:
    _, variables = interpreters.command(python, ["serve"], tmp_path)
    assert variables.items() >= (PASSED | {"PATH": os.environ["PATH"]}).items()
    assert not KEPT.keys() & variables.keys()
    _, variables = interpreters.command(python, ["serve"], tmp_path, ["HF_TOKEN", "NOT_SET"])
    assert KEPT.keys() & variables.keys() == {"HF_TOKEN"}
    assert "NOT_SET" not in variables


def test_a_worker_s_python_runs_as_always_whatever_the_caller_s_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONINSPECT": "1"}
    told |= {"PYTHONHASHSEED": "1", "PYTHONDEVMODE": "1", "PYTHONUTF8": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    _, variables = interpreters.command(None, ["serve"], tmp_path)
    assert told.keys() & variables.keys() == {"PYTHONUTF8"}
    _, variables = interpreters.command(None, ["serve"], tmp_path, ["PYTHONOPTIMIZE"])
    assert variables["PYTHONOPTIMIZE"] == "2"  # engine.env is part of a cell's identity


@pytest.mark.usefixtures("set_variables")
def test_the_sampler_gets_the_wall_meter_s_token_but_nothing_that_opens_the_store(
    tmp_path: Path,
) -> None:
    measurement = MeasurementConfig(name="auto", powercap_root=str(tmp_path))
    with Sampler(measurement, tmp_path) as sampler:
        assert sampler.pid is not None
        variables = psutil.Process(sampler.pid).environ()
    assert not TELLING.keys() & variables.keys()
    assert variables[redaction.WALL_TOKEN] == "kept-secret"


@pytest.mark.usefixtures("set_variables")
def test_a_server_gets_what_its_worker_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, variables = interpreters.command(None, ["serve"], tmp_path, ["GITHUB_TOKEN"])
    for name in os.environ.keys() - variables.keys():
        monkeypatch.delenv(name)
    assert ServerProcess(["env"], gpu=None).end(wait_s=30) is not None
    printed = capfd.readouterr().err
    assert "OMP_NUM_THREADS=2" in printed
    assert [line for line in printed.splitlines() if "kept-secret" in line] == [
        "GITHUB_TOKEN=kept-secret"
    ]


def test_a_sweep_gives_a_worker_what_its_engine_names(
    tmp_path: Path, slm_energy: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FURTHER_FOLDER", str(tmp_path))
    python, noted = tmp_path / "python", tmp_path / "noted"
    script = f'#!/bin/sh\necho "$4 $FURTHER_FOLDER" >> {noted}\nexec {sys.executable} "$@"\n'
    python.write_text(script)
    python.chmod(0o755)
    words = ("engine.env=[FURTHER_FOLDER]", f"engine.python={python}")
    done = slm_energy("-m", *words, "measurement.isolation=spawn,forkserver")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {f"{mode} {tmp_path}" for mode in ("serve", "template")} <= set(
        noted.read_text().splitlines()
    )
