"""An MLflow server with PostgreSQL behind it and artifacts through it, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.slurm.daemons import Daemons, free_port, listens


def start(daemons: Daemons, folder: Path) -> str:
    """Start both in a folder; return the tracking URI."""
    database = _postgres(daemons, folder)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", database]
    command += ["--serve-artifacts", "--artifacts-destination", (folder / "artifacts").as_uri()]
    # MLflow's job consumers would outlive it.
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    daemons.start("mlflow", command, lambda: _healthy(uri), env=quiet)
    return uri


def _postgres(daemons: Daemons, folder: Path) -> str:
    """Start PostgreSQL as its own user, who has to be somebody else than root."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    data, port = folder / "postgres", free_port()
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    made = [programs / "initdb", "--pgdata", data, "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run(
        made, cwd=data, user="postgres", group="postgres", stdout=subprocess.DEVNULL, check=True
    )
    command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", data]
    daemons.start("postgres", command, lambda: listens(port), user="postgres")
    return f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
