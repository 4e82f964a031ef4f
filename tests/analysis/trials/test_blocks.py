"""What of the trials becomes values, and what is said of the rest."""

import numpy as np

from slm_energy.analysis import options
from slm_energy.analysis.trials.blocks import trial_facts, usable
from slm_energy.analysis.trials.frame import tidy

TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}
LATENCY = "latency/e2e_p50_s"


def values(frame, *metrics):
    blocks, left_out = usable(tidy(frame, "toy"), options({"study": "toy", "metrics": metrics}))
    return {metric.name: block for metric, block in blocks}, left_out


def test_the_values_are_rounds_by_cells_and_nothing_is_left_out(study):
    frame = study(TWO)
    blocks, left_out = values(frame, LATENCY)
    assert left_out == []
    block = blocks[LATENCY]
    for column, cell in enumerate(block.cells):
        own = frame[frame["cell"] == cell].sort_values("round")[LATENCY]
        assert block.values[:, column].tolist() == own.tolist()


def test_bounds_with_sensor_gain_come_with_the_values(study):
    energy = "energy/per_output_token_j"
    frame = study(TWO)
    assert values(frame, energy)[0][energy].with_gain is None
    for end, share in (("low", 0.95), ("high", 1.05)):
        frame[f"energy/per_output_token_{end}_with_gain_j"] = frame[energy] * share
    found = values(frame, energy)[0][energy]
    low, high = found.with_gain
    assert np.allclose(low / found.values, 0.95)
    assert np.allclose(high / found.values, 1.05)


def test_values_that_form_no_ratio_are_returned_as_left_out(study):
    frame = study(TWO)
    frame.loc[0, LATENCY] = 0.0
    frame.loc[1, LATENCY] = np.nan
    blocks, left_out = values(frame, LATENCY)
    assert np.isnan(blocks[LATENCY].values).sum() == 2
    assert [out.scope for out in left_out] == ["trial", "metric"]
    assert left_out[1].reason == "2 of 10 valid trials have no value"


def test_a_metric_without_any_value_is_left_out_as_a_whole(study):
    blocks, left_out = values(
        study(TWO).assign(**{LATENCY: 0.0}), "memory/process_peak_mb", LATENCY
    )
    assert list(blocks) == ["memory/process_peak_mb"]
    assert left_out[-1].reason == "no valid trial has a value above zero"


def test_a_temperature_at_the_start_is_a_fact_of_its_trial(study):
    frame = study(TWO)
    assert {fact.temperature_c for fact in trial_facts(tidy(frame, "toy").valid)} == {None}
    frame["thermal/gpu_start_c"] = 40.0 + frame["order"]
    facts = trial_facts(tidy(frame, "toy").valid)
    assert [fact.temperature_c for fact in facts] == [40.0 + fact.order for fact in facts]
