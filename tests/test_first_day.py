"""The first day of three users: the commands that they type, and the words that they must see.

The scripted engine stands for theirs, and its trials are short.
"""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.conftest import QUICK, Command

GRID = ("-m", "engine.decode=session,generate")


@pytest.fixture
def said(slm_energy: Command, monkeypatch: pytest.MonkeyPatch):
    """What a command says, line breaks aside."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*words: str, code: int = 0, quick: bool = True) -> str:
        done = slm_energy(*words, quick=quick)
        assert done.returncode == code, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return run


def test_one_who_replicates_the_paper_and_publishes(said, tmp_path: Path) -> None:
    paper = ("--config-name", "paper", "model=codegemma-2b,tiny_starcoder_py")
    planned = said("plan", *paper, quick=False)
    assert "codegemma-2b" in planned
    assert "slm-energy fetch" in planned
    assert "no cell of this grid can run here" in planned
    assert "tiny_starcoder_py" in said("fetch", *paper, quick=False, code=1)

    planned = said("plan", *GRID, "study.rounds=2", "study.name=mine")
    assert "4 trials: 0 done, 4 to do" in planned
    ran = said(*GRID, "study.rounds=2", "study.name=mine")
    assert "2 cells, 2 rounds, 4 of 4 trials valid" in ran
    assert "report.html" in ran
    assert "nothing to do" in said(*GRID, "study.rounds=2", "study.name=mine")
    assert "mine" in said("report", code=2, quick=False)
    said("report", "study=mine", "out=paper", quick=False)
    made = {path.name for path in (tmp_path / "paper").rglob("*")}
    assert {"report.html", "comparisons.json"} <= made
    assert {Path(name).suffix for name in made} >= {".png", ".pdf", ".tex", ".parquet"}


def test_one_who_picks_an_engine(said, tmp_path: Path) -> None:
    assert "energy" in said("doctor", quick=False)
    zones = (Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),)
    root = tmp_path / "powercap"
    root.mkdir()
    words = ("engine=scripted", *QUICK[1:], "study.rounds=2", "study.name=pick")
    sensor = ("measurement=strict", f"measurement.powercap_root={root}")
    with PowercapTree(root, zones):
        ran = said("--config-dir", str(CONF), *GRID, *words, *sensor, quick=False)
    assert "Cheapest configuration" in ran
    assert "recommended" in said("recommend", "study=pick", quick=False)
    table = tmp_path / "old.csv"
    table.write_text("LLM;Runtime;Energy (Wh)\n" + "m;torch;1,5\nm;onnx;0,75\n" * 6)
    words = ("report", f"data={table}")
    assert "columns=guess" in said(*words, code=2, quick=False)
    words = (*words, "columns=guess")
    assert "add columns.decimal=comma (1,5 is 1.5)" in said(*words, code=2, quick=False)
    assert "Columns guessed" in said(*words, "columns.decimal=comma", quick=False)


def test_one_whose_build_fails_where_energy_got_worse(said, tmp_path: Path) -> None:
    for name, token_s in (("main", 0.0005), ("branch", 0.005)):
        said("study.rounds=3", f"study.name={name}", f"engine.options.token_s={token_s}")
    gate = ("allow=engine", "metrics=[latency/e2e_p50_s]", "out=gate")
    worse = said("compare", "main", "branch", *gate, code=1, quick=False)
    assert "regression" in worse
    [suite] = ElementTree.parse(tmp_path / "gate" / "junit.xml").getroot().iter("testsuite")
    assert suite.get("failures") == "1"
    result = json.loads((tmp_path / "gate" / "comparison.json").read_text())
    assert result["exit_code"] == 1
    assert "latency" in (tmp_path / "gate" / "comparison.md").read_text()
    said("compare", "branch", "main", *gate, quick=False)  # it got better
