"""The pins: their bill of materials, and what an audit of them accepts."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
AUDIT = runpy.run_path(str(ROOT / "tools" / "audit.py"))
SECURITY = (ROOT / "SECURITY.md").read_text()


def pins() -> dict[str, str]:
    """Names as in a package URL, and versions."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {name.replace("_", "-").lower(): version for name, version in pairs}


def test_the_bill_of_materials_has_each_pin_once(tmp_path: Path) -> None:
    [recipe] = re.findall(r"(?m)^sbom:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())
    words = recipe.replace("\\\n", " ").split("cyclonedx-py ")[1].split()
    words[words.index("-o") + 1] = str(tmp_path / "sbom.json")
    command = [sys.executable, "-m", "cyclonedx_py", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "slm-energy"
    assert len(bill["components"]) == len(pins())
    assert {part["purl"]: part["version"] for part in bill["components"]} == {
        f"pkg:pypi/{name}@{version}": version for name, version in pins().items()
    }


def package(**changes: Any) -> dict[str, Any]:
    """A package as in pip-audit's report, with a finding that the table accepts."""
    finding = {"id": "PYSEC-2026-2447", "aliases": ["CVE-2025-69872"], "fix_versions": []}
    return {"name": "diskcache", "version": "5.6.3", "vulns": [finding], **changes}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"vulns": []}, None),
        ({"version": "5.6.4"}, "diskcache 5.6.4: CVE-2025-69872, PYSEC-2026-2447, fixed in no"),
        ({"name": "rich"}, "rich 5.6.3: CVE-2025-69872"),
        (
            {"vulns": [{"id": "PYSEC-1-1", "aliases": [], "fix_versions": ["6.0"]}]},
            "diskcache 5.6.3: PYSEC-1-1, fixed in 6.0: change its pin",
        ),
        ({"skip_reason": "Dependency not found"}, "not looked up: diskcache: Dependency not found"),
    ],
)
def test_an_audit_fails_on_what_nobody_accepted_or_looked_up(
    changes: dict[str, Any], problem: str | None
) -> None:
    lines = AUDIT["problems"]({"dependencies": [package(**changes)]}, SECURITY)
    assert len(lines) == (problem is not None)
    assert all(line.startswith(str(problem)) for line in lines)


def test_findings_are_accepted_for_the_pinned_versions_only() -> None:
    table = AUDIT["accepted"](SECURITY)
    assert {name for name, _ in table} >= {"transformers", "diskcache"}
    assert {name: version for name, version in table}.items() <= pins().items()
