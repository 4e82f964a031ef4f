"""Whole invocations of the command line on a scripted engine: grids, resuming; see tests/faults."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.machine import machine_id, measuring
from slm_energy.running import trial
from slm_energy.store import artifacts
from slm_energy.store.connection import store_uri
from tests.asking import a_model
from tests.captures import a_capture
from tests.conftest import Command, a_trial, refusal, trials
from tests.forked import Sweep


def tracking(folder: Path) -> TrackingConfig:
    return TrackingConfig(name="local", folder=str(folder / "mlruns"))


def sweeps(folder: Path, study: str = "default") -> list[str]:
    """Status of every parent run of a study."""
    client = MlflowClient(store_uri(tracking(folder)))
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`slm.kind` = 'sweep'")
    return [run.info.status for run in runs]


def test_a_grid_with_a_failing_cell_ends_with_the_report_and_resumes_to_no_work(
    tmp_path: Path, slm_energy: Command
) -> None:
    grid = (
        "-m",
        "engine.decode=session,generate",
        "engine.options.fail=never,load",
        "study.exclude=[{engine.decode: generate, engine.options.fail: load, reason: enough}]",
        "study.rounds=2",
    )
    first = slm_energy(*grid)
    assert first.returncode == 1, first.stderr
    assert "the script says that loading fails" in first.stdout
    assert "worker.log" in first.stdout
    assert "decode=generate / fail=load: enough" in first.stdout
    assert "3 cells, 2 rounds, 4 of 6 trials valid" in first.stdout
    frame = trials(tmp_path)
    assert frame["outcome"].value_counts().to_dict() == {"valid": 4, "failed": 4}
    assert sorted(frame[frame.outcome == "valid"]["round"]) == [1, 1, 2, 2]
    assert frame[frame.outcome == "failed"]["attempt"].tolist().count(2) == 2

    second = slm_energy(*grid)
    assert "nothing to do" in second.stdout
    assert "left alone" in second.stdout
    assert len(trials(tmp_path)) == 8
    assert sweeps(tmp_path) == ["FINISHED"]

    longer = slm_energy("-m", "engine.decode=session,generate", "study.rounds=3")
    assert longer.returncode == 0, longer.stderr
    assert len(trials(tmp_path)) == 10


def test_a_failure_that_another_try_would_repeat_is_tried_once(
    tmp_path: Path, slm_energy: Command
) -> None:
    """The engine has 512 places, and config.json promises more, so that no plan can tell."""
    folder = a_model(tmp_path / "promising")
    promised = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 9999}
    (folder / "config.json").write_text(json.dumps(promised))
    words = (f"model.source={folder}", "workload.new_tokens=500", "study.rounds=3")
    done = slm_energy(*words, "study.attempts=3")
    assert done.returncode == 1
    assert "not retried any more: run the same command again when the cause is gone" in done.stdout
    assert trials(tmp_path)["outcome"].tolist() == ["failed"]


def test_trials_after_a_change_of_the_plan_are_flagged(slm_energy: Command) -> None:
    assert slm_energy().returncode == 0
    words = ("study.rounds=2", "study.seed=5")
    told = "study.seed was 0 and is 5"
    assert told in slm_energy("plan", *words).stdout
    done = slm_energy(*words)
    assert done.returncode == 0, done.stdout
    assert f"as_planned, 1 of 1 trials: since the study began: {told}" in done.stdout


@pytest.mark.usefixtures("slm_energy")
def test_two_sweeps_started_at_once_on_a_fresh_store_share_the_work(tmp_path: Path) -> None:
    pair = [Sweep(tmp_path, "measurement.serve_s=1.0", "study.rounds=2") for _ in range(2)]
    codes, outputs = zip(*(sweep.ended() for sweep in pair), strict=True)
    assert codes == (0, 0)
    assert any("another sweep is measuring" in output for output in outputs)
    assert any("nothing to do" in output for output in outputs)
    assert trials(tmp_path)["outcome"].tolist() == ["valid", "valid"]


def test_a_sweep_may_refuse_to_wait_for_another_one(slm_energy: Command) -> None:
    with measuring(lambda path: pytest.fail(str(path))):
        refused = slm_energy("study.busy=refuse")
    line = refusal(refused)
    assert "another sweep is measuring" in line
    assert "study.busy=wait" in line


def test_a_cell_that_cannot_run_here_is_noted_once_and_the_sweep_goes_on(
    tmp_path: Path, slm_energy: Command
) -> None:
    for _ in range(2):
        done = slm_energy("-m", "provider=cpu,tensorrt")
        assert done.returncode == 0, done.stderr
        assert "engine scripted has no provider tensorrt" in done.stdout
    frame = trials(tmp_path)
    assert frame["outcome"].value_counts().to_dict() == {"valid": 1, "unsupported": 1}
    only = slm_energy("provider=tensorrt", "study.name=other")
    assert only.returncode == 1
    assert "no report" in only.stdout


def test_a_record_that_could_not_be_sent_is_delivered_by_the_next_run(
    tmp_path: Path, slm_energy: Command, config: RunConfig
) -> None:
    record = trial.derive(a_trial(config, study="default"), a_capture(), time.time_ns())
    folder = tmp_path / "mlruns" / "pending" / machine_id() / record.trial.id
    folder.mkdir(parents=True)
    artifacts.write(folder, record, {})
    unfinished = folder.with_name("unfinished")
    unfinished.mkdir()
    done = slm_energy()
    assert done.returncode == 0, done.stderr
    assert set(trials(tmp_path)["cell"]) > {"c1"}
    assert not folder.exists()
    assert not unfinished.exists()


def test_a_waiting_record_that_is_damaged_is_named(tmp_path: Path, slm_energy: Command) -> None:
    folder = tmp_path / "mlruns" / "pending" / machine_id() / "damaged"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    done = slm_energy()
    assert done.returncode == 2
    assert f"{folder} holds a record that cannot be read" in done.stderr.replace("\n", " ")
    assert folder.exists()


def test_a_plan_shows_the_grid_and_creates_nothing(tmp_path: Path, slm_energy: Command) -> None:
    grid = ("-m", "engine.decode=session,generate", "provider=cpu,tensorrt", "study.rounds=2")
    fresh = slm_energy("plan", *grid)
    assert fresh.returncode == 0, fresh.stderr
    assert "4 trials: 0 done, 4 to do; expected time: unknown" in fresh.stdout
    assert "engine scripted has no provider tensorrt" in fresh.stdout
    assert not (tmp_path / "mlruns").exists()
    assert slm_energy("-m", "engine.decode=session").returncode == 0
    later = slm_energy("plan", *grid)
    assert "4 trials: 1 done, 3 to do; expected time: about" in later.stdout


def test_a_damaged_store_is_one_clear_line(tmp_path: Path, slm_energy: Command) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(b"this is no database" * 100)
    done = slm_energy()
    line = refusal(done)
    assert line.startswith("error: cannot use ")
    assert "file is not a database" in line
    assert os.listdir(tmp_path / "mlruns" / "artifacts") == []


@pytest.mark.parametrize("prompts", ["bundled", "program.jsonl"])
def test_a_trial_ends_where_the_code_is_complete(
    slm_energy: Command, tmp_path: Path, prompts: str
) -> None:
    """The worker knows of each task what its stop texts depend on."""
    case = {"input": "1", "output": "1", "testtype": "stdin"}
    row = {"question_id": "q", "question_content": "Echo.", "public_test_cases": [case]}
    (tmp_path / "program.jsonl").write_text(json.dumps(row))
    done = slm_energy(f"workload.source={prompts}", "workload.stop=code")
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(tmp_path)["outcome"].tolist() == ["valid"]
