"""Where the files of a SQLite store are: beside its database, wherever the folder was moved.

MLflow stores an absolute address with each experiment and run. Of
`ROOT/artifacts/STUDY/RUN/artifacts` only the part after ROOT/artifacts still counts.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

DATABASE = "mlflow.db"
_ADDRESSES = (("experiments", "artifact_location", 1), ("runs", "artifact_uri", 3))
"""Table, column, and how many parts of its paths are inside the folder of artifacts."""


def artifact_root(folder: Path) -> str:
    """The URI of a store's files."""
    return (folder / "artifacts").as_uri()


def relocated(uri: str, folder: Path, parts: int = 3) -> str:
    """The URI of a run's artifacts in a store.

    Args:
        uri: as it was stored.
        folder: the store's.
        parts: how many parts of the path are inside the folder of artifacts.
    """
    return "/".join([artifact_root(folder), *uri.split("/")[-parts:]])


def relocate(folder: Path) -> None:
    """Write the store's own folder into its database, so that the MLflow UI opens these files."""
    database = sqlite3.connect(f"{(folder / DATABASE).as_uri()}?mode=rw", uri=True)
    with contextlib.closing(database), database:
        for table, column, parts in _ADDRESSES:
            moved = [
                (relocated(uri, folder, parts), uri)
                for (uri,) in database.execute(f"SELECT DISTINCT {column} FROM {table}")
                if not uri.startswith(f"{artifact_root(folder)}/")
            ]
            database.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", moved)
