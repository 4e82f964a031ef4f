"""`slm-energy score`: exit codes and lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slm_energy.config.groups import TrackingConfig
from slm_energy.machine import measuring
from slm_energy.store.tracking import Store
from tests.conftest import Command

pytestmark = pytest.mark.usefixtures("bubblewrap")

TEST = "def check(candidate):\n    assert candidate(1) == 2\n"
SCORE = ("score", "study=scored", "cache.folder=cache")


@pytest.fixture
def workload(slm_energy: Command, tmp_path: Path) -> Path:
    """That of a study of one trial, whose answers were not tested."""
    rows = [
        {"task_id": name, "prompt": f"def {name}(x):\n", "entry_point": name, "test": TEST}
        for name in ("f", "g")
    ]
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    words = ("study.name=scored", "study.rounds=1", f"workload.source={file}")
    result = slm_energy(*words)
    assert result.returncode == 0, result.stderr
    return file


def test_a_stored_study_is_scored_once(slm_energy: Command, workload: Path, tmp_path: Path) -> None:
    result = slm_energy(*SCORE, quick=False)
    assert result.returncode == 0, result.stderr
    assert "0 of 2 answers pass (0.0 %)" in result.stdout
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    assert store.frame("scored")["quality/pass_at_1"].tolist() == [0.0]
    again = slm_energy(*SCORE, quick=False)
    assert again.returncode == 0
    assert "1 trials had scores already, or have no tests" in again.stdout

    workload.write_text(workload.read_text().replace("def check", "import pandas\\ndef check", 1))
    store.add(store.frame("scored")["run_id"][0], {}, {}, {"slm.scored": "1"})
    refused = slm_energy(*SCORE, quick=False)
    assert refused.returncode == 0
    assert "0 of 1 answers pass" in refused.stdout
    assert "not scored task f: needs module pandas, which the sandbox lacks" in refused.stdout

    workload.write_text(workload.read_text().replace("(x)", "(y)"))
    store.add(store.frame("scored")["run_id"][0], {}, {}, {"slm.scored": "1"})
    changed = slm_energy(*SCORE, quick=False)
    assert changed.returncode == 1
    assert "not scored run" in changed.stdout
    assert "has changed since" in changed.stdout


def test_wrong_input_is_one_line(slm_energy: Command, workload: Path, tmp_path: Path) -> None:
    for words, line in (
        (("score", "study=other"), "study='other' is not in"),
        ((*SCORE, "sandbox=off"), "sandbox='off'"),
    ):
        result = slm_energy(*words, quick=False)
        assert result.returncode == 2
        assert line in result.stderr
        assert result.stderr.strip().count("\n") == 0


def test_answers_are_not_tested_while_a_sweep_measures_on_this_machine(
    slm_energy: Command, workload: Path, tmp_path: Path
) -> None:
    def never(path: Path) -> None:
        raise AssertionError("nothing else measures")

    with measuring(never):
        command = [sys.executable, "-m", "slm_energy", *SCORE]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout is not None
            assert "a sweep is measuring on this machine" in waiting.stdout.readline()
            time.sleep(0.1)
            assert waiting.poll() is None
            assert not (tmp_path / "cache" / "scores").exists()
            waiting.kill()
