"""The verbs `export` and `verify` as their users see them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Command, refusal

OF_A_PAPER = ("authors=['Ada Lovelace']", "data_license=CC-BY-4.0")


def test_a_study_is_exported_verified_and_found_changed(
    tmp_path: Path, slm_energy: Command, store_folder: Path
) -> None:
    words = ["study=paper", f"tracking.folder={store_folder}", "out=package", *OF_A_PAPER]
    done = slm_energy("export", *words, "margin=0.05", quick=False)
    assert done.returncode == 0, done.stderr
    assert f"package: {tmp_path / 'package'}" in done.stdout
    assert "verified: everything is as stated" in done.stdout
    about = json.loads((tmp_path / "package" / "package.json").read_text())
    assert about["analysis"]["margin"] == 0.05
    [digest] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("digest")]

    same = slm_energy("verify", "package", "--digest", digest.upper(), quick=False)
    assert same.returncode == 0, same.stdout
    other = slm_energy("verify", "package", "--digest", "0" * 64, quick=False)
    assert other.returncode == 1
    assert "not the published package" in other.stdout

    short = slm_energy("verify", "package", "--digest", digest[:16], quick=False)
    assert "all 64 hexadecimal digits" in refusal(short)

    page = tmp_path / "package" / "report" / "report.md"
    page.write_text(page.read_text().replace("less", "more", 1))
    changed = slm_energy("verify", "package", quick=False)
    assert changed.returncode == 1
    assert "differs report/report.md: line " in changed.stdout
    assert "not verified: 2 differences" in changed.stdout


def test_what_export_needs_is_said_in_one_line(
    tmp_path: Path, slm_energy: Command, store_folder: Path
) -> None:
    folder = f"tracking.folder={store_folder}"
    line = refusal(slm_energy("export", "study=paper", folder, quick=False))
    assert "out=DIR and data_license=CC-BY-4.0 and authors=['Ada Lovelace']" in line
    assert "study=NAME is missing" in refusal(slm_energy("export", folder, quick=False))
    assert "no captures" in refusal(slm_energy("export", "data=table.csv", folder, quick=False))
    assert "there is no such package" in refusal(slm_energy("verify", "nowhere", quick=False))
    assert not (tmp_path / "package").exists()
