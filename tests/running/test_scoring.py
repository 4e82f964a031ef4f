"""Scores of a trial and of a stored study."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from slm_energy import workload
from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.record import Record
from slm_energy.running import scoring, trial
from slm_energy.running.report import study_report
from slm_energy.running.scoring import score_study
from slm_energy.scoring import sandbox
from slm_energy.store import artifacts
from slm_energy.store.tracking import Store
from tests.captures import a_capture
from tests.conftest import a_cell, a_trial
from tests.store.test_tracking import a_sweep

pytestmark = pytest.mark.usefixtures("bubblewrap")

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
    cell = dataclasses.replace(cell, workload_digest=workload.digest(workload.load(prompts)))
    own = dataclasses.replace(a_trial(config, cell=cell), cache_path=str(tmp_path / "cache"))
    return trial.derive(own, a_capture(), 0)


def test_a_valid_trial_gets_scores_and_the_energy_of_a_solved_task(
    record: Record, config: RunConfig
) -> None:
    scored = scoring.scored(record, config.study)
    assert [(s.task_id, s.solved) for s in scored.scores] == [("a", True), ("b", False)]
    assert scored.metrics["quality/pass_at_1"] == 0.5
    assert scored.metrics["quality/solved_count"] == 1
    per_request = scored.metrics["energy/per_request_j"]
    assert scored.metrics["energy/per_solved_j"] == pytest.approx(2 * per_request)
    low, high = (scored.metrics[f"energy/per_solved_{end}_j"] for end in ("low", "high"))
    assert low <= scored.metrics["energy/per_solved_j"] <= high


def test_where_nothing_is_solved_there_is_no_energy_of_a_solved_task(
    record: Record, config: RunConfig
) -> None:
    file = Path(record.trial.cell.settings.workload.source)
    file.write_text(file.read_text().replace("is None", "== 2"))
    scored = scoring.scored(record, config.study)
    assert scored.metrics["quality/pass_at_1"] == 0
    assert "energy/per_solved_j" not in scored.metrics


def test_a_task_that_cannot_be_scored_is_no_failure(record: Record, config: RunConfig) -> None:
    file = Path(record.trial.cell.settings.workload.source)
    file.write_text(file.read_text().replace("assert candidate() == 1", "candidate(print)"))
    scored = scoring.scored(record, config.study)
    assert scored.metrics["quality/pass_at_1"] == 1
    assert scored.metrics["quality/scored_count"] == 1
    assert "energy/per_solved_j" not in scored.metrics


@pytest.mark.parametrize("outcome", ["invalid", "failed"])
def test_only_valid_trials_are_scored(outcome: str, record: Record, config: RunConfig) -> None:
    other = dataclasses.replace(
        record,
        outcome=dataclasses.replace(record.outcome, name=outcome),  # type: ignore[arg-type]
    )
    assert scoring.scored(other, config.study) == other


def test_without_a_sandbox_the_record_has_the_reason(
    record: Record, config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.version.cache_clear()
    scored = scoring.scored(record, config.study)
    assert "apt install bubblewrap" in scored.unscored
    assert scored.metrics == record.metrics


def test_tests_that_do_not_fit_their_task_do_not_cost_the_trial(
    record: Record, config: RunConfig
) -> None:
    file = Path(record.trial.cell.settings.workload.source)
    row = {"task_id": "Mbpp/2", "prompt": "def a():", "entry_point": "a", "atol": 0}
    file.write_text(json.dumps(row | {"base_input": [[1, 2]], "plus_input": []}))
    generations = [dataclasses.replace(g, task_id="Mbpp/2") for g in a_capture().generations]
    capture = dataclasses.replace(a_capture(), generations=tuple(generations))
    scored = scoring.scored(dataclasses.replace(record, capture=capture), config.study)
    assert "Mbpp/2" in scored.unscored
    assert scored.outcome.name == "valid"


def test_without_isolation_the_verdicts_are_the_same(record: Record, config: RunConfig) -> None:
    own_rights = dataclasses.replace(config.study, sandbox="none")
    assert scoring.scored(record, own_rights).scores == scoring.scored(record, config.study).scores


def test_a_stored_study_is_scored_once(record: Record, tmp_path: Path, empty_store: Path) -> None:
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    parent = store.adopt_sweep(a_sweep(study=record.trial.study))
    folder = tmp_path / "record"
    folder.mkdir()
    artifacts.write(folder, record, {})
    store.store(record, folder, parent, "here")
    study, cache = record.trial.study, tmp_path / "cache"

    def score() -> scoring.StudyScores:
        return score_study(store, study, cache, isolated=True, progress=lambda done, total: None)

    first = score()
    assert first.solved == {record.trial.label: (1, 2)}
    frame = store.frame(study)
    assert frame["quality/pass_at_1"].tolist() == [0.5]
    stored = json.loads(store.attached(frame["run_id"][0], artifacts.SCORES))
    assert [row["verdict"] for row in stored["scores"]] == ["passed", "failed assertion"]
    assert (score().solved, score().skipped) == ({}, 1)


def test_a_report_says_what_a_solved_task_cost_and_which_scores_are_lost(
    record: Record, tmp_path: Path, config: RunConfig
) -> None:
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    parent = store.adopt_sweep(a_sweep(study=record.trial.study))
    scored = scoring.scored(record, config.study)
    folder = tmp_path / "record"
    folder.mkdir()
    artifacts.write(folder, scored, {})
    store.store(scored, folder, parent, "here")
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


def test_a_workload_that_has_changed_since_is_not_scored(record: Record, tmp_path: Path) -> None:
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    parent = store.adopt_sweep(a_sweep(study=record.trial.study))
    folder = tmp_path / "record"
    folder.mkdir()
    artifacts.write(folder, record, {})
    store.store(record, folder, parent, "here")
    file = Path(record.trial.cell.settings.workload.source)
    file.write_text(file.read_text().replace("def a", "def  a"))
    result = score_study(
        store, record.trial.study, tmp_path, isolated=True, progress=lambda done, total: None
    )
    assert "has changed since" in next(iter(result.left.values()))
