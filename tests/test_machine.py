from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slm_energy.machine import machine_id, measuring

HOLDER = """
import sys, time
from slm_energy.machine import measuring
with measuring(lambda path: print("busy", flush=True)):
    print("measuring", flush=True)
    time.sleep(float(sys.argv[1]))
"""


class Refused(Exception):
    pass


def refuse(path: Path) -> None:
    raise Refused(path)


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "slm_energy.lock"


def holder(seconds: float) -> subprocess.Popen[str]:
    """Another process that measures; it does so when this returns."""
    command = [sys.executable, "-c", HOLDER, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    return process


def test_a_second_measurement_is_told_and_may_refuse(own_lock: Path) -> None:
    other = holder(60)
    with pytest.raises(Refused, match=str(own_lock)), measuring(refuse):
        pytest.fail("it must not measure")
    other.kill()
    other.communicate()


def test_a_second_measurement_waits_for_the_first(own_lock: Path) -> None:
    other = holder(0.3)
    told: list[Path] = []
    with measuring(told.append):
        assert other.wait(timeout=10) == 0
    assert told == [own_lock]
    other.communicate()


def test_a_killed_measurement_holds_nothing() -> None:
    other = holder(60)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    with measuring(refuse):
        pass


def test_a_lock_file_that_another_user_made_can_be_held(own_lock: Path) -> None:
    own_lock.touch(mode=0o444)
    with measuring(refuse):
        pass


def test_the_machine_has_one_name() -> None:
    assert machine_id() == machine_id()
