"""A trial whose answers can be tested."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.record import Record
from slm_energy.running import trial
from tests.captures import a_capture
from tests.conftest import a_cell, a_trial

PASSES = "def check(candidate):\n    assert candidate() is None\n"
FAILS = "def check(candidate):\n    assert candidate() == 1\n"


@pytest.fixture
def record(config: RunConfig, tmp_path: Path) -> Record:
    """A valid trial whose two answers are `pass`: one of them passes its test."""
    rows = [
        {"task_id": name, "prompt": f"def {name}():", "entry_point": name, "test": test}
        for name, test in (("a", PASSES), ("b", FAILS))
    ]
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    prompts = dataclasses.replace(config.workload, source=str(file))
    cell = a_cell(config, workload=prompts)
    own = dataclasses.replace(a_trial(config, cell=cell), cache_path=str(tmp_path / "cache"))
    return trial.derive(own, a_capture(), 0)
