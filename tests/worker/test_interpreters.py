"""Workers in another interpreter, which has three packages and this package's files."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slm_energy.cell import Settings
from slm_energy.config.groups import EngineConfig, MeasurementConfig, RunConfig
from slm_energy.errors import ConfigError
from slm_energy.running import trial
from slm_energy.worker import interpreters
from tests.conftest import Command, a_cell, a_trial

OFF = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=0, serve_s=0)


def bare(folder: Path, *packages: str) -> str:
    """An interpreter that has these packages of ours and no others."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for package in packages:
        files = importlib.metadata.files(package) or []
        for name in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (site / name).symlink_to(importlib.metadata.distribution(package).locate_file(name))
    return str(folder / "bin" / "python")


@pytest.fixture(scope="session")
def lean(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lean")
    return bare(folder / "venv", "numpy", "tokenizers")


def levels(config: RunConfig, **engine: object) -> Settings:
    return a_cell(config, engine=EngineConfig(**{"name": "scripted"} | engine)).settings  # type: ignore[arg-type]


def test_a_worker_needs_only_numpy_and_tokenizers(
    tmp_path: Path, config: RunConfig, lean: str
) -> None:
    cell = a_cell(config, measurement=OFF)
    entry = a_trial(config, cell=cell, python=lean, cache_path=str(tmp_path / "cache"))
    record = trial.run(entry, tmp_path, None, lambda phase, share: None)
    assert record.outcome.name == "valid", record.outcome
    assert record.capture is not None
    assert len(record.capture.generations) > 0


@pytest.mark.parametrize("other", [True, False])
def test_a_file_beside_the_user_is_not_taken_for_a_library(
    tmp_path: Path, config: RunConfig, lean: str, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    (tmp_path / "tokenizers.py").write_text("raise ImportError('this is not the library')")
    monkeypatch.chdir(tmp_path)
    python = lean if other else None
    cell = a_cell(config, measurement=OFF)
    entry = a_trial(config, cell=cell, python=python, cache_path=str(tmp_path / "cache"))
    record = trial.run(entry, tmp_path, None, lambda phase, share: None)
    assert record.outcome.name == "valid", record.outcome


def test_an_interpreter_is_asked_about_its_own_libraries(
    tmp_path: Path, config: RunConfig, lean: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('this is not the library')")
    monkeypatch.chdir(tmp_path)
    [told] = interpreters.ask(lean, [levels(config)])
    assert told.unsupported is None


def test_an_interpreter_tells_of_many_cells_at_once(config: RunConfig, lean: str) -> None:
    runs, cannot, wrong, unknown = interpreters.ask(
        lean,
        [
            levels(config),
            levels(config, name="onnx"),
            levels(config, options={"speed": 1}),
            levels(config, name="nowhere"),
        ],
    )
    assert (runs.unsupported, runs.error) == (None, None)
    assert runs.versions["python"].startswith("3.")
    assert cannot.versions["onnxruntime-gpu"] == "absent"
    assert "onnxruntime" in str(cannot.unsupported)
    assert "engine.options.speed=1: engine scripted has no such option" in str(wrong.error)
    assert "'nowhere' is not an engine" in str(unknown.error)


def test_what_an_interpreter_lacks_is_named(tmp_path: Path, config: RunConfig) -> None:
    python = bare(tmp_path / "venv", "filelock")
    with pytest.raises(ConfigError, match=r"venv/bin/python -m pip install numpy tokenizers$"):
        interpreters.ask(python, [levels(config)])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo boom >&2; exit 3", "a worker does not start in it: boom"),
        ("exit 3", "a worker does not start in it: it printed nothing"),
        (
            f'shift; exec {sys.executable} -c "import sys; sys.version_info = (3, 10); $1"',
            "it is Python 3.10, and 3.11 is the oldest that can",
        ),
    ],
)
def test_an_interpreter_that_cannot_is_one_clear_line(
    tmp_path: Path, config: RunConfig, script: str, message: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(ConfigError) as raised:
        interpreters.ask(str(python), [levels(config)])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_program_is_one_clear_line(tmp_path: Path, config: RunConfig) -> None:
    (tmp_path / "python").touch()
    with pytest.raises(ConfigError, match=r"cannot be run: .*Permission denied"):
        interpreters.ask(str(tmp_path / "python"), [levels(config)])


def test_a_sweep_runs_a_cell_in_the_interpreter_that_a_relative_path_means(
    slm_energy: Command, lean: str
) -> None:
    done = slm_energy(f"engine.python={os.path.relpath(lean)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 trials valid" in done.stdout


def test_an_option_is_checked_where_it_is_used(slm_energy: Command, lean: str) -> None:
    done = slm_energy(f"engine.python={lean}", "+engine.options.speed=1")
    assert done.returncode == 2
    assert "engine scripted has no such option" in done.stderr
