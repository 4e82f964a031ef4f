"""What stops a grid before anything is downloaded or runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command, refusal


@pytest.mark.parametrize("verb", [(), ("plan",)], ids=["run", "plan"])
@pytest.mark.parametrize("group", ["model", "workload"])
def test_a_sweep_without_a_pinned_commit_is_one_line_before_anything_runs(
    slm_energy: Command, tmp_path: Path, verb: tuple[str, ...], group: str
) -> None:
    done = slm_energy(*verb, f"{group}.source=org/name")
    line = refusal(done)
    assert line.startswith(f"error: {group}.source=org/name is a hub id: pin it with")
    assert not list((tmp_path / "mlruns").glob("pending/*/*"))
