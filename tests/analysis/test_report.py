"""The report as a reader gets it."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from slm_energy.analysis import build, options
from slm_energy.errors import AnalysisError

TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}
FOUR = {**TWO, "openvino/cpu": 0.0121, "torch/cuda": 0.02}
ENERGY = "energy/per_output_token_j"


def report(frame, **keys):
    return build(frame, options({"study": "toy", **keys}))


def terminal(result, width=120):
    console = Console(width=width, file=io.StringIO())
    result.to_terminal(console)
    return console.file.getvalue()


def test_the_verdict_is_a_sentence(study):
    assert report(study(TWO)).findings == (
        "onnx costs 64 % less energy per output token than torch, 95 % interval 63 to 64 %, "
        "cheaper in 5 of 5 rounds.",
    )


def test_an_estimate_says_so_everywhere(study):
    result = report(study(TWO, kind="energy_estimated"))
    text = terminal(result)
    assert "less energy per output token than torch (estimated)," in result.findings[0]
    assert "Energy estimated mJ/token" in result.to_markdown()
    assert "Energy per output token (estimated)" in text
    assert "Estimated energy comes from CodeCarbon's model of the machine: not measured." in text
    assert "estimated" not in terminal(report(study(TWO))).replace("not estimated", "")


def test_estimates_are_never_compared_with_measurements(study):
    measured = study(TWO)
    model = study({"onnx/tpu": 0.001, "torch/tpu": 0.002}, kind="energy_estimated")
    result = report(pd.concat([measured, model], ignore_index=True), pairs="all")
    found = {s.metric.name: {(p.a, p.b) for p in s.comparison.pairs} for s in result.sections[:2]}
    assert found == {
        ENERGY: {("onnx-cpu", "torch-cpu")},
        "energy_estimated/per_output_token_j": {("onnx-tpu", "torch-tpu")},
    }
    assert len(result.findings) == 2
    assert "Measured and estimated cells are ranked apart: they cannot be compared." in result.notes
    assert result.cells[0].label == "onnx / cpu"  # though 0.001 J is less


def test_a_measured_cell_does_not_show_its_estimate(study):
    frame = study(TWO).assign(**{"energy_estimated/per_output_token_j": 0.5})
    result = report(frame)
    assert result.sections[0].metric.name == ENERGY
    assert not any(
        section.metric.estimated for section in result.sections if section.comparison.pairs
    )


def test_the_best_cell_is_the_reference_unless_another_is_named(study):
    best = report(study(FOUR)).sections[0].comparison.pairs
    other = report(study(dict(reversed(FOUR.items()))), reference="torch / cpu")
    named = other.sections[0].comparison.pairs
    assert {pair.a for pair in best} == {"onnx-cpu"}
    assert {pair.b for pair in named} == {"torch-cpu"}
    assert {pair.verdict for pair in named} == {"saves"}
    assert named[0].a == "onnx-cpu"  # best first
    assert other.findings[0].startswith("onnx / cpu costs 63 % less")


def test_cells_are_compared_within_their_model(study):
    small = study({"onnx/cpu": 0.010, "torch/cpu": 0.020})
    large = study({"onnx/cpu": 0.500, "torch/cpu": 0.400}, seed=2)
    large["model.name"], large["cell"] = "large", "large-" + large["cell"]
    report = build(pd.concat([small, large]), options({"study": "toy"}))
    pairs = [(p.a, p.b) for p in report.sections[0].comparison.pairs]
    assert pairs == [("onnx-cpu", "torch-cpu"), ("large-torch-cpu", "large-onnx-cpu")]
    assert [cell.model for cell in report.cells] == ["bundled", "bundled", "large", "large"]
    assert len(report.findings) == 2
    named = build(
        pd.concat([small, large]), options({"study": "toy", "reference": "large / torch"})
    )
    assert len(named.sections[0].comparison.pairs) == 3


def test_one_cell_per_model_is_not_ranked_across_models(study):
    small, large = study({"onnx/cpu": 0.010}), study({"onnx/cpu": 0.500}, seed=2)
    large["model.name"], large["cell"] = "large", "large-" + large["cell"]
    report = build(pd.concat([small, large]), options({"study": "toy"}))
    assert report.sections[0].comparison.pairs == ()
    assert "reference=CELL compares across models" in report.findings[0]


def test_the_other_metrics_follow_the_same_pairs(study):
    result = report(study(FOUR))
    pairs = [[(p.a, p.b) for p in section.comparison.pairs] for section in result.sections]
    assert all(asked == pairs[0] for asked in pairs)
    throughput = result.sections[2]
    assert throughput.metric.name == "throughput/output_tokens_per_s"
    assert throughput.comparison.pairs[-1].verdict == "gains"


def test_cells_that_cannot_be_told_apart(study):
    text = " ".join(report(study({**FOUR, "openvino/cpu": 0.012}, noise=0.02)).findings)
    assert "against openvino / cpu, energy per output token: inconclusive, ratio" in text
    assert "more rounds would settle it" in text


def test_equivalent_cells(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.03}, noise=0.001, rounds=8)
    assert "are equivalent in energy per output token" in report(frame).findings[0]
    assert "within the margin of 2 %" in report(frame).findings[0]


def test_one_round_is_a_ratio_without_a_verdict(study):
    result = report(study(TWO, rounds=1))
    assert result.findings[0].endswith("no verdict: one round gives no interval.")
    assert "+1 round" in terminal(result)


def test_one_cell_has_nothing_to_compare_with(study):
    result = report(study({"torch/cpu": 0.03}))
    assert "there is nothing to compare" in result.findings[0]
    assert "torch / cpu" in terminal(result)


def test_the_audit_appears_only_when_something_is_not_valid(study):
    frame = study(TWO)
    assert "not valid" not in terminal(report(frame))
    frame.loc[0, ["outcome", "reason"]] = ["invalid", "[red]foreign load | 40 %\nsecond line"]
    text = terminal(report(frame))
    assert "9 of 10 trials valid" in text
    assert "[red]foreign load | 40 % second line" in text  # text from a run is never markup
    assert "\\[red]foreign load \\| 40 % second line |" in report(frame).to_markdown()


def test_a_cell_that_failed_always_is_left_out_by_name(study):
    frame = study(FOUR)
    frame.loc[frame["engine.name"] == "openvino", ["outcome", "reason"]] = ["failed", "killed"]
    result = report(frame)
    left_out = "Without a valid value of energy per output token, so left out: openvino / cpu."
    assert left_out in result.notes
    assert "5 failed" in terminal(result)


def test_the_audit_groups_what_has_the_same_reason(study):
    frame = study({f"e{i}/cpu": 0.01 * (1 + i) for i in range(30)}, rounds=3)
    frame.loc[frame["round"] == 3, ["outcome", "reason"]] = ["failed", "interrupted"]
    frame.loc[frame["round"] == 2, "outcome"] = "invalid"
    frame.loc[frame["round"] == 2, "reason"] = [f"foreign load {i} %" for i in range(30)]
    text = terminal(report(frame))
    assert "30 failed   interrupted" in text
    assert "e0 / cpu" not in text  # what all cells share is said once
    assert "and 11 more reasons" in text
    assert "No p: of 3 rounds 1 with a valid trial of all 30 cells." in text


def test_many_cells_stay_readable_in_100_columns(study):
    engines = ["torch", "torch_compile", "torchscript", "onnx", "openvino", "llama_cpp", "exllama"]
    costs = {
        f"{engine}{size}/{provider}": 0.01 * (3 + index) * (1 + size)
        for index, engine in enumerate(engines)
        for size in range(6)
        for provider in ("cpu", "cuda")
    }
    result = report(study(costs, rounds=3))
    text = terminal(result)
    assert len(result.sections[0].comparison.pairs) == 83
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\n") < 330


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_wraps_and_loses_nothing(study, width):
    both = [study(FOUR), study({"torch/tpu": 0.2}, kind="energy_estimated")]
    text = terminal(report(pd.concat(both, ignore_index=True)), width)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in ("openvino", "memory", "640", "TTFT"))


def test_json_has_every_figure_and_no_nan(study):
    frame = study(FOUR)
    frame.loc[0, ["outcome", "reason"]] = ["failed", "killed"]
    data = json.loads(report(frame).to_json())
    pair = data["sections"][0]["comparison"]["pairs"][-1]
    assert {"ratio", "low", "high", "p", "delta", "verdict", "wide_low"} <= set(pair)
    assert data["cells"][0]["figures"][ENERGY]["mean"] == pytest.approx(0.012, rel=0.1)


def test_markdown_has_the_same_tables(study):
    text = report(study(TWO)).to_markdown()
    assert text.startswith("# toy on lab-1: 2 cells, 5 rounds, 10 of 10 trials valid\n")
    assert "| onnx | 5/5 | **12.1 (" in text
    assert "| onnx against torch | 0.364 (0.360 to 0.369) | 64 % |" in text


def test_zero_and_infinity_cannot_form_a_ratio(study):
    frame = study(TWO)
    frame.loc[[0, 2], ENERGY] = [0.0, float("inf")]
    notes = " ".join(report(frame).notes)
    assert "2 values that are not above zero and finite cannot form a ratio" in notes


def test_without_energy_the_next_metric_decides(study):
    frame = study(TWO)
    frame = frame.drop(columns=[name for name in frame if name.startswith("energy/")])
    result = report(frame)
    assert "No energy was recorded: the trials ran with measurement=off." in result.notes
    assert "less end-to-end latency p50 than torch" in result.findings[0]
    assert result.findings[0].startswith("onnx has 64 % less")


def test_a_coarse_instrument_decides_nothing(study):
    frame = study({"torch/cpu": 0.0125, "onnx/cpu": 0.012}, noise=0.001, own_interval=0.1)
    result = report(frame)
    assert "below the instrument's resolution" in result.findings[0]
    assert "below resolution" in terminal(result)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"metrics": ["latency/e2e_p5O_s"]},
            "no trial of study=toy has 'latency/e2e_p5O_s'; it has",
        ),
        ({"metrics": ["energy/per_tokn_j"]}, "has 'energy/per_tokn_j'; it has: energy/per_output"),
        ({"reference": "jax"}, "reference=jax: no such cell; study=toy has: "),
        ({"machine": "lab-9"}, "machine=lab-9: study=toy has no trial of it; it has: lab-1"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(study, keys, message):
    with pytest.raises(AnalysisError) as error:
        report(study(TWO), **keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_reference_without_valid_trials_is_refused(study):
    frame = study(TWO)
    frame.loc[frame["engine.name"] == "onnx", ["outcome", "reason"]] = ["failed", "killed"]
    with pytest.raises(AnalysisError, match="reference=onnx has no valid trial"):
        report(frame, reference="onnx")
