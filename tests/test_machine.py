from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy.machine import machine_id, measuring

HOLDER = """
import os, sys, time
from slm_energy.machine import measuring
os.sched_setaffinity(0, map(int, sys.argv[2].split(",")))
share = sys.argv[3] == "share"
with measuring(lambda path: print("busy", flush=True), share=share):
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


PROCESSORS = sorted(os.sched_getaffinity(0))


def holder(
    seconds: float, processors: list[int] = PROCESSORS, *, share: bool = False
) -> subprocess.Popen[str]:
    """Another process that measures; it does so when this returns."""
    command = [sys.executable, "-c", HOLDER, str(seconds)]
    command += [",".join(map(str, processors)), "share" if share else "alone"]
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


@pytest.fixture
def first_processor() -> Iterator[None]:
    """This process may use the first processor only."""
    os.sched_setaffinity(0, PROCESSORS[:1])
    yield
    os.sched_setaffinity(0, PROCESSORS)


@pytest.mark.usefixtures("first_processor")
def test_those_that_share_run_beside_each_other_on_other_processors() -> None:
    other = holder(60, PROCESSORS[1:], share=True)
    with measuring(refuse, share=True):
        pass
    other.kill()
    other.communicate()


@pytest.mark.usefixtures("first_processor")
@pytest.mark.parametrize(
    ("processors", "shares", "share"),
    [
        (PROCESSORS, True, True),  # one processor is the same
        (PROCESSORS[1:], True, False),
        (PROCESSORS[1:], False, True),
    ],
)
def test_an_overlap_is_not_shared_nor_is_a_measurement(
    processors: list[int], shares: bool, share: bool
) -> None:
    other = holder(60, processors, share=shares)
    with pytest.raises(Refused), measuring(refuse, share=share):
        pytest.fail("it must not measure")
    other.kill()
    other.communicate()


def test_the_processors_that_may_be_used_are_told() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from slm_energy.machine import *; print(allowed_processors())"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, PROCESSORS[-1:]),
    )
    assert told.stdout == f"{PROCESSORS[-1]}\n"


def test_the_machine_has_one_name() -> None:
    assert machine_id() == machine_id()
