"""Trials forked from a template: the same results as spawned ones, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from slm_energy.cell import Trial
from slm_energy.config.groups import EngineConfig, MeasurementConfig, RunConfig, WorkloadConfig
from slm_energy.record import Capture, Record
from slm_energy.running import trial
from slm_energy.worker.forkserver import Templates
from tests.conftest import Command, a_cell, a_trial

SHORT = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=1, serve_s=0)
FORKED = dataclasses.replace(SHORT, isolation="forkserver")
FEW = WorkloadConfig(name="bundled", source="bundled", limit=2, new_tokens=4)


def entry(config: RunConfig, measurement: MeasurementConfig = FORKED, **engine: Any) -> Trial:
    levels = EngineConfig(**{"name": "scripted"} | engine)
    cell = a_cell(config, engine=levels, measurement=measurement, workload=FEW)
    return a_trial(config, cell=cell)


class Runner:
    """Runs trials one after the other, each in a folder of its own."""

    def __init__(self, folder: Path, templates: Templates) -> None:
        self.folder = folder
        self._templates = templates
        self._count = 0

    def __call__(self, asked: Trial) -> Record:
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        return trial.run(asked, folder, None, lambda phase, share: None, None, self._templates)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runner]:
    with Templates() as templates:
        yield Runner(tmp_path, templates)
    assert workers() == []


def workers() -> list[psutil.Process]:
    """Templates and workers below this test, however deep."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "slm_energy.worker" in each.cmdline():
                found.append(each)
    return found


def served(record: Record) -> Capture:
    assert record.outcome.name == "valid", record.outcome
    assert record.capture is not None
    return record.capture


def test_a_forked_trial_is_a_spawned_one_but_for_how_it_began(
    run: Runner, config: RunConfig
) -> None:
    spawned, forked = (served(run(entry(config, each))) for each in (SHORT, FORKED))
    assert forked.effective == spawned.effective
    assert tokens(forked) == tokens(spawned)
    assert [window.name for window in forked.windows] == [w.name for w in spawned.windows]
    assert spawned.environment == forked.environment | {"isolation": "spawn"}
    assert forked.environment["isolation"] == "forkserver"


def tokens(capture: Capture) -> list[tuple[int, ...]]:
    return [generation.output_ids for generation in capture.generations]


def test_one_template_serves_all_trials_of_an_engine(run: Runner, config: RunConfig) -> None:
    for _ in range(2):
        served(run(entry(config)))
        [template] = workers()
        first = template.pid
    assert workers() == [psutil.Process(first)]


def test_a_template_that_was_killed_is_replaced(run: Runner, config: RunConfig) -> None:
    served(run(entry(config)))
    [template] = workers()
    template.kill()
    while template.status() != psutil.STATUS_ZOMBIE:  # a signal takes its time to arrive
        time.sleep(0.01)
    served(run(entry(config)))
    assert template not in workers()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("load", "the script says that loading fails"),
        ("kill", "the worker was killed by SIGKILL, not by the kernel"),
        ("exit", "the worker ended without a result"),
        ("hang", "made no progress for study.timeout_s=1 and was ended"),
    ],
)
def test_a_forked_worker_that_fails_is_told_of_and_does_no_harm(
    run: Runner, config: RunConfig, fail: str, message: str
) -> None:
    served(run(entry(config)))
    [template] = workers()
    faulty = dataclasses.replace(entry(config, options={"fail": fail}), timeout_s=1.0)
    assert message in run(faulty).outcome.reasons[0]
    assert workers() == [template]
    served(run(entry(config)))


def test_the_peak_of_a_killed_worker_is_its_own(run: Runner, config: RunConfig) -> None:
    [reason] = run(entry(config, options={"fail": "kill"})).outcome.reasons
    assert "it had used up to 0.0 GB" in reason or "it had used up to 0.1 GB" in reason


@pytest.mark.parametrize(
    ("import_time", "found"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(3600,), daemon=True)"
         ".start()", "it has 2 threads"),
        ("import socket; kept = socket.socket()", "it has socket:["),
    ],
)  # fmt: skip
def test_a_library_that_does_more_than_be_imported_is_not_forked(
    run: Runner,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    import_time: str,
    found: str,
) -> None:
    (run.folder / "sitecustomize.py").write_text(import_time)
    monkeypatch.setenv("PYTHONPATH", str(run.folder))
    [reason] = run(entry(config)).outcome.reasons
    assert reason.startswith("measurement.isolation=forkserver: engine scripted cannot be forked: ")
    assert found in reason
    assert reason.endswith("set measurement.isolation=spawn")


def test_a_template_that_cannot_import_says_why(
    run: Runner, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.folder / "tokenizers.py").write_text("raise ImportError('this is not the library')")
    monkeypatch.setenv("PYTHONPATH", str(run.folder))
    [reason] = run(entry(config)).outcome.reasons
    what = "engine scripted failed in import: ImportError: this is not the library"
    assert reason == f"measurement.isolation=forkserver: {what}"


def test_template_and_worker_die_with_the_sweep(tmp_path: Path, config: RunConfig) -> None:
    sweep = os.fork()
    if sweep == 0:
        trial.run(entry(config, options={"fail": "hang"}), tmp_path, None, lambda *_: None)
        os._exit(0)
    while len(found := workers()) < 2:
        time.sleep(0.1)
    time.sleep(0.5)
    os.kill(sweep, signal.SIGKILL)
    os.waitpid(sweep, 0)
    _, alive = psutil.wait_procs(found, timeout=10)
    assert not alive


def test_a_worker_dies_with_its_template(tmp_path: Path, config: RunConfig) -> None:
    def end_template(phase: str, share: float) -> None:
        for each in workers():
            if phase == "warmup" and each.ppid() == os.getpid():
                each.kill()

    hanging = entry(config, options={"fail": "hang"})
    record = trial.run(hanging, tmp_path, None, end_template)
    assert "the worker was killed by SIGKILL" in record.outcome.reasons[0]
    assert workers() == []


def test_isolation_tells_cells_apart(slm_energy: Command) -> None:
    planned = slm_energy("plan", "-m", "measurement.isolation=spawn,forkserver").stdout
    assert "isolation=spawn" in planned
    assert "isolation=forkserver" in planned


def test_a_worker_that_is_killed_before_it_begins_costs_no_time_limit(
    run: Runner, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fork of a template tries out its imports, the second one is a worker."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "forks = []\n"
        "os.register_at_fork(\n"
        "    after_in_parent=lambda: forks.append(1),\n"
        "    after_in_child=lambda: forks and os.kill(os.getpid(), 9),\n"
        ")\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    record = run(entry(config))
    assert record.outcome.name == "failed"
    assert "SIGKILL" in record.outcome.reasons[0]
