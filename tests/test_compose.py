"""compose.yaml: a database and a server on loopback, which the pinned MLflow can start."""

from __future__ import annotations

import warnings
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


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
