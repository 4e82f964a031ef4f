"""Which store a call reads: a folder, a URI, or `mlruns` in the working directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import TrackingError
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    import pandas as pd

Tracking = str | os.PathLike[str] | None
"""A folder with a store, an MLflow tracking URI, or None for the folder `mlruns`."""


def tracking_config(tracking: Tracking) -> TrackingConfig:
    """The configuration of a store.

    Raises:
        ConfigError: the URI contains a password.
    """
    if tracking is None:
        return TrackingConfig(name="local")
    name = os.fspath(tracking)
    if "://" in name:
        return TrackingConfig(name="server", uri=name)
    return TrackingConfig(name="local", folder=name)


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
