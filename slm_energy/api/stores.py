"""Which store a call reads: a folder, a URI, or `mlruns` in the working directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store.connection import exists
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    import pandas as pd

Tracking = str | os.PathLike[str] | None
"""A folder with a store, an MLflow tracking URI, or None for the folder `mlruns`."""

_SQLITE = "sqlite:///"


def tracking_config(tracking: Tracking) -> TrackingConfig:
    """The configuration of a store.

    Raises:
        ConfigError: the URI contains a password.
    """
    if tracking is None:
        return TrackingConfig(name="local")
    name = os.fspath(tracking)
    if "://" in name or name.startswith(_SQLITE):
        return TrackingConfig(name="server", uri=name)
    return TrackingConfig(name="local", folder=name)


def open_existing(tracking: TrackingConfig) -> Store:
    """Open a store to read from it; none is created.

    Raises:
        TrackingError: there is no such store, or it cannot be opened.
    """
    if tracking.uri is not None and tracking.uri.startswith(_SQLITE):
        there = Path(tracking.uri.removeprefix(_SQLITE)).is_file()
    else:
        there = tracking.offline or exists(tracking)  # `Store` says what to do without a network
    if not there:
        where = tracking.uri or Path(tracking.folder).absolute()
        raise TrackingError(
            f"there is no store in {where}: run a study first, or pass tracking=FOLDER or"
            " tracking=URI"
        )
    return Store(tracking)


def trials_of(store: Store, study: str) -> pd.DataFrame:
    """One row per trial of a study, as `Store.frame` has it.

    Raises:
        TrackingError: there is no such study, or it has no trial yet.
    """
    frame = store.frame(study)
    if frame.empty:
        raise TrackingError(
            f"study={study!r} has no finished trial yet: run it, or name another study"
        )
    return frame
