"""Scores of a stored study: `slm-energy score`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.record import Record
from slm_energy.running import scoring
from slm_energy.running.report import study_report
from slm_energy.scoring.score import VERSION
from slm_energy.store import artifacts, outbox
from slm_energy.store.tracking import Store
from tests.conftest import ready_store
from tests.store.test_tracking import a_sweep

pytestmark = pytest.mark.usefixtures("bubblewrap")


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Store:
    ready_store(tmp_path / "mlruns", empty_store)
    return Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))


Keep = Callable[..., None]


@pytest.fixture
def keep(store: Store, tmp_path: Path) -> Keep:
    """Store a record as a sweep does, from its files."""

    def run(record: Record, machine: str = "here") -> None:
        parent = store.adopt_sweep(a_sweep(study=record.trial.study))
        folder = tmp_path / record.trial.study / record.trial.id
        folder.mkdir(parents=True)
        artifacts.write(folder, record, {})
        store.store(outbox.read(folder), folder, parent, machine)

    return run


def renamed(record: Record, study: str = "test", trial: str = "t1") -> Record:
    return dataclasses.replace(
        record, trial=dataclasses.replace(record.trial, study=study, id=trial)
    )


def score(store: Store, tmp_path: Path, study: str = "test") -> scoring.StudyScores:
    def busy(path: Path) -> None:
        raise AssertionError("nothing measures")

    return scoring.score_study(
        store,
        study,
        tmp_path / "cache",
        isolated=True,
        progress=lambda done, total: None,
        busy=busy,
    )


def columns_of_scores(frame: pd.DataFrame) -> dict[str, Any]:
    """A trial's columns; which run it is, and how long it took, differ between two studies."""
    own = ("run_id", "started", "study", "time/phase_score_s")
    row = frame.drop(columns=[name for name in own if name in frame]).iloc[0]
    return dict(row)


def test_a_stored_study_gets_exactly_the_scores_of_a_trial_that_is_scored_at_once(
    record: Record, config: RunConfig, store: Store, keep: Keep, tmp_path: Path
) -> None:
    keep(renamed(record, study="late"))
    keep(scoring.scored(renamed(record, study="at once"), config.study))
    result = score(store, tmp_path, "late")
    assert (result.solved, result.left) == ({record.trial.label: (1, 2)}, {})
    frames = [store.frame(study) for study in ("late", "at once")]
    one, other = (store.attached(frame["run_id"][0], artifacts.SCORES) for frame in frames)
    assert one == other
    verdicts = [row["verdict"] for row in json.loads(one)["scores"]]
    assert verdicts == ["passed", "failed assertion"]
    assert columns_of_scores(frames[0]) == columns_of_scores(frames[1])
    again = score(store, tmp_path, "late")
    assert (again.solved, again.skipped) == ({}, 1)


def test_trials_of_several_machines_are_scored_and_one_without_files_is_named(
    record: Record, store: Store, keep: Keep, tmp_path: Path
) -> None:
    for trial, machine in (("t1", "here"), ("t2", "there"), ("t3", "elsewhere")):
        keep(renamed(record, trial=trial), machine)
    frame = store.frame("test")
    lost = str(frame["run_id"].iloc[1])
    (files,) = tmp_path.glob(f"mlruns/artifacts/*/{lost}/artifacts/capture/generations.parquet")
    files.unlink()
    result = score(store, tmp_path)
    assert result.solved == {record.trial.label: (2, 4)}
    assert list(result.left) == [lost]
    assert "No such artifact: 'capture/generations.parquet'" in result.left[lost]
    assert store.frame("test")["scored"].tolist().count(str(VERSION)) == 2


def test_scores_of_an_older_version_are_replaced(
    record: Record, config: RunConfig, store: Store, keep: Keep, tmp_path: Path
) -> None:
    file = Path(record.trial.cell.settings.workload.source)
    scored = scoring.scored(record, config.study)
    older = dataclasses.replace(scored, scoring=VERSION - 1)
    keep(older)
    file.write_text(file.read_text().replace("is None", "== 2"))  # nothing passes now
    result = score(store, tmp_path)
    assert result.solved == {record.trial.label: (0, 2)}
    (row,) = store.frame("test").to_dict("records")
    assert row["scored"] == str(VERSION)
    assert row["quality/pass_at_1"] == 0
    assert row["quality/solved_count"] == 0
    assert scored.metrics["energy/per_solved_j"] > 0
    assert math.isnan(row["energy/per_solved_j"]), "it has no value any more"


def test_scores_by_tests_that_have_changed_since_are_in_no_figure_and_are_replaced(
    record: Record, config: RunConfig, store: Store, keep: Keep, tmp_path: Path
) -> None:
    first = scoring.scored(record, config.study)
    keep(first)
    file = Path(record.trial.cell.settings.workload.source)
    file.write_text(file.read_text().replace("is None", "== 2"))  # the prompts are the same
    second = scoring.scored(renamed(record, trial="t2"), config.study)
    assert second.tests != first.tests
    keep(dataclasses.replace(second, trial=dataclasses.replace(second.trial, round=2)))

    def reported() -> tuple[list[tuple[int, dict[str, int]]], bool]:
        options = {"study": record.trial.study, "metrics": ["energy/per_request_j"]}
        report = study_report(store, options).result
        left = any(left.name == "scores of 1 trial" for left in report.left_out)
        return [(own.trials, own.counts) for own in report.answers], left

    assert reported() == ([(1, {"failed assertion": 2})], True)
    assert score(store, tmp_path).solved == {record.trial.label: (0, 2)}
    assert store.frame("test")["quality/pass_at_1"].tolist() == [0, 0]
    assert reported() == ([(2, {"failed assertion": 4})], False)
    assert score(store, tmp_path).skipped == 2
    file.unlink()
    again = score(store, tmp_path)
    assert (again.skipped, again.left) == (2, {}), "scores stay what they are"


def test_a_workload_that_has_changed_since_is_not_scored(
    record: Record, store: Store, keep: Keep, tmp_path: Path
) -> None:
    keep(record)
    file = Path(record.trial.cell.settings.workload.source)
    file.write_text(file.read_text().replace("def a", "def  a"))
    (why,) = score(store, tmp_path).left.values()
    assert "has changed since" in why


def test_a_workload_without_tests_is_skipped(
    record: Record, store: Store, keep: Keep, tmp_path: Path
) -> None:
    keep(record)
    file = Path(record.trial.cell.settings.workload.source)
    rows = [json.loads(line) | {"test": ""} for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, rows)))
    result = score(store, tmp_path)
    assert (result.solved, result.left, result.skipped) == ({}, {}, 1)


def test_a_report_says_what_a_solved_task_cost_and_which_scores_are_lost(
    record: Record, config: RunConfig, store: Store, keep: Keep, tmp_path: Path
) -> None:
    scored = scoring.scored(record, config.study)
    keep(scored)
    options = {"study": record.trial.study, "metrics": ["energy/per_request_j"]}
    [solved] = study_report(store, options).result.solved
    [cell] = solved.cells
    assert (cell.solved, cell.scored, solved.tasks) == (1, 2, 2)
    assert cell.per_solved_j == pytest.approx(scored.metrics["energy/per_solved_j"])
    assert cell.reason == "one round gives no interval"
    for file in (tmp_path / "mlruns").rglob("scores.json"):
        file.unlink()
    without = study_report(store, options)
    assert without.result.solved == ()
    assert without.gaps[0].startswith("scores of 1 of 1 scored trials cannot be read")
