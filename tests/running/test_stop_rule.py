"""Noise floor, sentinel and stopping rule on the command line, with a scripted engine."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from slm_energy.config.groups import RunConfig, StudyConfig, TrackingConfig
from slm_energy.planning.grid import resolve
from slm_energy.running import stop_rule
from tests.conftest import Command, ready_store, refusal, trials
from tests.fake_slurm import FakeSlurm


def test_one_cell_under_three_names_until_its_intervals_are_narrow_with_a_sentinel(
    tmp_path: Path, slm_energy: Command, slurm: FakeSlurm
) -> None:
    grid = ("-m", "workload.name=A,B,C", "study.rounds=5", "study.precision_pct=100")
    grid = (*grid, "study.sentinel={workload: A}")
    assert "no noise floor of this machine is known" in slm_energy("plan", *grid).stdout

    done = slm_energy(*grid)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "ended by study.precision_pct=100.0: after 4 rounds every pair's own interval is" in said
    assert "The study stopped early by its precision rule: after 4 rounds" in said
    assert "Sentinel bundled / scripted / cpu, end-to-end latency p50:" in said
    assert "Noise floor of this machine (study default of 20" in said
    frame = trials(tmp_path)
    first = frame.sort_values("order").drop_duplicates("round")
    assert len(frame) == 16
    assert first["workload.name"].tolist() == ["sentinel"] * 4
    assert first["label"].tolist() == ["bundled / scripted / cpu / sentinel"] * 4

    again = slm_energy(*grid)
    assert again.returncode == 0
    assert "ended by study.precision_pct" in again.stdout
    planned = slm_energy("plan", *grid).stdout
    assert "study.precision_pct=100.0: reached, after 4 rounds" in planned
    assert "noise floor of this machine (study default of 20" in planned
    assert "% per trial in end-to-end latency p50" in planned
    assert "5 rounds of 3 cells that are as noisy give a difference of" in planned
    assert "a verdict (saves or worse, beyond the margin of 2 %) with a chance of 0.8" in planned
    elsewhere = slm_energy("plan", *grid, "hydra/launcher=slurm").stdout
    assert "no noise floor of alpha is known" in elsewhere


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study.sentinel={engine: scripted}"], "names 2 of the 2 cells that can run here"),
        (["study.sentinel={engin: scripted}"], "study.sentinel names 'engin'"),
    ],
)
def test_a_sentinel_is_exactly_one_cell(
    slm_energy: Command, words: list[str], message: str
) -> None:
    assert message in refusal(slm_energy("plan", "-m", "workload.name=A,B", *words))


def test_a_rule_that_cannot_be_checked_says_so_and_the_study_continues(
    tmp_path: Path, config: RunConfig, empty_store: Path
) -> None:
    ready_store(tmp_path, empty_store)
    config = dataclasses.replace(
        config,
        study=StudyConfig(name="test", reference=None, precision_pct=2.0),
        tracking=TrackingConfig(name="local", folder=str(tmp_path)),
    )
    console = Console(file=io.StringIO(), width=300)
    assert stop_rule.stopping_rule(resolve([config]), console)("here") is None
    assert isinstance(console.file, io.StringIO)
    assert (
        "study.precision_pct cannot be checked: study='test' is not in" in console.file.getvalue()
    )


def test_a_rule_needs_a_store_that_can_be_read(slm_energy: Command) -> None:
    done = slm_energy("tracking=offline", "study.precision_pct=2")
    assert done.returncode == 2
    assert "study.precision_pct needs a store" in done.stderr
