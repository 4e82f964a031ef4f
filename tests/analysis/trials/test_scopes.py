"""Totals of different scope are never pooled, and the report names the scope that it has."""

import pandas as pd
import pytest

from slm_energy.analysis.build import build
from slm_energy.analysis.options import options
from slm_energy.analysis.trials.frame import tidy
from slm_energy.errors import AnalysisError
from slm_energy.scope import of_domains
from tests.analysis.conftest import (
    DRAM,
    GPU_ONLY,
    PACKAGE,
    WHOLE,
    WITHOUT_GPU,
    a_scope,
    with_scope,
)

OTHER_GPU = a_scope(PACKAGE, DRAM, ("gpu", "GPU-2 NVIDIA H100"))
COSTS = {"torch/cpu": 0.3, "onnx/cpu": 0.2}


def means(report):
    """Geometric mean of each cell by the metric that decides, and its number of trials."""
    rows = report.deciding[0].descriptive
    return {row.cell: (pytest.approx(row.mean), row.trials) for row in rows}


def test_rounds_of_another_scope_are_left_out_with_the_reason(study):
    rows = study(COSTS, rounds=5)
    mixed = with_scope(rows, WHOLE, WHOLE, WHOLE, WITHOUT_GPU, WITHOUT_GPU)
    report = build(mixed, options({"study": "toy"}))
    own = build(rows[rows["round"] <= 3], options({"study": "toy"}))
    assert means(report) == means(own)
    assert report.audit.outcomes == {"valid": 6, "invalid": 4}
    [out] = [out for out in report.left_out if out.name == "4 trials of another scope"]
    assert "measured over processor package and DRAM of 1 socket, not over" in out.reason
    assert "(no longer: gpu GPU-1)" in out.reason
    assert report.scope == WHOLE.words


def test_the_same_domains_of_another_device_are_another_scope(study):
    rows = with_scope(study(COSTS, rounds=3), WHOLE, OTHER_GPU, WHOLE)
    [out] = tidy(rows, "toy").other_scopes
    assert "(no longer: gpu GPU-1; new: gpu GPU-2)" in out.reason


def test_of_equally_many_trials_those_of_the_first_rounds_count(study):
    rows = with_scope(study(COSTS, rounds=4), WITHOUT_GPU, WITHOUT_GPU, WHOLE, WHOLE)
    found = tidy(rows, "toy")
    assert found.scope == WITHOUT_GPU
    assert set(found.valid["round"]) == {1, 2}


def test_a_trial_that_was_run_again_over_the_study_s_scope_counts(study):
    rows = with_scope(study(COSTS, rounds=2), WHOLE)
    first = rows[rows["round"] == 1]
    again = with_scope(first.assign(attempt=2, run_id="again" + first["run_id"]), WHOLE)
    spoiled = pd.concat([with_scope(first, WITHOUT_GPU), rows[rows["round"] == 2], again])
    found = tidy(spoiled.reset_index(drop=True), "toy")
    assert found.audit.complete_rounds == (1, 2)
    assert found.scope == WHOLE


def test_trials_without_a_measured_sum_have_no_scope_to_differ_in(study):
    rows = study(COSTS, rounds=2, kind="energy_estimated")
    assert tidy(rows, "toy").scope is None
    found = tidy(with_scope(study(COSTS, rounds=2), WHOLE, None), "toy")
    assert found.scope == WHOLE
    assert len(found.valid) == 4


def test_a_scope_whose_devices_were_not_recorded_is_a_scope_of_its_own(study):
    old = of_domains(["cpu_package", "dram", "gpu"])
    rows = with_scope(study(COSTS, rounds=3), WHOLE, WHOLE, old)
    [out] = tidy(rows, "toy").other_scopes
    assert "cpu_package, dram, gpu (devices not recorded)" in out.reason
    alone = tidy(with_scope(study(COSTS, rounds=3), old), "toy")
    assert alone.other_scopes == ()


def test_older_trials_whose_sum_lacks_their_own_device_are_not_valid(study):
    rows = study({"torch/cpu": 0.3, "torch/cuda": 0.1, "onnx/cuda": 0.2}, rounds=3)
    report = build(with_scope(rows, GPU_ONLY), options({"study": "toy"}))
    [out] = [out for out in report.left_out if out.scope == "cell"]
    assert "its sum lacks the processor that it computed on" in out.reason
    assert set(means(report)) == {"torch-cuda", "onnx-cuda"}
    with pytest.raises(AnalysisError, match="its sum lacks the GPU that it computed on"):
        tidy(with_scope(study({"torch/cuda": 1}), WITHOUT_GPU), "toy")


def test_older_sums_without_processors_are_not_called_totals(study):
    rows = study({"torch/cuda": 0.3, "onnx/cuda": 0.2}, rounds=3)
    report = build(with_scope(rows, GPU_ONLY), options({"study": "toy"}))
    [result] = report.deciding
    assert result.metric.name == "energy_devices/per_output_token_j"
    assert result.metric.heading == "Device energy per output token"
    assert report.findings[0].endswith(
        " Measured: GPU only: 1 GPU (NVIDIA H100); processors and memory not included."
    )
