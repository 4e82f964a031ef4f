"""Which trials count."""

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis.trials.frame import tidy
from slm_energy.errors import AnalysisError

ENERGY = "energy/per_output_token_j"


def again(frame, row, **changes):
    """The frame with one more attempt at the trial in `row`."""
    extra = frame.loc[[row]].assign(attempt=2, started="2026-01-02T00:00", **changes)
    return pd.concat([frame, extra], ignore_index=True)


def failed(frame, row, reason="worker ended with exit code 137"):
    frame = frame.copy()
    frame.loc[row, ["outcome", "reason"]] = ["failed", reason]
    frame.loc[row, [name for name in frame if "/" in name]] = float("nan")
    return frame


def test_a_complete_study(study):
    result = tidy(study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=3), "toy")
    assert result.rounds == (1, 2, 3)
    assert result.audit.outcomes == {"valid": 6}
    assert result.block(ENERGY).shape == (3, 2)
    assert np.isnan(result.block("energy/none_j")).all()


def test_labels_leave_out_what_all_cells_share(study):
    result = tidy(study({"torch/cpu": 0.03, "onnx/cpu": 0.01}), "toy")
    assert result.labels == {"torch-cpu": "torch", "onnx-cpu": "onnx"}
    assert result.shared == ("model bundled", "provider cpu")


def test_options_that_only_one_engine_has_are_named_only_where_they_differ(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=2)
    onnx = frame["engine.name"] == "onnx"
    frame["engine.options.io_binding"] = pd.Series("auto", frame.index).where(onnx)
    assert tidy(frame, "toy").labels["onnx-cpu"] == "onnx"
    off = frame[onnx].assign(**{"cell": "onnx-off", "engine.options.io_binding": "off"})
    labels = tidy(pd.concat([frame, off], ignore_index=True), "toy").labels
    assert labels["onnx-off"] == "onnx / io_binding=off"
    assert labels["torch-cpu"] == "torch"


def test_models_whose_names_have_the_separator_keep_their_names(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01})
    frame["model.name"] = frame["engine.name"].map({"torch": "Llama / 1B", "onnx": "Llama / 3B"})
    labels = tidy(frame, "toy").labels
    assert labels == {"torch-cpu": "Llama / 1B / torch", "onnx-cpu": "Llama / 3B / onnx"}


def test_a_single_cell_keeps_a_label(study):
    assert tidy(study({"torch/cpu": 0.03}), "toy").labels == {"torch-cpu": "torch / cpu"}


def test_a_valid_attempt_counts_over_a_later_failure(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=2)
    result = tidy(again(frame, 0, outcome="failed", reason="killed"), "toy")
    assert result.audit.outcomes == {"valid": 4}


def test_the_latest_of_two_valid_attempts_counts(study):
    frame = again(study({"torch/cpu": 0.03}, rounds=2), 0, **{ENERGY: 0.5})
    assert tidy(frame, "toy").block(ENERGY)[0, 0] == 0.5


def test_a_retry_that_worked_replaces_the_failure(study):
    frame = study({"torch/cpu": 0.03}, rounds=2)
    assert tidy(again(failed(frame, 0), 0, outcome="valid", reason=None), "toy").audit.outcomes == {
        "valid": 2
    }


def test_what_is_not_valid_is_accounted_for(study):
    frame = failed(study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=3), 2)
    frame = frame.drop(index=5)
    cuda = frame.loc[[0]].assign(
        cell="x", round=0, outcome="unsupported", reason="no CUDA\n  device"
    )
    cuda = cuda.assign(**{"provider.name": "cuda"})
    result = tidy(pd.concat([frame, cuda], ignore_index=True), "toy")
    bad = {(s.outcome, s.round, s.reason) for s in result.audit.slots if s.outcome != "valid"}
    assert bad == {
        ("failed", 2, "worker ended with exit code 137"),
        ("missing", 3, "not run"),
        ("unsupported", 0, "no CUDA device"),
    }
    assert result.cells[-1] == "x"
    assert result.audit.complete_rounds == (1,)  # of the supported cells


def test_a_cell_that_became_supported_is_no_longer_unsupported(study):
    frame = study({"torch/cpu": 0.03}, rounds=2)
    before = frame.loc[[0]].assign(round=0, outcome="unsupported", reason="library not installed")
    assert tidy(pd.concat([frame, before], ignore_index=True), "toy").audit.outcomes == {"valid": 2}


def test_machines_are_never_mixed(study):
    both = pd.concat(
        [study({"torch/cpu": 0.03}, machine="lab-1"), study({"onnx/cpu": 0.01}, machine="lab-2")],
        ignore_index=True,
    )
    with pytest.raises(AnalysisError, match=r"2 machines \(lab-1, lab-2\).*machine=lab-1"):
        tidy(both, "toy")
    assert tidy(both, "toy", "lab-2").cells == ("onnx-cpu",)
    with pytest.raises(AnalysisError, match=r"machine=lab-3: .* it has: lab-1, lab-2"):
        tidy(both, "toy", "lab-3")


def test_an_empty_study(study):
    with pytest.raises(AnalysisError, match="study=toy: no trials found"):
        tidy(study({"torch/cpu": 0.03}).head(0), "toy")
    with pytest.raises(AnalysisError, match="study=toy: no trials found"):
        tidy(pd.DataFrame(), "toy")


def test_no_valid_trial_says_why(study):
    frame = study({"torch/cpu": 0.03}, rounds=2).assign(outcome="failed", reason="out of\nmemory")
    with pytest.raises(AnalysisError, match=r"no valid trial \(2 failed\); most often: out of mem"):
        tidy(frame, "toy")


def test_a_cell_without_a_valid_trial_is_left_out_with_the_reason_of_its_last_trial(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=3)
    for row in frame.index[frame["engine.name"] == "onnx"]:
        frame = failed(frame, row, "out of memory" if row else "killed")
    (out,) = tidy(frame, "toy").left_out()
    assert (out.scope, out.name) == ("cell", "onnx")
    assert out.reason == "failed in 3 of 3 rounds: out of memory"


def test_factors_are_the_settings_that_vary(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds=2)
    frame["engine.options.io_binding"] = pd.Series("on", frame.index).where(
        frame["engine.name"] == "onnx"
    )
    toy = tidy(frame, "toy")
    found = toy.factors(("model", "engine", "engine.options.io_binding"), "factors")
    assert [(f.name, set(f.levels)) for f in found] == [
        ("engine", {"torch", "onnx"}),
        ("engine.options.io_binding", {"none", "on"}),
    ]
    with pytest.raises(AnalysisError, match=r"families: no trial of study=toy has the .* 'x.name'"):
        toy.factors(("x",), "families")
