"""A small stored study that all tests of the Python API read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slm_energy import SweepResult, run
from slm_energy.testing import CONF
from tests.conftest import QUICK, ready_store

Words = Callable[..., list[str]]


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("api") / "mlruns"
    ready_store(folder, empty_store)
    return folder


@pytest.fixture(scope="session")
def words(store_folder: Path) -> Words:
    """The words of a quick scripted study in the shared store; more words come last."""

    def quick(name: str, *more: str) -> list[str]:
        scripted = ["--config-dir", str(CONF), "engine=scripted", *QUICK]
        return [*scripted, f"study.name={name}", f"tracking.folder={store_folder}", *more]

    return quick


@pytest.fixture(scope="session")
def finished(words: Words) -> SweepResult:
    """Two cells in three rounds; energy is measured, or estimated where there is no sensor."""
    grid = ["-m", "engine.options.token_s=0.0005,0.001", "study.rounds=3", "measurement=auto"]
    return run(words("finished", *grid), quiet=True)
