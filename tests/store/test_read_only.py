"""A store that cannot be written, such as one that was archived: it can be looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slm_energy.testing import CONF
from tests.browsing import fetched, free_port
from tests.conftest import QUICK, Command

SCRIPTED = ["--config-dir", str(CONF), "engine=scripted", *QUICK]


@pytest.fixture
def read_only(
    tmp_path: Path, slm_energy: Command, bubblewrap: None, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Python in a folder with two studies that nobody can write, root included."""
    for study in ("one", "two"):
        done = slm_energy(f"study.name={study}", "study.rounds=2")
        assert done.returncode == 0, done.stderr
    tmp = str(tmp_path_factory.mktemp("tmp"))
    # With processes of its own, so that the server's end with it.
    mounts = ["--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc"]
    mounts += ["--ro-bind", str(tmp_path), str(tmp_path)]
    variables = ["--setenv", "TMPDIR", tmp, "--setenv", "HOME", tmp]
    shell = ["bwrap", *mounts, *variables, "--chdir", str(tmp_path), "--die-with-parent"]
    return [*shell, sys.executable]


ONE_BY_ONE = """
import json, sys
from tests.conftest import in_process
done = [in_process(words) for words in json.loads(sys.argv[1])]
print(json.dumps([(each.returncode, each.stdout + each.stderr) for each in done]))
"""


def ran(python: list[str], *commands: list[str]) -> list[tuple[int, str]]:
    """Exit codes and outputs, all from one process: what they import is imported once."""
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})"
    words = [*python, "-c", here + ONE_BY_ONE, json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [(code, output) for code, output in json.loads(done.stdout)]


def test_it_is_reported_planned_compared_and_browsed_and_a_sweep_is_refused(
    read_only: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path_factory.mktemp("out")
    (reported, shown), (plans, planned), (compares, compared), (sweeps, refused) = ran(
        read_only,
        ["report", "study=one", f"out={out}"],
        ["plan", *SCRIPTED, "study.name=one", "study.rounds=3"],
        ["compare", "one", "two", f"out={out}", "fail_on=regression,missing"],
        [*SCRIPTED, "study.name=one", "study.rounds=3"],
    )
    assert (reported, plans, compares, sweeps) == (0, 0, 0, 2)
    assert "2 of 2 trials valid" in shown
    assert "the store is read-only: this report is not stored there" in shown
    assert (out / "report.html").is_file()
    assert "3 trials: 2 done, 1 to do" in planned
    assert "two" in compared
    assert (out / "junit.xml").is_file()
    [line] = refused.splitlines()
    assert line.startswith("error: cannot use ")
    assert os.path.join(tmp_path, "mlruns") in line
    assert "tracking.folder=PATH" in line

    port = free_port()
    server = subprocess.Popen(
        [*read_only, "-m", "slm_energy", "ui", f"port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert fetched(f"http://127.0.0.1:{port}/health") == "OK"
    finally:
        server.kill()
        server.wait()
    assert sorted(tmp_path.rglob("*")) == before
