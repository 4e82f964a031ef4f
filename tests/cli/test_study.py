"""A verb that reads a study and is given none lists those of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.tracking import Store
from tests.conftest import Command, refusal


@pytest.mark.parametrize("verb", ["report", "recommend", "score"])
def test_the_studies_are_listed_newest_first(
    tmp_path: Path, slm_energy: Command, verb: str
) -> None:
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    for study in ("first", "second"):
        store.open_sweep(study, "s1", "here", "note")
    line = refusal(slm_energy(verb, quick=False))
    assert line.startswith("error: study=NAME is missing; the studies of sqlite:///")
    assert line.endswith("mlflow.db are: second, first")
