"""Connections to MLflow: the URI of a configuration's store, its client, and one-line errors."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from slm_energy import shared
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store import access
from slm_energy.store.location import DATABASE, artifact_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


_SQLITE = "sqlite:///"
_SQLITE_DRIVER = "sqlite+pysqlite:///"


def store_uri(tracking: TrackingConfig) -> str:
    """The MLflow tracking URI of a configuration."""
    return tracking.uri or database_uri(Path(tracking.folder).absolute() / DATABASE)


def database_uri(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file, whatever characters its path has.

    In the path of such a URL `%XX` is decoded, and `?` and `#` end it; all others stand for
    themselves (`sqlalchemy.engine.make_url`). MLflow makes the folder that the text after
    `sqlite:///` names, encoded or not, so that an encoded path has the driver's name as well.
    """
    encoded = str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    return f"{_SQLITE if encoded == str(path) else _SQLITE_DRIVER}{encoded}"


def exists(tracking: TrackingConfig) -> bool:
    """Whether the store exists already; a server is assumed to exist.

    Raises:
        TrackingError: its folder cannot be read.
    """
    if tracking.offline:
        return False
    uri = store_uri(tracking)
    if not uri.startswith((_SQLITE, _SQLITE_DRIVER)):
        return True
    with clear_errors(uri):
        return access.database(uri).is_file()


def ask(server: str) -> None:
    """Send an MLflow server a minimal request with the settings of a sweep.

    Raises:
        TrackingError: it does not respond, or denies access.
    """
    with clear_errors(server):
        connect(server).search_experiments(max_results=1)


def create(database: Path) -> None:
    """Create a SQLite store atomically: MLflow cannot use a partly created one."""
    with _without_widgets():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _hush()
    partial = database.with_name(f"{database.name}.partial")
    for leftover in database.parent.glob(f"{partial.name}*"):
        leftover.unlink()
    uri, root = database_uri(partial), artifact_root(database.parent)
    store = SqlAlchemyStore(uri, root)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    shared.share(partial)
    partial.rename(database)


@contextlib.contextmanager
def _without_widgets() -> Iterator[None]:
    """Silence the warning of MLflow's tqdm in a notebook without ipywidgets."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


def _hush() -> None:
    # After the import, which sets these levels itself; creating a store needs no log output.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # This package reports the result of the retries, or of a database's error, once and in a line.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # one per ended run
    for name, value in access.PATIENCE.items():
        os.environ.setdefault(name, value)


def connect(uri: str) -> MlflowClient:
    """Create a client of a store.

    Raises:
        TrackingError: the connection would expose a password or token.
    """
    with _without_widgets():
        from mlflow import MlflowClient
        from mlflow.utils.credentials import get_default_host_creds

    _hush()
    login = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    access.check(
        uri, secret=bool(login.password or login.token), unverified=login.ignore_tls_verification
    )
    if not access.is_server(uri):
        _reach(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _reach(database: str) -> None:
    """Connect once, to fail early: MLflow would retry for 100 s and print each failure."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(database)
    engine.connect().close()
    engine.dispose()


def upload(folder: Path, artifact_uri: str, uri: str) -> None:
    """Store a folder's files as artifacts of a run; for the rest see `files_at`."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    local = artifact_uri.startswith("file:")
    path = Path(local_file_uri_to_path(artifact_uri)) if local else None  # type: ignore[no-untyped-call]
    if path is not None:  # .../artifacts/STUDY/RUN/artifacts
        shared.add_folder(path, within=path.parents[2])
        for file in folder.rglob("*"):  # MLflow cannot write over another user's
            if file.is_file():
                (path / file.relative_to(folder)).unlink(missing_ok=True)
    files_at(artifact_uri, uri).log_artifacts(str(folder))  # type: ignore[no-untyped-call]
    if path is not None:
        shared.share(path)


def files_at(artifact_uri: str, uri: str) -> ArtifactRepository:
    """The artifacts of a run.

    Avoids MLflow's client, which keeps a thread pool and a queue for each of its last 1,024 runs:
    7 kB per trial.

    Args:
        artifact_uri: the run's artifact URI.
        uri: the store's tracking URI.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(artifact_uri, tracking_uri=uri)


@contextlib.contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Turn errors of MLflow, SQLAlchemy and the file system into one-line `TrackingError`s."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(access.failure(uri, error)) from error


def ui_command(tracking: TrackingConfig, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment that serve the MLflow UI of a local store on loopback.

    One worker and no job runner, because MLflow's job consumers outlive the server.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store_uri(tracking)]
    command += [
        "--default-artifact-root",
        artifact_root(Path(tracking.folder).absolute()),
    ]
    return command, os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
