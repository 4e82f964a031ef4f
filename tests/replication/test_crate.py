"""The metadata of a package, checked by the validator of the RO-Crate community."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = Path(sys.prefix) / "share" / "validator" / "bin" / "python"


def validated(package: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("validate_crate.py")
    return subprocess.run(
        [PYTHON, script, package], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_package_is_a_workflow_run_crate(packed: Path) -> None:
    done = validated(packed)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validator_would_find_a_fault(package: Path) -> None:
    path = package / "ro-crate-metadata.json"
    content = json.loads(path.read_text())
    content["@graph"] = [each for each in content["@graph"] if each["@type"] != "CreateAction"]
    path.write_text(json.dumps(content))
    done = validated(package)
    assert done.returncode == 1, done.stdout + done.stderr


def test_each_invocation_is_a_run_with_its_trials_as_results(packed: Path) -> None:
    graph = json.loads((packed / "ro-crate-metadata.json").read_text())["@graph"]
    by_id: dict[str, dict[str, Any]] = {each["@id"]: each for each in graph}
    [run] = [each for each in graph if each["@type"] == "CreateAction"]
    results = [by_id[result["@id"]] for result in run["result"]]
    assert len(results) == 6
    assert all((packed / each["@id"]).is_dir() for each in results)
    assert by_id["./"]["mainEntity"] == run["instrument"]
    [model] = [each for name, each in by_id.items() if name.startswith("#model-")]
    assert (model["name"], "version" in model) == ("bundled", False)  # it has no revision
    assert by_id["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
