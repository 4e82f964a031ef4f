"""Every process of a sweep runs the sweep's code, also where another copy is installed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from slm_energy import source_code
from slm_energy.config.groups import MeasurementConfig, RunConfig
from slm_energy.errors import MeterError
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.sampler.client import Sampler
from slm_energy.worker.forkserver import Templates
from tests.conftest import Command, a_cell, a_trial

OFF = {"name": "off", "mode": "off", "baseline_s": 0, "warmup_requests": 0, "serve_s": 0}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder with an edited copy of the package, as a second checkout has it."""
    folder = tmp_path / "other"
    shutil.copytree(
        source_code.PACKAGE, folder / "slm_energy", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (folder / "slm_energy" / "clocks.py").open("a") as file:
        file.write("# an edit\n")
    return folder


def taking(other: Path, folder: Path) -> str:
    """An interpreter that imports the other copy, whatever its caller's PYTHONPATH is."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={other} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


def ran(folder: Path, config: RunConfig, python: str | None = None, **measurement: str) -> Record:
    """The record of a trial whose worker is started in this interpreter."""
    cell = a_cell(config, measurement=MeasurementConfig(**OFF | measurement))  # type: ignore[arg-type]
    entry = a_trial(config, cell=cell, python=python, cache_path=str(folder / "cache"))
    with Templates() as templates:
        return trial.run(entry, folder, None, lambda phase, share: None, templates=templates)


@pytest.mark.parametrize("isolation", ["spawn", "forkserver"])
def test_a_worker_runs_the_code_of_its_parent_where_another_copy_comes_first(
    tmp_path: Path,
    config: RunConfig,
    other: Path,
    monkeypatch: pytest.MonkeyPatch,
    isolation: str,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(other))
    record = ran(tmp_path, config, isolation=isolation)
    assert record.outcome.name == "valid", record.outcome
    assert record.code == source_code.digest()


def test_a_sampler_runs_the_code_of_its_parent(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other / "slm_energy" / "sampler" / "__init__.py").write_text("raise ImportError('the other')")
    monkeypatch.setenv("PYTHONPATH", str(other))
    with Sampler(MeasurementConfig(name="auto"), tmp_path) as sampler:
        assert sampler.alive


def test_a_sampler_that_takes_another_copy_is_refused(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", taking(other, tmp_path))
    with pytest.raises(MeterError, match=f"the sampler was ended: .* in {other}/slm_energy"):
        Sampler(MeasurementConfig(name="auto"), tmp_path).start()


@pytest.mark.parametrize("isolation", ["spawn", "forkserver"])
def test_an_interpreter_that_takes_another_copy_fails_the_trial(
    tmp_path: Path, config: RunConfig, other: Path, isolation: str
) -> None:
    record = ran(tmp_path, config, taking(other, tmp_path), isolation=isolation)
    assert record.outcome.name == "failed"
    [reason] = record.outcome.reasons
    assert "it runs other code" in reason
    assert str(other / "slm_energy") in reason
    assert str(source_code.PACKAGE) in reason


def test_a_child_of_an_older_version_that_reports_no_code_is_refused() -> None:
    assert "other code (unknown in an unknown folder)" in str(source_code.difference(None, None))


def test_an_edit_during_a_sweep_is_named() -> None:
    differs = source_code.difference("0123456789ab", str(source_code.PACKAGE))
    assert differs == f"{source_code.PACKAGE} has changed since this command started: run it again"


def test_a_sweep_in_a_checkout_serves_with_the_checkout_and_not_with_an_installed_copy(
    tmp_path: Path, slm_energy: Command, other: Path
) -> None:
    (tmp_path / "slm_energy").symlink_to(source_code.PACKAGE)
    (other / "slm_energy" / "worker" / "__init__.py").write_text("raise ImportError('the other')\n")
    done = slm_energy(env={"PYTHONPATH": str(other)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 trials valid" in done.stdout
