"""Faults in the processes of a trial: worker, export and sampler."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import Command, ready_store
from tests.faults.conftest import (
    SLOW,
    a_trial_runs,
    again,
    assert_sound,
    children,
    meanwhile,
    trials,
    until,
)
from tests.forked import Sweep

WORKER_FAULTS = {
    "load": ("failed", "the script says that loading fails"),
    "generate": ("failed", "the script says that generation fails"),
    "nan_logits": ("failed", "NaN logits at token 0"),
    "drift": ("invalid", "same_outputs"),
    "mute": ("failed", "the engine gave 0 answers to 1 requests"),
    "unstamped": ("invalid", "tokens but 0 time stamps"),
    "garbage": ("failed", "failed in serve: TypeError: a token id or time is not an integer"),
    "memory": ("failed", "out of memory"),
    "kill": ("failed", "the worker was killed by SIGKILL, not by the kernel"),
    "exit": ("failed", "the worker ended without a result"),
    "hang": ("failed", "made no progress for study.timeout_s=6 and was ended"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A study in which each of the faults strikes one cell, once."""
    folder = tmp_path_factory.mktemp("faulty")
    ready_store(folder / "mlruns", empty_store)
    once = f"engine.options.fail_once={folder}/${{engine.options.fail}}"
    faults = f"engine.options.fail={','.join(WORKER_FAULTS)}"
    study = Sweep(folder, "-m", faults, once, "measurement.warmup_requests=0", "study.timeout_s=6")
    code, output = study.ended()
    assert code == 0, output
    assert output.count("will be retried at the end of the round") == len(WORKER_FAULTS)
    assert_sound(folder, cells=len(WORKER_FAULTS), rounds=1)
    return folder


@pytest.mark.parametrize("fault", WORKER_FAULTS)
def test_a_fault_of_the_worker_is_on_record_and_the_trial_is_tried_again(
    faulty: Path, fault: str
) -> None:
    outcome, reason = WORKER_FAULTS[fault]
    frame = trials(faulty)
    first, second = frame[frame["engine.options.fail"] == fault].to_dict("records")
    assert (first["outcome"], first["attempt"]) == (outcome, 1)
    assert reason in first["reason"]
    assert (second["outcome"], second["attempt"]) == ("valid", 2)


@pytest.mark.parametrize("fault", ["export", "export_kill"])
def test_an_export_that_fails_is_made_again(
    tmp_path: Path, slm_energy: Command, fault: str
) -> None:
    words = (f"engine.options.fail={fault}", f"engine.options.fail_once={tmp_path / 'once'}")
    again(slm_energy, *words, "engine.options.export_s=0.0", f"cache.folder={tmp_path / 'cache'}")
    first, second = trials(tmp_path).to_dict("records")
    assert (first["outcome"], second["outcome"]) == ("failed", "valid")
    assert first["reason"].startswith("prepare (before the trial) failed")
    assert ("SIGKILL" in first["reason"]) == (fault == "export_kill")
    assert_sound(tmp_path, cells=1, rounds=1)


def test_a_worker_that_is_killed_from_outside(tmp_path: Path, slm_energy: Command) -> None:
    def kill() -> None:
        until(lambda: a_trial_runs(tmp_path) and children("worker"))
        children("worker")[-1].kill()

    with meanwhile(kill):
        again(slm_energy, SLOW)
    first, second = trials(tmp_path).to_dict("records")
    assert (first["outcome"], second["outcome"]) == ("failed", "valid")
    assert "killed by SIGKILL, not by the kernel" in first["reason"]
    assert_sound(tmp_path, cells=1, rounds=1)


def test_a_sampler_that_is_killed(tmp_path: Path, slm_energy: Command) -> None:
    def kill() -> None:
        samples = tmp_path / "mlruns" / "pending"
        # One that is killed while it starts is started again.
        until(lambda: children("worker") and any(samples.glob("*/*/exchange/samples.jsonl")))
        for each in children("sampler.service"):
            each.kill()

    root = tmp_path / "powercap"
    root.mkdir()
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    words = ("measurement=strict", f"measurement.powercap_root={root}", SLOW)
    with PowercapTree(root, [zone]), meanwhile(kill):
        again(slm_energy, *words)
    first, second = trials(tmp_path).to_dict("records")
    assert first["outcome"] in ("failed", "invalid")
    assert "sampl" in first["reason"]
    assert "energy/total_j" not in first or pd.isna(first["energy/total_j"])
    assert second["outcome"] == "valid"
    assert second["energy/total_j"] > 0
    assert_sound(tmp_path, cells=1, rounds=1)
