"""Shared by all tests: a composed configuration, and the command line on a scripted engine."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slm_energy import machine, prompts, workload
from slm_energy.__main__ import main
from slm_energy.cell import Cell, Trial, settings
from slm_energy.config.check import run_config
from slm_energy.config.groups import ModelConfig, RunConfig, TrackingConfig, WorkloadConfig
from slm_energy.errors import SlmEnergyError
from slm_energy.models import source
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from tests.debian import ensure
from tests.fake_slurm import FakeSlurm

Command = Callable[..., subprocess.CompletedProcess[str]]

# Tests run beside other programs, and not for their joules.
LENIENT = (
    "study.gate.at_most_s=0",
    "measurement.limits.foreign_cpu_pct=100",
    "measurement.limits.steal_pct=100",
    "measurement.limits.throttled_pct=100",
)
QUICK = (
    "measurement=off",
    "study.reference=null",
    "study.sandbox=off",
    *LENIENT,
    "measurement.baseline_s=0.05",
    "measurement.serve_s=0.1",
    "workload.limit=3",
    "workload.new_tokens=4",
)

LONGEST = (
    "docs/test_commands.py",
    "engines/openvino/test_engine.py",
    "test_environments.py",
    "engines/openvino/test_genai.py",
    "cli/test_main.py",
    "test_examples.py",
    "running/test_cluster.py",
    "engines/torch/test_compiled.py",
    "derive/energy/test_accounting_properties.py",
    "test_browser.py",
    "config/test_compose.py",
    "engines/openvino/test_export.py",
    "test_end_to_end.py",
    "analysis/test_sections.py",
    "running/test_sweep.py",
    "replication/test_export.py",
    "engines/onnx/test_export.py",
    "engines/test_code_ends.py",
    "test_first_day.py",
    "test_packaging.py",
    "faults/test_tracking_server.py",
    "store/test_read_only.py",
    "engines/test_isolation.py",
    "faults/test_disk.py",
    "faults/test_worker.py",
    "engines/test_twins.py",
    "config/test_combinations.py",
    "analysis/test_build.py",
    "running/test_scope.py",
    "api/test_sweeps.py",
    "store/test_tracking.py",
    "engines/llama_cpp/test_engine.py",
    "faults/test_sweep.py",
    "engines/openai/test_engine.py",
    "derive/energy/test_fault_matrix.py",
    "engines/onnx/test_engine.py",
    "running/test_stop_rule.py",
    "sampler/test_client.py",
    "analysis/test_under_load.py",
    "analysis/test_simulated_lab.py",
    "running/test_trial.py",
    "engines/onnx/test_export_fused.py",
    "models/test_random_weights.py",
    "faults/test_output.py",
    "doctor/test_diagnosis.py",
    "engines/torch/test_eager.py",
    "running/test_load.py",
    "docs/test_site.py",
    "doctor/test_calibrate.py",
    "store/test_sync.py",
    "api/test_loading.py",
    "cli/test_fetch.py",
    "cli/test_checklist.py",
    "cli/test_score.py",
)
"""Files of 10 s and more, roughly by their length."""


def pytest_configure(config: pytest.Config) -> None:
    """Tests lock a folder of their own, also those that run side by side (`pytest -n 2`)."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        folder = tempfile.mkdtemp(prefix=f"{worker}-")
        Path(folder).chmod(0o1777)  # as /tmp itself
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        config.add_cleanup(lambda: shutil.rmtree(folder))
    machine.LOCK_FOLDERS = (Path(tempfile.gettempdir()),)
    # For the processes that they start.
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = str(Path(__file__).parent / "own_lock")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (own, *known)))

    # Of the files, those of `LONGEST` go first: xdist's own order is by the number of their tests.
    config.option.loadscopereorder = False

    gc.disable()  # while tests are collected, which takes a quarter less then


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: one that starts last keeps one worker busy while the other has ended."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def no_section_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a section of a report fails the test: a report does without the section."""

    def raise_it(**_: object) -> None:
        raise  # what is being handled

    monkeypatch.setattr("slm_energy.analysis.sections.Failure", raise_it)


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """The sandbox of generated code, which is a Debian package."""
    ensure((Path("/usr/bin/bwrap"),), ("bubblewrap",))


@pytest.fixture
def composed() -> dict[str, Any]:
    """The mapping that Hydra composes for a scripted engine, plain."""
    return {
        "model": {"name": "bundled", "source": "bundled"},
        "engine": {"name": "scripted"},
        "provider": {"name": "cpu"},
        "measurement": {"name": "off", "mode": "off"},
        "workload": {"name": "bundled", "source": "bundled", "new_tokens": 4},
        "study": {"name": "test", "reference": None},
        "tracking": {"name": "local"},
        "cache": {"name": "local"},
    }


@pytest.fixture
def config(composed: dict[str, Any]) -> RunConfig:
    return run_config(composed)


_BUNDLED = dict[str, str]()


def a_cell(config: RunConfig, name: str = "c1", **changes: Any) -> Cell:
    """A cell of that id; changes replace whole groups of its settings."""
    levels = dataclasses.replace(settings(config), **changes)
    return Cell(
        id=name,
        settings=levels,
        model_digest=_digest(levels.model, lambda: source.identity(levels.model)),
        workload_digest=_digest(
            levels.workload, lambda: prompts.digest(workload.load(levels.workload), levels.workload)
        ),
        versions={},
    )


def _digest(config: ModelConfig | WorkloadConfig, compute: Callable[[], str]) -> str:
    """The digest that a grid would find; that of a bundled one is computed once."""
    key = repr(config)
    if key not in _BUNDLED:
        try:
            digest = compute()
        except SlmEnergyError:  # there is no such model or file, in a test that reads none
            return "none"
        if config.source != "bundled":
            return digest
        _BUNDLED[key] = digest
    return _BUNDLED[key]


def a_trial(config: RunConfig, **changes: Any) -> Trial:
    """A trial of the scripted engine with the bundled model's tokenizer."""
    values: dict[str, Any] = {
        "id": "t1",
        "study": "test",
        "sweep": "s1",
        "cell": a_cell(config),
        "label": "bundled / scripted / cpu",
        "round": 1,
        "order": 1,
        "attempt": 1,
        "model_path": str(Path(__file__).parent.parent / "slm_energy" / "bundled" / "model"),
        "cache_path": str(Path(tempfile.gettempdir()) / "slm-energy-test-cache"),
        "timeout_s": 60.0,
    }
    return Trial(**values | changes)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store without any run: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("store")
    Store(TrackingConfig(name="local", folder=str(folder)))
    return folder / "mlflow.db"


def ready_store(folder: Path, empty_store: Path) -> None:
    """Put a store without any run into a folder that has none."""
    if not (folder / empty_store.name).exists():
        folder.mkdir(exist_ok=True)
        shutil.copy(empty_store, folder)


@pytest.fixture
def slm_energy(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command line in an empty folder, on short scripted trials.

    It runs in this process, or in one of its own where `env` gives it other variables. A store is
    not made anew for every test, and the machine's lock is one of the test's own: what measures on
    this machine does not wait for tests, nor they for it.
    """

    def run(
        *words: str, quick: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        scripted = ("--config-dir", str(CONF), "engine=scripted", *QUICK) if quick else ()
        at = 1 if words and words[0] == "plan" else 0
        arguments = [*words[:at], *scripted, *words[at:]]
        if quick and at == 0:
            ready_store(tmp_path / "mlruns", empty_store)
        return in_process(arguments) if env is None else _apart(arguments, tmp_path, env)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that was refused."""
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    return line


def trials(folder: Path, study: str = "default") -> pd.DataFrame:
    """The trials in the store that the command line has made in a folder."""
    store = Store(TrackingConfig(name="local", folder=str(folder / "mlruns")))
    return store.frame(study)


def in_process(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process."""
    sys.argv = ["slm-energy", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def _apart(
    arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own."""
    command = [sys.executable, "-m", "slm_energy", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a machine's lock that this test alone holds, and the processes that it starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(machine, "LOCK_FOLDERS", (tmp_path,))
    return tmp_path / "slm_energy.lock"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster on PATH, as far as its commands go."""
    return FakeSlurm(tmp_path / "slurm_commands", monkeypatch)
