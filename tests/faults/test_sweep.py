"""Faults of the sweep itself: killed, interrupted; `benchmarks/random_kills.py` does 200."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slm_energy.testing import CONF
from tests.conftest import QUICK, Command, ready_store
from tests.faults.conftest import (
    SLOW,
    a_trial_runs,
    again,
    assert_sound,
    sweeps,
    trials,
    until,
)
from tests.forked import Sweep


def test_a_sweep_that_is_killed(tmp_path: Path, slm_energy: Command, empty_store: Path) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    study = Sweep(tmp_path, "study.rounds=2", SLOW)
    until(lambda: a_trial_runs(tmp_path))
    study.kill()
    study.ended()
    again(slm_energy, "study.rounds=2", SLOW)
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]
    assert_sound(tmp_path, cells=1, rounds=2)


@pytest.mark.parametrize(
    ("signals", "outcome", "reason"),
    [
        ([signal.SIGINT], "valid", ""),
        ([signal.SIGINT, signal.SIGINT], "failed", "interrupted"),
        ([signal.SIGTERM], "failed", "interrupted"),
        ([signal.SIGHUP, signal.SIGHUP], "failed", "interrupted"),
    ],
    ids=["ctrl_c_once", "ctrl_c_twice", "sigterm", "sighup_of_kernel_and_shell"],
)
def test_an_interrupt(
    tmp_path: Path,
    slm_energy: Command,
    empty_store: Path,
    signals: list[signal.Signals],
    outcome: str,
    reason: str,
) -> None:
    """Once: the running trial comes to its end. Otherwise it is on record as stopped."""
    ready_store(tmp_path / "mlruns", empty_store)
    study = Sweep(tmp_path, "study.rounds=2", "study.attempts=1", SLOW)
    until(lambda: a_trial_runs(tmp_path))
    for number in signals:
        with contextlib.suppress(ProcessLookupError):  # the first one has ended it
            os.killpg(study.pid, number)  # as a terminal does
        time.sleep(0.2)
    code, output = study.ended(timeout=60)
    assert code == 130, output
    assert "Ctrl-C again stops it now" in output or signals != [signal.SIGINT]
    assert "run the same command again" in output
    assert "worker.log" not in output  # nothing was written to it
    assert sweeps(tmp_path) == ["KILLED"]
    [stopped] = trials(tmp_path).to_dict("records")
    assert (stopped["outcome"], stopped["reason"]) == (outcome, reason)
    again(slm_energy, "study.rounds=2", "study.attempts=1", SLOW)
    assert_sound(tmp_path, cells=1, rounds=2)


def test_under_nohup_a_sweep_survives_its_terminal(
    tmp_path: Path, slm_energy: Command, empty_store: Path
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    command = ["nohup", sys.executable, "-m", "slm_energy", "--config-dir", str(CONF)]
    study = subprocess.Popen(
        [*command, "engine=scripted", *QUICK, SLOW],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: a_trial_runs(tmp_path))
    os.killpg(study.pid, signal.SIGHUP)
    output, _ = study.communicate(timeout=60)
    assert study.returncode == 0, output
    assert trials(tmp_path)["outcome"].tolist() == ["valid"]
