"""A small stored study with measured energy, and its package."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from slm_energy import run
from slm_energy.config.groups import TrackingConfig
from slm_energy.config.options import ExportOptions
from slm_energy.replication.export import export
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import QUICK, ready_store

STUDY = "paper"
OPTIONS = ExportOptions(authors=("Ada Lovelace",), data_license="CC-BY-4.0")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """Two cells in three rounds, one twice as slow: 50 W and, of them, 5 W of memory."""
    folder = tmp_path_factory.mktemp("replication")
    ready_store(folder / "mlruns", empty_store)
    zones = (
        Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", waveform=constant(5)),
    )
    words = [
        *("-m", "--config-dir", str(CONF), "engine=scripted", *QUICK, "measurement=auto"),
        *("engine.options.token_s=0.001,0.002", "study.rounds=3", "study.reference=scripted"),
        *("measurement.target_error=0.05", "measurement.serve_s=0.1", "measurement.baseline_s=0.1"),
        "measurement.isolation=forkserver",
        *(f"study.name={STUDY}", f"tracking.folder={folder / 'mlruns'}"),
    ]
    (folder / "powercap").mkdir()
    with PowercapTree(folder / "powercap", zones):
        done = run([*words, f"measurement.powercap_root={folder / 'powercap'}"], quiet=True)
    assert done.all_valid, done.trials.to_string()
    return folder / "mlruns"


@pytest.fixture(scope="session")
def store(store_folder: Path) -> Store:
    return Store(TrackingConfig(name="local", folder=str(store_folder)))


@pytest.fixture(scope="session")
def packed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the study, for tests that only read it."""
    folder = tmp_path_factory.mktemp("packed")
    options = dataclasses.replace(OPTIONS, out=str(folder / "package"))
    return export(store, options, {"study": STUDY}, folder / "pending").place


@pytest.fixture
def package(packed: Path, tmp_path: Path) -> Path:
    """A copy of the package to change."""
    return Path(shutil.copytree(packed, tmp_path / "package"))
