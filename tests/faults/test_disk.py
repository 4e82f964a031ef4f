"""Faults of what a sweep writes to on this machine: a full disk, a locked database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slm_energy.testing import CONF
from tests.conftest import QUICK, Command
from tests.faults.conftest import (
    a_trial_runs,
    again,
    assert_sound,
    meanwhile,
    trials,
    until,
)


def test_a_full_disk(tmp_path: Path, empty_store: Path) -> None:
    """It is one clear line; what was done is kept."""
    small, moved = tmp_path / "small", tmp_path / "moved"
    small.mkdir()
    module = f"{sys.executable} -m slm_energy --config-dir {CONF} engine=scripted {' '.join(QUICK)}"
    script = f"""
        mount -t tmpfs -o size=4m tmpfs {small}
        mkdir {small}/mlruns && cp {empty_store} {small}/mlruns
        {module} tracking.folder={small}/mlruns || exit 9
        dd if=/dev/zero of={small}/filler bs=1k status=none
        {module} tracking.folder={small}/mlruns study.rounds=2; echo "exit $?"
        rm {small}/filler
        {module} tracking.folder={small}/mlruns study.rounds=2; echo "exit $?"
        cp -r {small}/mlruns {moved}
    """
    # A mount of its own needs root, or a user namespace in which to be root.
    become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *become_root, "--mount", "sh", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "exit 2" in done.stdout, done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "tracking.folder" in line
    assert "Traceback" not in done.stderr
    assert "exit 0" in done.stdout.splitlines()[-1]
    assert "2 of 2 trials valid" in done.stdout
    moved.rename(small / "mlruns")  # where it was: the mount has gone with its processes
    assert_sound(small, cells=1, rounds=2)


def test_a_database_that_another_process_has_locked(tmp_path: Path, slm_energy: Command) -> None:
    hold = (
        "import sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "database.execute('BEGIN EXCLUSIVE')\n"
        "time.sleep(3)\n"
        "database.execute('COMMIT')\n"
    )

    def lock() -> None:
        until(lambda: a_trial_runs(tmp_path))
        command = [sys.executable, "-c", hold, str(tmp_path / "mlruns" / "mlflow.db")]
        subprocess.run(command, check=True)

    with meanwhile(lock):
        again(slm_energy, "study.rounds=2")
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]
    assert_sound(tmp_path, cells=1, rounds=2)


def test_what_cannot_be_kept_in_its_folder_is_kept_and_stored_by_the_same_command(
    tmp_path: Path, empty_store: Path
) -> None:
    """The disk fills while a trial serves."""
    small, tmp = tmp_path / "small", tmp_path / "tmp"
    small.mkdir()
    tmp.mkdir()
    module = f"{sys.executable} -m slm_energy --config-dir {CONF} engine=scripted {' '.join(QUICK)}"
    sweep = f"TMPDIR={tmp} {module} tracking.folder={small}/mlruns measurement.serve_s=1"
    script = f"""
        mount -t tmpfs -o size=4m tmpfs {small}
        mkdir {small}/mlruns && cp {empty_store} {small}/mlruns
        (until ls {small}/mlruns/pending/*/*/exchange/tasks.json 2>/dev/null; do sleep 0.01; done
        dd if=/dev/zero of={small}/filler bs=1k status=none) >/dev/null 2>&1 &
        {sweep}; echo "exit $?"
        wait
        ls {tmp}
        rm {small}/filler
        {sweep}; echo "exit $?"
        ls -A {tmp}; echo end
    """
    become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *become_root, "--mount", "sh", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "No space left on device; free space, or set tracking.folder=PATH" in line
    assert f"is kept in {tmp}/slm-energy-kept-" in line
    _, second = done.stdout.split("exit 2\n")
    assert "slm-energy-kept-" in second
    assert "1 of 1 trials valid" in second
    after = second.partition("exit 0\n")[2]
    assert after.endswith("end\n")
    assert "kept" not in after


def test_a_store_that_is_lost_in_the_middle_costs_no_record(
    tmp_path: Path, slm_energy: Command
) -> None:
    """All is measured and not all is sent: exit code 3, and the next command sends it."""

    def remove() -> None:
        until(lambda: a_trial_runs(tmp_path))
        (tmp_path / "mlruns" / "mlflow.db").unlink()

    with meanwhile(remove):
        done = slm_energy("measurement.serve_s=1")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "not sent, kept in" in done.stdout
    assert "tracking.folder" in done.stdout
    # In another process: this one keeps the connection to the file that is gone.
    done = slm_energy("measurement.serve_s=1", env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout
