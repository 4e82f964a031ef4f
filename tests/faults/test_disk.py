"""Faults of what a sweep writes to on this machine: a full disk, a locked database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Command
from tests.faults.conftest import (
    a_trial_runs,
    again,
    assert_sound,
    meanwhile,
    trials,
    until,
)
from tests.forked import Sweep

SWEEPS = f"""
import contextlib, os, shutil, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from slm_energy.testing import CONF
from tests.conftest import QUICK, in_process

small = Path("small").absolute()
words = ["--config-dir", str(CONF), "engine=scripted", *QUICK, f"tracking.folder={{small}}/mlruns"]

def sweep(*more):
    done = in_process([*words, *more])
    print(done.stdout, "exit", done.returncode)
    print(done.stderr, file=sys.stderr)
"""
"""What runs on the small disk begins with this: what it imports is imported once."""


def on_a_small_disk(
    folder: Path, empty_store: Path, code: str, beside: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python, and a shell's command beside it, where `small` is a disk of 4 MB with a store."""
    (folder / "small").mkdir()
    script = f"""
        mount -t tmpfs -o size=4m tmpfs small
        mkdir small/mlruns && cp {empty_store} small/mlruns
        {beside}
        exec "$0" -c "$1"
    """
    # A mount of its own needs root, or a user namespace in which to be root.
    become_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *become_root, "--mount", "sh", "-c", script, sys.executable]
    return subprocess.run(
        [*command, SWEEPS + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_full_disk(tmp_path: Path, empty_store: Path) -> None:
    """It is one clear line; what was done is kept."""
    code = """
sweep()
with open(small / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
    while True:
        filler.write(bytes(1024))
sweep("study.rounds=2")
(small / "filler").unlink()
sweep("study.rounds=2")
shutil.copytree(small / "mlruns", "moved")
"""
    done = on_a_small_disk(tmp_path, empty_store, code)
    first, second, third = done.stdout.split(" exit ")[1:]
    assert (first[0], second[0], third[0]) == ("0", "2", "0"), done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "tracking.folder" in line
    assert "Traceback" not in done.stderr
    assert "2 of 2 trials valid" in done.stdout
    # Where it was: the mount has gone with its processes.
    (tmp_path / "moved").rename(tmp_path / "small" / "mlruns")
    assert_sound(tmp_path / "small", cells=1, rounds=2)


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
    fill = """
        (until ls small/mlruns/pending/*/*/exchange/tasks.json 2>/dev/null; do sleep 0.01; done
        dd if=/dev/zero of=small/filler bs=1k status=none) >/dev/null 2>&1 &
        mkdir tmp && export TMPDIR=$PWD/tmp
    """
    code = """
sweep("measurement.serve_s=1")
print(*os.listdir("tmp"))
(small / "filler").unlink()
sweep("measurement.serve_s=1")
print(*os.listdir("tmp"), "end")
"""
    done = on_a_small_disk(tmp_path, empty_store, code, beside=fill)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "No space left on device; free space, or set tracking.folder=PATH" in line
    assert f"is kept in {tmp_path}/tmp/slm-energy-kept-" in line
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
    code, output = Sweep(tmp_path, "measurement.serve_s=1").ended()
    assert code == 0, output
    assert "nothing to do" in output
