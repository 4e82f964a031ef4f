"""What stops a grid before anything is downloaded or runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command


@pytest.mark.parametrize("verb", [(), ("plan",)], ids=["run", "plan"])
@pytest.mark.parametrize("group", ["model", "workload"])
def test_a_sweep_without_a_pinned_commit_is_one_line_before_anything_runs(
    slm_energy: Command, tmp_path: Path, verb: tuple[str, ...], group: str
) -> None:
    done = slm_energy(*verb, f"{group}.source=org/name")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {group}.source=org/name is a hub id: pin it with")
    assert not list((tmp_path / "mlruns").glob("pending/*/*"))


def test_stop_code_is_refused_for_a_task_that_names_no_function(
    slm_energy: Command, tmp_path: Path
) -> None:
    (tmp_path / "plain.jsonl").write_text('{"task_id": "poem", "prompt": "Once upon a time"}\n')
    done = slm_energy("plan", "workload.source=plain.jsonl", "workload.stop=code")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: workload.stop=code: poem of workload.source=plain.jsonl has no")
    assert line.endswith("set workload.stop=eos")
