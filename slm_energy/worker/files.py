"""Which keys name the files and folders of a trial, for errors of the file system."""

from __future__ import annotations

from pathlib import Path

from slm_energy.cell import Trial
from slm_energy.places import Places


def places(trial: Trial, folder: Path) -> Places:
    """The keys, with what they name.

    Args:
        trial: may run in another interpreter.
        folder: of the trial, or inside that.
    """
    settings = trial.cell.settings
    known: list[tuple[str, str | Path]] = [
        ("tracking.folder", folder),
        ("cache.folder", trial.cache_path),
        ("workload.source", Path(settings.workload.source).expanduser()),
    ]
    if settings.model.weights != "random":  # those are in the cache
        known.append(("model.source", trial.model_path))
    return known
