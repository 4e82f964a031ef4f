"""Output that cannot be written: the work goes on, and the exit code says what is missing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ready_store
from tests.faults.conftest import (
    SLOW,
    a_trial_runs,
    assert_sound,
    trials,
    until,
)
from tests.forked import Sweep

PROGRAM = f"{sys.executable} -m slm_energy"
METRICS = f"{PROGRAM} metrics"


@pytest.mark.parametrize("terminal", [False, True], ids=["the pipe's reader", "the terminal"])
def test_a_sweep_goes_on_when_what_shows_it_is_gone(
    terminal: bool, tmp_path: Path, empty_store: Path
) -> None:
    ready_store(tmp_path / "mlruns", empty_store)
    reading, writing = pty.openpty() if terminal else os.pipe()
    study = Sweep(tmp_path, SLOW, output=writing)
    os.close(writing)
    until(lambda: a_trial_runs(tmp_path))
    os.close(reading)
    assert study.ended(timeout=120) == (4, "")
    assert trials(tmp_path)["outcome"].tolist() == ["valid"]
    assert_sound(tmp_path, cells=1, rounds=1)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{METRICS} >/dev/full", 4),
        (f"{PROGRAM} --help >/dev/full", 4),
        (f"{PROGRAM} sync --help >&-", 4),
        (f"{METRICS} >&-", 4),
        (f"{METRICS} | head -1 >/dev/null", 4),
        (f"{METRICS} nothing-of-this-name >&- 2>&-", 2),
        (f"{METRICS} <&- >/dev/null", 0),
    ],
    ids=[
        "disk full",
        "help: disk full",
        "help: closed",
        "closed",
        "reader gone",
        "errors too",
        "input closed",
    ],
)
def test_the_exit_code_says_that_output_is_lost(command: str, code: int) -> None:
    script = f"set -o pipefail; {command}; echo $? >&3"
    reading, writing = os.pipe()
    # The shell's descriptor 3 is the pipe: the command may close the others.
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&{writing}; {script}"],
        pass_fds=[writing],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading) as codes:
        assert codes.read() == f"{code}\n"
    assert done.stderr == ""


def test_no_file_gets_the_number_of_a_closed_standard_descriptor(tmp_path: Path) -> None:
    script = (
        "from slm_energy.cli.console import occupy_standard_descriptors\n"
        "occupy_standard_descriptors()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "assert file.fileno() > 2\n"
        "import os\n"
        "os.write(1, b'printed by a library')\n"
    )
    closed = 'exec "$0" -c "$1" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", closed, sys.executable, script], check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""
