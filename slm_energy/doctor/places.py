"""Checks of where records are written: free disk space, and the store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from slm_energy.config.groups import TrackingConfig
from slm_energy.doctor.finding import Finding
from slm_energy.errors import TrackingError
from slm_energy.store import connection
from slm_energy.store.access import is_server
from slm_energy.store.location import DATABASE
from slm_energy.store.tracking import Store

_FULL_GB = 0.1
_LITTLE_GB = 2.0
"""A trial's readings and tokens take about a megabyte; an exported model takes its own size."""


def disk(tracking: TrackingConfig) -> Finding:
    """Check free space on the disk of the tracking folder."""
    name, folder = "disk", _nearest_folder(tracking)
    free_gb = shutil.disk_usage(folder).free / 1e9
    detail = f"{free_gb:.1f} GB free for {Path(tracking.folder).absolute()}"
    if free_gb >= _LITTLE_GB:
        return Finding(name=name, verdict="ok", detail=detail)
    return Finding(
        name=name,
        verdict="warn" if free_gb >= _FULL_GB else "fail",
        detail=detail,
        remedy="make room, or set tracking.folder=DIR on another disk",
    )


def store(tracking: TrackingConfig) -> Finding:
    """Check that the store can be opened and written; creates nothing."""
    name = "store"
    if tracking.uri is not None and is_server(tracking.uri):
        return _server(tracking.uri)
    if not connection.exists(tracking):
        place = _nearest_folder(tracking)
        if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            detail = f"none yet; the first trial creates it in {Path(tracking.folder).absolute()}"
            return Finding(name=name, verdict="ok", detail=detail)
        detail = f"none yet, and this user cannot write to {place}"
        return Finding(name=name, verdict="fail", detail=detail, remedy="tracking.folder=DIR")
    try:
        Store(tracking)
    except TrackingError as error:
        return Finding(
            name=name,
            verdict="fail",
            detail=str(error),
            remedy="tracking.folder=DIR begins another store; keep this one for its records",
        )
    if tracking.uri is None and not os.access(Path(tracking.folder) / DATABASE, os.W_OK):
        detail = f"{connection.store_uri(tracking)} is read-only for this user"
        return Finding(name=name, verdict="fail", detail=detail, remedy="tracking.folder=DIR")
    return Finding(name=name, verdict="ok", detail=f"{connection.store_uri(tracking)} opens")


def _server(uri: str) -> Finding:
    """Check that the MLflow server responds and accepts our credentials."""
    name = "store"
    try:
        connection.ask(uri)
    except TrackingError as error:
        detail, _, remedy = str(error).rpartition(": ")
        return Finding(name=name, verdict="fail", detail=detail, remedy=remedy)
    return Finding(name=name, verdict="ok", detail=f"{uri} answers")


def _nearest_folder(tracking: TrackingConfig) -> Path:
    """The tracking folder, or its closest parent that exists."""
    folder = Path(tracking.folder).absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())
