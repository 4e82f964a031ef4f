"""Scores of a trial."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from rich.console import Console

from slm_energy.cell import Trial
from slm_energy.config.groups import RunConfig
from slm_energy.machine import measuring
from slm_energy.record import Record
from slm_energy.running import scoring
from slm_energy.running.local import LocalExecutor
from slm_energy.scoring import bubblewrap
from tests.captures import a_capture
from tests.conftest import a_cell

pytestmark = pytest.mark.usefixtures("bubblewrap")


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
    bubblewrap.version.cache_clear()
    scored = scoring.scored(record, config.study)
    assert "apt install bubblewrap" in scored.unscored
    assert scored.metrics == record.metrics


def test_tests_that_do_not_fit_their_task_refuse_that_task_alone(
    record: Record, config: RunConfig
) -> None:
    file = Path(record.trial.cell.settings.workload.source)
    row = {"task_id": "Mbpp/2", "prompt": "def a():", "entry_point": "a", "atol": 0}
    row |= {"canonical_solution": " pass", "base_input": [[1, 2]], "plus_input": []}
    file.write_text("\n".join([file.read_text().splitlines()[0], json.dumps(row)]))
    capture = a_capture()
    renamed = [
        dataclasses.replace(g, task_id="Mbpp/2" if g.task_id == "b" else g.task_id)
        for g in capture.generations
    ]
    capture = dataclasses.replace(capture, generations=tuple(renamed))
    changed = scoring.scored(dataclasses.replace(record, capture=capture), config.study)
    assert "has changed since the sweep began" in changed.unscored
    own = a_cell(config, workload=record.trial.cell.settings.workload)
    entry = dataclasses.replace(record.trial, cell=own)
    scored = scoring.scored(dataclasses.replace(record, capture=capture, trial=entry), config.study)
    assert [s.verdict for s in scored.scores] == ["passed", "refused"]
    assert scored.unscored.startswith("1 of 2 tasks are refused: Mbpp/2 its base_input")
    assert scored.metrics["quality/scored_count"] == 1


def test_without_isolation_the_verdicts_are_the_same(record: Record, config: RunConfig) -> None:
    own_rights = dataclasses.replace(config.study, sandbox="none")
    assert scoring.scored(record, own_rights).scores == scoring.scored(record, config.study).scores


def test_scores_have_their_share_of_the_time_and_say_where_they_were_made(
    record: Record, config: RunConfig
) -> None:
    scored = scoring.scored(record, config.study)
    assert [s.time_share for s in scored.scores] == [0.5, 0.5]
    assert scored.scored_in.startswith("bubblewrap ")
    own_rights = dataclasses.replace(config.study, sandbox="none")
    assert scoring.scored(record, own_rights).scored_in.startswith("none, Python 3.")


def test_a_cache_that_cannot_be_written_does_not_cost_the_trial(
    record: Record, config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    scored = scoring.scored(record, config.study)
    assert scored.outcome.name == "valid"
    assert len(scored.scores) > 0
    assert not scored.unscored


def test_an_interrupt_while_answers_are_tested_keeps_what_was_measured(
    record: Record, config: RunConfig
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(scoring.Interrupted) as raised:
        scoring.scored(record, config.study, interrupt)
    kept = raised.value.record
    assert (kept.outcome, kept.metrics) == (record.outcome, record.metrics)
    assert f"slm-energy score study={record.trial.study}" in kept.unscored


def test_a_sweep_ends_after_such_an_interrupt(
    record: Record, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(record: Record, *_: object) -> Record:
        raise scoring.Interrupted(record)

    monkeypatch.setattr("slm_energy.running.local.run_trial", lambda *_: record)
    monkeypatch.setattr("slm_energy.running.local.scored", interrupted)
    with LocalExecutor(config.study, tmp_path, Console(quiet=True)) as executor:
        executor.ready([record.trial.cell.settings])
        executor.start(record.trial, tmp_path)
        ((kept, _),) = executor.ended(lambda trial, phase, share: None)
        assert kept.outcome.name == "valid"
        executor.start(record.trial, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            executor.ended(lambda trial, phase, share: None)


def test_answers_are_tested_between_trials_under_the_lock_of_the_machine(
    record: Record, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a window of this sweep nor one of another can contain the work."""
    events = list[str]()

    def lock_is_held() -> bool:
        def refuse(path: Path) -> None:
            raise BlockingIOError

        try:
            with measuring(refuse):
                return False
        except BlockingIOError:
            return True

    def serve(trial: Trial, *_: object) -> Record:
        events.append("trial")
        return record

    def test_answers(record: Record, *_: object) -> Record:
        assert lock_is_held()
        events.append("answers")
        return record

    monkeypatch.setattr("slm_energy.running.local.run_trial", serve)
    monkeypatch.setattr("slm_energy.running.local.scored", test_answers)
    with LocalExecutor(config.study, tmp_path, Console(quiet=True)) as executor:
        executor.ready([record.trial.cell.settings])
        for _ in range(2):
            executor.start(record.trial, tmp_path)
            executor.ended(lambda trial, phase, share: None)
    assert events == ["trial", "answers", "trial", "answers"]
    assert not lock_is_held()
