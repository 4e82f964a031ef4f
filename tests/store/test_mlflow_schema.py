from __future__ import annotations

import dataclasses

import pytest

from slm_energy.config.groups import MeasurementConfig, RunConfig
from slm_energy.record import WarmUp
from slm_energy.running import trial
from slm_energy.store import mlflow_schema
from tests.captures import a_capture, a_counter
from tests.conftest import a_cell, a_trial


def test_a_valid_trial_has_identity_scope_and_a_summary(config: RunConfig) -> None:
    record = trial.derive(a_trial(config), a_capture(), 0)
    tags = mlflow_schema.tags(record, "here")
    assert tags["slm.cell"] == "c1"
    assert tags["slm.scope"] == "cpu_package"
    assert tags["slm.measured"].startswith("cpu_package (devices not recorded)")
    assert "energy per output token (measured): 2500 mJ" in tags["mlflow.note.content"]
    assert "slm.outcome" not in tags
    assert mlflow_schema.params(record)["engine.name"] == "scripted"
    assert mlflow_schema.params(record)["model.digest"] == record.trial.cell.model_digest


def test_a_trial_s_tags_hold_the_devices_of_its_sum(config: RunConfig) -> None:
    counter = a_counter()
    gpu = dataclasses.replace(
        counter.source, id="nvml/GPU-1/energy", domain="gpu", device="GPU-1 NVIDIA H100"
    )
    package = dataclasses.replace(counter.source, device="package-0")
    series = tuple(dataclasses.replace(counter, source=source) for source in (package, gpu))
    record = trial.derive(a_trial(config), a_capture(series=series), 0)
    tags = mlflow_schema.tags(record, "here")
    assert tags["slm.scope"] == "cpu_package+gpu"
    scope = mlflow_schema.stored_scope(tags)
    assert scope is not None
    assert [part.device for part in scope.parts] == ["package-0", "GPU-1"]
    assert tags["slm.measured"] == scope.words
    job = mlflow_schema.tags(dataclasses.replace(record, job="7", node="n1"), "cluster")
    on_a_node = mlflow_schema.stored_scope(job)
    assert on_a_node is not None
    assert [part.device for part in on_a_node.parts] == ["#1", "NVIDIA H100 #1"]


def test_an_estimate_has_a_scope_that_says_so(config: RunConfig) -> None:
    record = trial.derive(a_trial(config), a_capture(series=(a_counter("estimate"),)), 0)
    tags = mlflow_schema.tags(record, "here")
    assert "slm.scope" not in tags
    assert tags["slm.measured"] == "a model's estimate of the whole machine, nothing measured"


def test_an_older_trial_has_the_domains_only() -> None:
    scope = mlflow_schema.stored_scope({"slm.scope": "cpu_package+dram"})
    assert scope is not None
    assert scope.domains == {"cpu_package", "dram"}
    assert mlflow_schema.stored_scope({}) is None


def test_what_is_flagged_can_be_searched_for_and_is_on_the_run_page(config: RunConfig) -> None:
    measured = a_cell(config, measurement=MeasurementConfig(name="test"))
    capture = a_capture(warmup=WarmUp(paces_ns=(9, 5), steady=False))
    tags = mlflow_schema.tags(trial.derive(a_trial(config, cell=measured), capture, 0), "here")
    assert tags["slm.flags"].startswith("steady: no steady pace")
    assert "flagged, steady" in tags["mlflow.note.content"]


def test_a_failed_trial_says_why_and_what_it_took(config: RunConfig) -> None:
    record = trial.failed(a_trial(config), "it broke", 0)
    record = dataclasses.replace(record, phases_s={"worker": 1.5}, duration_s=2.0)
    assert mlflow_schema.metrics(record) == {"time/trial_s": 2.0, "time/phase_worker_s": 1.5}
    assert mlflow_schema.tags(record, "here")["slm.reason"] == "it broke"
    assert mlflow_schema.system_series(record) == []
    stopped = trial.failed(a_trial(config), mlflow_schema.INTERRUPTED, 0)
    assert mlflow_schema.tags(stopped, "here")["slm.interrupted"] == "true"


def test_time_outside_the_windows_is_what_is_left(config: RunConfig) -> None:
    record = trial.derive(a_trial(config), a_capture(), 0)
    record = dataclasses.replace(record, duration_s=9.0)
    assert mlflow_schema.metrics(record)["time/outside_windows_s"] == pytest.approx(9 - 7)


def test_a_duration_that_is_unknown_is_not_the_difference_of_two_dates(config: RunConfig) -> None:
    """The record of an earlier version, or of a job that left none."""
    record = dataclasses.replace(trial.derive(a_trial(config), a_capture(), 0), ended_unix_ns=-5)
    assert "time/serve_s" in mlflow_schema.metrics(record)
    assert not {"time/trial_s", "time/outside_windows_s"} & mlflow_schema.metrics(record).keys()


def test_a_plan_takes_no_negative_duration_of_an_earlier_version(config: RunConfig) -> None:
    stored = mlflow_schema.tags(trial.derive(a_trial(config), a_capture(), 0), "here")
    stored["slm.outcome"] = "valid"
    assert mlflow_schema.past(stored, {}, {"time/trial_s": -86_397.0}).duration_s is None
    assert mlflow_schema.past(stored, {}, {"time/trial_s": 3.0}).duration_s == 3


def test_gauges_go_under_the_names_of_the_system_metrics_tab(config: RunConfig) -> None:
    points = mlflow_schema.system_series(trial.derive(a_trial(config), a_capture(), 0))
    assert {point.name for point in points} == {"system/cpu_utilization_percentage"}
    assert [point.step for point in points] == list(range(len(points)))
    assert points[0].unix_ms == 1_700_000_000_000


def test_a_long_series_is_thinned_and_skips_failed_readings() -> None:
    counter = a_counter()
    assert len(mlflow_schema.thinned(counter)) == len(counter.raw)
    times = tuple(range(1000))
    raw = (None, *range(1, 1000))
    long = dataclasses.replace(counter, before_ns=times, raw=raw, after_ns=times)
    points = mlflow_schema.thinned(long)
    assert len(points) <= 300
    assert points[0] == (1, 1.0)


def test_a_trials_joules_are_the_sum_of_its_windows_measured_and_estimated_apart() -> None:
    values = {
        "energy/total_j": 100.0,
        "energy/total_low_j": 99.0,
        "energy/load_total_j": 20.0,
        "energy/net_total_j": 60.0,
        "energy/cpu_package_j": 80.0,
        "energy_estimated/total_j": 7.0,
    }
    assert mlflow_schema.joules(values) == {"measured": 120.0, "estimated": 7.0}
    assert mlflow_schema.joules({"latency/ttft_p50_s": 1.0}) == {}
