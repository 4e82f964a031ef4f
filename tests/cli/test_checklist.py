"""`slm-energy checklist`, and `report` with carbon and money, on the real command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.analysis.checklist import ENTRIES
from slm_energy.testing.powercap import PowercapTree, client
from slm_energy.testing.waveform import constant
from tests.conftest import Command, refusal


def test_a_stored_study_is_answered_item_by_item(slm_energy: Command, tmp_path: Path) -> None:
    assert slm_energy("-m", "engine.threads=1,2", "study.rounds=2").returncode == 0
    done = slm_energy("checklist", "study=default", "out=paper", quick=False)
    assert (done.returncode, done.stderr) == (0, "")
    for entry in ENTRIES:
        assert f" {entry.name} " in done.stdout
    said = " ".join(done.stdout.split())
    assert "Energy sensors NO no sensor; no energy was read. To meet it: measure on a" in said
    assert "2 rounds, at least 2 valid trials of a cell" in said
    assert f" of {len(ENTRIES)} items are met" in said
    page = (tmp_path / "paper" / "checklist.md").read_text()
    assert "| Order | yes | every cell once in each round, study.order=random" in page
    assert (tmp_path / "paper" / "checklist.tex").read_text().startswith(r"{\footnotesize")


def test_a_measured_study_is_converted_and_has_boamps_reports(
    slm_energy: Command, tmp_path: Path
) -> None:
    root = tmp_path / "powercap"
    with PowercapTree(root, client(constant(20))):
        run = slm_energy(
            "study.rounds=2", "measurement=strict", f"measurement.powercap_root={root}"
        )
    assert run.returncode == 0, run.stderr
    words = ("report", "study=default", "carbon.location=SE3", "price_per_kwh=0.3", "out=page")
    done = slm_energy(*words, quick=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "Carbon, gCO2e, 95 % intervals: Sweden Bidding Zone 3" in said
    assert "Cost of electricity, 95 % intervals: 0.3 per kWh, PUE 1" in said
    assert (tmp_path / "page" / "footprint.csv").exists()
    assert len(list((tmp_path / "page" / "boamps").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checklist", "data=x.csv"], "data=x.csv: a checklist needs the records of a study"),
        (["checklist", "study=none"], "no store in mlruns"),
        (["report", "study=x", "carbon.location=Germny"], "did you mean DEU (Germany)?"),
        (["report", "study=x", "carbon.place=FRA"], "carbon.place: no such key"),
        (["report", "study=x", "carbon.pue=0.9"], "carbon.pue=0.9 is out of range: at least 1"),
    ],
)
def test_bad_input_is_one_line(slm_energy: Command, words: list[str], message: str) -> None:
    assert message in refusal(slm_energy(*words, quick=False))
