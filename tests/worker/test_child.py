"""How a worker that left no message ended, and what it leaves; the rest is in test_trial."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from slm_energy import source_code
from slm_energy.config.groups import EngineConfig, RunConfig
from slm_energy.record import TRIAL_FILE
from slm_energy.serialization import write_json
from slm_energy.worker import child, interpreters
from slm_energy.worker.child import exit_error, memory_kills
from tests.conftest import a_cell, a_trial

KILLED = -int(signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "before", "after", "message"),
    [
        (0, 4, 5, None),
        (7, 4, 4, "the worker ended with exit code 7 and no message"),
        (-int(signal.SIGSEGV), 4, 5, "the worker was killed by SIGSEGV"),
        (
            KILLED,
            4,
            5,
            "out of memory: the kernel killed the worker (SIGKILL); it had used up to 6.5 GB; try a"
            " smaller workload.batch_size, engine.dtype or model",
        ),
        (
            KILLED,
            4,
            4,
            "the worker was killed by SIGKILL, not by the kernel: it has killed no process for lack"
            " of memory; it had used up to 6.5 GB",
        ),
        (
            KILLED,
            None,
            None,
            "the worker was killed by SIGKILL: the system may have run out of memory; it had used"
            " up to 6.5 GB",
        ),
    ],
)
def test_the_kernels_count_tells_who_killed_a_worker(
    code: int, before: int | None, after: int | None, message: str | None
) -> None:
    assert exit_error(code, 6_500_000_000, before, after) == message


def test_a_peak_that_is_not_known_is_not_told() -> None:
    assert "used" not in str(exit_error(KILLED, None, 4, 4))


def test_the_count_is_read_from_vmstat(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 3\noom_killer_x 9\n")
    assert memory_kills(tmp_path / "vmstat") == 3
    (tmp_path / "vmstat").write_text("nr_free_pages 12\n")
    assert memory_kills(tmp_path / "vmstat") is None
    assert memory_kills(tmp_path / "none") is None


def ran(script: str, folder: Path, timeout_s: float = 60.0) -> str | None:
    """How a worker ended that is this shell script; its log is in the folder."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    failure = child.run("serve", str(python), folder, folder, timeout_s, lambda phase, share: None)
    return None if failure is None else failure.why


def test_what_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    script = f"sleep 3600 >&2 & echo $! >{tmp_path / 'pid'}; exit 7"
    assert ran(script, tmp_path) == "the worker ended with exit code 7 and no message"
    pid = int((tmp_path / "pid").read_text())
    if psutil.pid_exists(pid):
        _, alive = psutil.wait_procs([psutil.Process(pid)], timeout=30)
        assert not alive


def test_ctrl_c_does_not_reach_a_worker_that_cannot_ignore_it_yet(tmp_path: Path) -> None:
    ended = "the worker ended with exit code 7 and no message"
    assert ran("kill -INT $$; exit 7", tmp_path) == ended


def test_float32_is_not_rounded_to_tf32_in_any_worker(tmp_path: Path) -> None:
    assert ran("echo TF32=$NVIDIA_TF32_OVERRIDE >&2", tmp_path) is None
    assert (tmp_path / child.LOG_FILE).read_text() == "TF32=0\n"


def test_a_worker_whose_parent_has_gone_already_does_nothing(
    tmp_path: Path, config: RunConfig
) -> None:
    """Its death could not end a worker that was still starting."""
    cell = a_cell(config, engine=EngineConfig(name="scripted", options={"export_s": 0.01}))
    cache = tmp_path / "cache"
    write_json(tmp_path / TRIAL_FILE, a_trial(config, cell=cell, cache_path=str(cache)))
    reading, writing = os.pipe()
    os.close(reading)
    command, variables = interpreters.command(None, ["prepare", str(tmp_path)], tmp_path)
    with open(writing, "wb") as unheard:
        done = subprocess.run(command, env=variables, stdout=unheard, check=False)
    assert done.returncode == 1
    assert not cache.exists()


def test_the_time_limit_is_for_a_worker_that_reports_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is a second later at each look: ten steps take longer than five seconds."""
    looks = itertools.count()
    monkeypatch.setattr(child, "time", SimpleNamespace(monotonic=lambda: float(next(looks))))
    report = json.dumps(source_code.report())
    step = """printf '{"phase": "serve", "share": 0.5}\\n'; sleep 0.02"""
    steps = f"echo '{report}'\n" + "\n".join([step] * 10)
    assert ran(steps, tmp_path, timeout_s=5.0) is None
    silent = ran(f"{steps}\nsleep 60", tmp_path, timeout_s=5.0)
    assert silent == "made no progress for study.timeout_s=5 and was ended"
