"""The commands of README's "Use" are understood word for word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from slm_energy.cli.main import VERBS
from tests.conftest import Command

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """What follows `python -m slm_energy` in the section."""
    section = README.read_text(encoding="utf-8").split("\n## Use\n")[1].split("\n## ")[0]
    return re.findall(r"^    python -m slm_energy *(.*?) *(?:#.*)?$", section, re.MULTILINE)


def test_the_section_has_a_command_for_each_verb_that_a_study_needs() -> None:
    verbs = {words.split()[0] for words in commands() if words} & {*VERBS}
    assert {"doctor", "plan", "report", "compare", "ui"} <= verbs


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_is_understood(
    tmp_path: Path, slm_energy: Command, command: str
) -> None:
    words = shlex.split(command)
    (tmp_path / "sweeps").mkdir()  # the README's folder is the repository
    verb = words.pop(0) if words and words[0] in VERBS else "run"
    if verb in ("run", "plan"):
        done = slm_energy("plan", *words, quick=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"^\d+ trials: 0 done, ", done.stdout, re.MULTILINE)
        return
    # What these verbs lack here is a store or a file, and they say so: every word was accepted.
    missing = {
        "report": r"no store in mlruns|FILE\.csv",
        "recommend": "no store in mlruns",
        "compare": "there is no store in mlruns",
    }
    if verb in missing:
        done = slm_energy(verb, *words, quick=False)
        assert done.returncode == 2
        assert re.search(missing[verb], done.stderr), done.stderr
    else:
        assert slm_energy(verb, *words, "--help", quick=False).returncode == 0


def test_runs_of_the_readme_run_on_a_scripted_engine(slm_energy: Command) -> None:
    grid = slm_energy("-m", "engine.decode=session,generate", "study.rounds=2")
    assert grid.returncode == 0, grid.stderr
    again = slm_energy("-m", "engine.decode=session,generate", "study.rounds=2")
    assert "nothing to do" in again.stdout
    assert slm_energy("report", "study=default", "out=report", quick=False).returncode == 0
    assert Path("report", "report.html").is_file()
