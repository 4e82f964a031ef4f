"""Real processes: a user, the supervisor below it, a server below that, and what that starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from slm_energy.engines.openai import supervise

SERVER = """
import pathlib, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], {session})
pathlib.Path({file!r}).write_text(f"{{helper.pid}}")
time.sleep({seconds})
"""


def command(file: Path, seconds: int = 3600, session: str = "start_new_session=False") -> list[str]:
    source = SERVER.format(file=str(file), seconds=seconds, session=session)
    return [sys.executable, "-c", source]


def supervised(words: list[str], user_pid: int | None = None) -> subprocess.Popen:
    user = os.getpid() if user_pid is None else user_pid
    return subprocess.Popen([sys.executable, "-IS", supervise.__file__, str(user), *words])


def helper_of(file: Path) -> psutil.Process:
    """The process that the server started; waits for the server to have done it."""
    while not (file.exists() and file.read_text()):
        pass
    return psutil.Process(int(file.read_text()))


def test_its_exit_code_is_the_servers():
    assert supervised([sys.executable, "-c", "raise SystemExit(3)"]).wait() == 3


def test_a_server_that_is_killed_by_a_signal_gives_128_and_its_number():
    source = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    assert supervised([sys.executable, "-c", source]).wait() == 128 + signal.SIGABRT


def test_a_command_that_cannot_be_started_is_reported(capfd):
    assert supervised(["/no/such/server"]).wait() == 127
    assert "/no/such/server cannot be started" in capfd.readouterr().err


@pytest.mark.parametrize("session", ["start_new_session=False", "start_new_session=True"])
def test_on_sigterm_it_ends_all_descendants(tmp_path, session):
    process = supervised(command(tmp_path / "pid", session=session))
    helper = helper_of(tmp_path / "pid")
    process.terminate()
    process.wait()
    assert not helper.is_running()


def test_when_the_server_ends_what_it_had_started_ends_too(tmp_path):
    process = supervised(command(tmp_path / "pid", seconds=0))
    assert process.wait() == 0
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_when_its_user_is_killed_all_ends(tmp_path):
    words = [sys.executable, "-IS", supervise.__file__]
    start = (
        "import os, subprocess, time\n"
        f"subprocess.Popen([*{words!r}, str(os.getpid()), *{command(tmp_path / 'pid')!r}])\n"
        "time.sleep(3600)"
    )
    user = subprocess.Popen([sys.executable, "-c", start])
    helper = helper_of(tmp_path / "pid")
    supervisor = psutil.Process(user.pid).children()[0]
    user.kill()
    user.wait()
    gone, alive = psutil.wait_procs([supervisor, helper], timeout=30)
    assert not alive
    assert len(gone) == 2


def test_it_does_nothing_for_a_user_who_has_gone(tmp_path):
    assert supervised(command(tmp_path / "pid"), user_pid=1).wait() == 0
    assert not (tmp_path / "pid").exists()
