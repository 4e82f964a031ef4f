"""Stored trials, generations and readings as DataFrames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slm_energy import SweepResult, load_generations, load_readings, load_trials, run
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import ConfigError, TrackingError
from slm_energy.store.tracking import Store
from tests.api.conftest import Words


@pytest.fixture(scope="module")
def trials(finished: SweepResult) -> pd.DataFrame:
    return load_trials(finished.study, finished.tracking)


def test_a_trial_is_a_row_with_factors_outcome_and_metrics(trials: pd.DataFrame) -> None:
    assert len(trials) == 6
    assert trials["run_id"].is_unique
    assert set(trials["outcome"]) == {"valid"}
    assert trials.groupby("cell")["round"].apply(list).tolist() == [[1, 2, 3], [1, 2, 3]]
    assert set(trials["engine.options.token_s"]) == {"0.0005", "0.001"}
    assert trials["latency/e2e_p50_s"].dtype == float
    assert str(trials["started"].dt.tz) == "UTC"
    assert trials["started"].is_monotonic_increasing


def test_the_store_may_be_a_folder_or_a_uri(finished: SweepResult, trials: pd.DataFrame) -> None:
    folder = Path(finished.tracking)
    for tracking in (folder, f"sqlite:///{folder / 'mlflow.db'}"):
        pd.testing.assert_frame_equal(load_trials(finished.study, tracking), trials)


def test_without_a_store_named_mlruns_is_read(
    finished: SweepResult, trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(finished.tracking).parent)
    pd.testing.assert_frame_equal(load_trials(finished.study), trials)


def test_a_request_is_a_row_with_its_text_and_its_times(
    finished: SweepResult, trials: pd.DataFrame
) -> None:
    requests = load_generations(finished.study, finished.tracking)
    first_pass = requests[requests["pass_index"] == 0]
    assert len(first_pass) == 6 * 3, "three prompts in each of six trials"
    assert first_pass["completion"].notna().all()
    assert requests["prompt"].str.contains("def ").all()
    assert requests["completion"].isna().sum() == len(requests) - len(first_pass)
    assert (requests["output_tokens"] == 4).all()
    served = requests.groupby("run_id")
    expected = trials.set_index("run_id")
    assert served.size().to_dict() == expected["tokens/requests"].astype(int).to_dict()
    for column in ("ttft_s", "e2e_s"):
        medians = served[column].median()
        metric = expected[f"latency/{column.removesuffix('_s')}_p50_s"]
        np.testing.assert_allclose(medians, metric.reindex(medians.index))
    assert all(len(ids) == len(s) == 4 for ids, s in requests[["output_ids", "token_s"]].to_numpy())


def test_a_reading_is_a_row_with_its_source_and_its_window(
    finished: SweepResult, trials: pd.DataFrame
) -> None:
    readings = load_readings(finished.study, finished.tracking)
    assert set(readings["run_id"]) == set(trials["run_id"])
    assert set(readings["window"].dropna()) <= {"load", "baseline", "warmup", "prefill", "serve"}
    assert {"gauge"} < set(readings["kind"]), "gauges, and at least one source of energy"
    assert (readings["value"].notna() == readings["error"].isna()).all()
    exact = readings[readings["raw_int"].notna()]
    assert (exact["value"] == exact["raw_int"].astype(float)).all()
    assert (readings["after_ns"] >= readings["before_ns"]).all()
    serve = readings[readings["window"] == "serve"]
    assert (serve["time_s"] > 0).all()


def test_some_trials_may_be_chosen(finished: SweepResult, trials: pd.DataFrame) -> None:
    chosen = trials["run_id"][:2]
    for load in (load_generations, load_readings):
        table = load(finished.study, finished.tracking, trials=chosen)
        assert list(table["run_id"].unique()) == list(chosen)
        assert set(load(finished.study, finished.tracking, trials=chosen[0])["round"]) == {1}


def test_a_trial_of_another_study_is_refused(finished: SweepResult) -> None:
    with pytest.raises(ConfigError, match=r"trials: 'r9' is not a run id of study='finished'"):
        load_readings(finished.study, finished.tracking, trials=["r9"])


def test_a_study_that_does_not_exist_is_named_with_those_that_do(finished: SweepResult) -> None:
    with pytest.raises(TrackingError, match=r"study='none' is not in .*; there: .*finished"):
        load_trials("none", finished.tracking)


@pytest.mark.parametrize("uri", [False, True])
def test_no_store_is_an_error_and_none_is_made(tmp_path: Path, uri: bool) -> None:
    folder = tmp_path / "nowhere"
    tracking = f"sqlite:///{folder}/mlflow.db" if uri else folder
    with pytest.raises(TrackingError, match=r"no store in .*nowhere.*in Python tracking=DIR"):
        load_trials("any", tracking)
    assert not folder.exists()


def test_a_database_without_its_driver_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match="needs the package MySQLdb"):
        load_trials("any", "mysql://someone@127.0.0.1/runs")


def test_a_study_without_a_finished_trial_is_an_error(finished: SweepResult) -> None:
    store = Store(TrackingConfig(name="local", folder=finished.tracking))
    store.close_sweep(store.open_sweep("begun", "s1", "machine", ""), "KILLED")
    with pytest.raises(TrackingError, match="study='begun' has no finished trial yet: run it"):
        load_trials("begun", finished.tracking)


def test_trials_without_metering_have_no_readings(words: Words) -> None:
    result = run(words("unmetered"), quiet=True)
    assert len(load_generations(result.study, result.tracking)) >= 3
    with pytest.raises(TrackingError, match=r"no readings: .*run it with measurement=auto"):
        load_readings(result.study, result.tracking)


def test_trials_that_failed_have_neither(words: Words) -> None:
    result = run(words("failed", "engine.options.fail=load", "study.attempts=1"), quiet=True)
    assert result.outcomes == {"failed": 1}
    assert load_trials(result.study, result.tracking)["reason"].item()
    with pytest.raises(TrackingError, match="none of these trials served a request"):
        load_generations(result.study, result.tracking)


def test_an_invalid_trial_shows_what_it_served(words: Words) -> None:
    result = run(words("drift", "engine.options.fail=drift", "study.attempts=1"), quiet=True)
    assert result.outcomes == {"invalid": 1}
    requests = load_generations(result.study, result.tracking)
    assert (
        requests.groupby("task_id")["output_ids"].apply(lambda ids: len(set(map(tuple, ids)))).max()
        > 1
    )
