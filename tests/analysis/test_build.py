"""The report as a reader gets it."""

import dataclasses
import io
import json

import pandas as pd
import pytest
from rich.console import Console

from slm_energy.analysis import Report, build, options
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.render.terminal import to_terminal
from slm_energy.analysis.result.report import MOST_WHOLE
from slm_energy.errors import AnalysisError
from slm_energy.serialization import from_plain
from tests.analysis.conftest import make_models

TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}
FOUR = {**TWO, "openvino/cpu": 0.0121, "torch/cuda": 0.02}
ENERGY = "energy/per_output_token_j"


def report(frame, **keys):
    return build(frame, options({"study": "toy", "draws": 999, **keys}))


def pairs(result):
    """All pairs of one metric."""
    return [pair for family in result.families for pair in family.pairs]


def headline(result):
    """The pairs with the reference of the metric that decides."""
    return [pair for family in result.metrics[0].families for pair in family.headline]


def terminal(result, width=120):
    console = Console(width=width, file=io.StringIO())
    to_terminal(result, console)
    return console.file.getvalue()


def test_the_verdict_is_a_sentence(study):
    assert report(study(TWO)).findings == (
        "onnx costs 64 % less energy per output token than torch, 95 % interval 63 to 64 %, "
        "cheaper in 5 of 5 rounds. The verdict holds without any single round.",
    )


def test_an_estimate_says_so_everywhere(study):
    result = report(study(TWO, kind="energy_estimated"))
    text = terminal(result)
    assert "less energy per output token than torch (estimated)," in result.findings[0]
    assert "Energy estimated mJ/token" in to_markdown(result)
    assert "Energy per output token (estimated)" in text
    assert (
        "Estimated energy comes from CodeCarbon's model of the machine, not from a measurement."
        in text
    )
    assert "estimated" not in terminal(report(study(TWO))).replace("not estimated", "")


def test_estimates_are_never_compared_with_measurements(study):
    measured = study(TWO)
    model = study({"onnx/tpu": 0.001, "torch/tpu": 0.002}, kind="energy_estimated")
    result = report(pd.concat([measured, model], ignore_index=True))
    found = {m.metric.name: {(p.a, p.b) for p in pairs(m)} for m in result.deciding}
    assert found == {
        ENERGY: {("onnx-cpu", "torch-cpu")},
        "energy_estimated/per_output_token_j": {("onnx-tpu", "torch-tpu")},
    }
    assert len(result.findings) == 2
    assert (
        "Measured and estimated cells are ranked separately: they cannot be compared."
        in result.notes
    )
    assert result.cells[0].label == "onnx / cpu"  # though 0.001 J is less


def test_a_measured_cell_does_not_show_its_estimate(study):
    frame = study(TWO).assign(**{"energy_estimated/per_output_token_j": 0.5})
    result = report(frame)
    assert [m.metric.name for m in result.deciding] == [ENERGY]


def test_the_best_cell_is_the_reference_unless_another_is_named(study):
    best = headline(report(study(FOUR)))
    other = report(study(dict(reversed(FOUR.items()))), reference="torch / cpu")
    assert {pair.a for pair in best} == {"onnx-cpu"}
    assert {pair.b for pair in headline(other)} == {"torch-cpu"}
    assert {pair.verdict for pair in headline(other)} == {"saves"}
    assert other.findings == (
        "onnx / cpu costs 63 % less energy per output token than torch / cpu, simultaneous 95 % "
        "interval 62 to 64 %, cheaper in 5 of 5 rounds. The verdict holds without any single "
        "round.",
    )


def two_models(study):
    small = study({"onnx/cpu": 0.010, "torch/cpu": 0.020})
    large = study({"onnx/cpu": 0.500, "torch/cpu": 0.400}, seed=2)
    large["model.name"], large["cell"] = "large", "large-" + large["cell"]
    return pd.concat([small, large], ignore_index=True)


def test_a_report_says_how_many_comparisons_it_made(study):
    assert report(two_models(study), metrics=[ENERGY]).methods[2] == (
        "Tested: 2 comparisons (families of cells on 1 metric) with 2 pairs in all. The error rate "
        "0.05 holds for each comparison, not for all of them together; adjust=study gives one rate "
        "for all."
    )
    one = report(study(FOUR), metrics=[ENERGY], families=[]).methods[2]
    assert one == (
        "Tested: 1 comparison (families of cells on 1 metric) with 6 pairs in all, with the error "
        "rate 0.05."
    )


def test_adjust_study_gives_one_error_rate_to_all_families_and_metrics(study):
    frame = two_models(study)
    several = report(frame, metrics=[ENERGY, "latency/e2e_p50_s"])
    shared = report(frame, metrics=[ENERGY, "latency/e2e_p50_s"], adjust="study")
    assert "4 comparisons (families of cells on 2 metrics)" in shared.methods[2]
    assert "They share the error rate 0.05 in equal parts (Bonferroni)" in shared.methods[2]
    strict = report(frame, metrics=[ENERGY, "latency/e2e_p50_s"], alpha=0.05 / 4)
    for each, alone, level in zip(
        headline(shared), headline(several), headline(strict), strict=True
    ):
        assert (each.joint_low, each.joint_high) == pytest.approx((level.low, level.high))
        assert (each.low, each.high) == (alone.low, alone.high)
        assert each.p == pytest.approx(min(1, 4 * alone.p))
    assert "simultaneous 95 % interval" in shared.findings[0]
    assert "simultaneous" not in several.findings[0]


def test_adjust_study_refuses_too_few_draws_by_name(study):
    with pytest.raises(AnalysisError, match="adjust=study: draws=999 are too few"):
        report(study(FOUR), metrics=[ENERGY], families=[], adjust="study", alpha=0.001)


def test_findings_show_the_interval_of_the_extreme_pair_that_holds_for_all_pairs(study):
    result = report(study(FOUR), families=[])
    last = headline(result)[-1]
    low, high = (round(100 * (1 - end)) for end in (last.joint_high, last.joint_low))
    assert f"simultaneous 95 % interval {low} to {high} %" in result.findings[-1]
    page = to_markdown(result)
    assert ", simultaneous 95 % intervals" in page


def test_equivalence_shows_the_interval_of_two_one_sided_tests(study):
    costs = {"torch/cpu": 0.02, "onnx/cpu": 0.02, "openvino/cpu": 0.03}
    result = report(study(costs, 8, noise=0.002))
    [line] = [line for line in result.findings if "are equivalent" in line]
    assert "simultaneous 90 % interval" in line


def test_cells_are_compared_within_their_model(study):
    result = report(two_models(study))
    assert [(p.a, p.b) for p in headline(result)] == [
        ("onnx-cpu", "torch-cpu"),
        ("large-torch-cpu", "large-onnx-cpu"),
    ]
    assert [family.name for family in result.metrics[0].families] == ["bundled", "large"]
    assert [cell.family for cell in result.cells] == ["bundled", "bundled", "large", "large"]
    assert len(result.findings) == 2
    assert "within the same model" in result.methods[1]


def test_without_families_every_cell_is_compared_with_every_one(study):
    result = report(two_models(study), families=[])
    assert len(pairs(result.metrics[0])) == 6
    assert "within the same" not in result.methods[1]


def test_a_reference_is_named_in_every_family_or_in_one(study):
    each = report(two_models(study), reference="torch")
    one = report(two_models(study), reference="large / torch")
    assert [family.named for family in each.metrics[0].families] == [True, True]
    assert [family.named for family in one.metrics[0].families] == [False, True]
    assert [pair.b for pair in headline(each)] == ["torch-cpu", "large-torch-cpu"]


def test_names_with_a_separator_are_neither_split_nor_merged(study):
    frame = two_models(study)
    large = frame["model.name"] == "large"
    names = ["model.name", "provider.name"]
    frame.loc[large, names], frame.loc[~large, names] = ["a / torch", "c"], ["a", "torch / c"]
    pair = ["model", "provider"]
    families = report(frame, families=pair).metrics[0].families
    assert {family.name for family in families} == {'"a / torch" / c', 'a / "torch / c"'}
    frame.loc[~large, "provider.name"] = "d"
    families = report(frame, families=pair, reference="torch").metrics[0].families
    assert [family.named for family in families] == [True, True]


def test_one_cell_per_model_is_not_ranked_across_models(study):
    small, large = study({"onnx/cpu": 0.010}), study({"onnx/cpu": 0.500}, seed=2)
    large["model.name"], large["cell"] = "large", "large-" + large["cell"]
    result = report(pd.concat([small, large], ignore_index=True))
    assert headline(result) == []
    assert "families=[] compares all cells" in result.findings[0]


def test_the_other_metrics_are_shown_for_the_same_pairs(study):
    result = report(study(FOUR))
    text = terminal(result)
    assert "Other metrics, ratio and verdict: onnx / cpu against" in text
    assert "2.75 gains" in text  # tokens/s, though torch / cpu is ranked last there


def test_cells_that_cannot_be_told_apart(study):
    text = " ".join(report(study({**FOUR, "openvino/cpu": 0.012}, noise=0.02)).findings)
    assert "against openvino / cpu, energy per output token: inconclusive, ratio" in text
    assert "would settle it with a chance of 0.8" in text


def test_equivalent_cells(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.03}, noise=0.001, rounds=8)
    assert "are equivalent in energy per output token" in report(frame).findings[0]
    assert "within the margin of 2 %" in report(frame).findings[0]


def test_one_round_is_a_ratio_without_a_verdict(study):
    result = report(study(TWO, rounds=1))
    assert result.findings[0].endswith("no verdict: one round gives no interval.")
    assert "+1 round" not in terminal(result)  # one more round need not settle it


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
    assert "\\[red]foreign load \\| 40 % second line |" in to_markdown(report(frame))


def test_a_cell_that_failed_always_is_left_out_by_name(study):
    frame = study(FOUR)
    frame.loc[frame["engine.name"] == "openvino", ["outcome", "reason"]] = ["failed", "killed"]
    result = report(frame)
    assert "Left out: openvino / cpu: failed in 5 of 5 rounds: killed." in result.notes
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
    assert "No p: no two cells share enough valid rounds." in text


def test_many_cells_stay_readable_in_100_columns(study):
    engines = ["torch", "torch_compile", "torchscript", "onnx", "openvino", "llama_cpp", "exllama"]
    costs = {
        f"{engine}{size}/{provider}": 0.01 * (3 + index) * (1 + size)
        for index, engine in enumerate(engines)
        for size in range(3)
        for provider in ("cpu", "cuda")
    }
    result = report(study(costs, rounds=4))
    text = terminal(result)
    assert len(headline(result)) == 41
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\n") < 190


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_wraps_and_loses_nothing(study, width):
    both = [study(FOUR), study({"torch/tpu": 0.2}, kind="energy_estimated")]
    text = terminal(report(pd.concat(both, ignore_index=True)), width)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in ("openvino", "Energy", "TTFT"))


def test_agreement_with_the_reference_stands_beside_what_a_cell_costs(study):
    frame = study(FOUR)
    assert "Agrees" not in terminal(report(frame))
    frame["quality/agreement"] = 1.0
    frame.loc[frame["cell"] == "onnx-cpu", "quality/agreement"] = 0.75
    frame.loc[frame["cell"] == "torch-cuda", "quality/agreement"] = None
    result = report(frame)
    found = {cell.id: cell.agreement for cell in result.cells}
    assert found == {"onnx-cpu": 0.75, "openvino-cpu": 1, "torch-cpu": 1, "torch-cuda": None}
    text = terminal(result, 100)
    assert "Agrees" in text
    [line] = [line for line in text.splitlines() if line.strip().startswith("onnx / cpu   ")][:1]
    assert line.split()[3:5] == ["5/5", "75.0"]
    [note] = [note for note in result.notes if "reference engine" in note]
    assert note == (
        "Generated tokens differ from the reference engine's: onnx / cpu (75.0 % of its prompts "
        "agree)."
    )
    assert any("Agreement is the share of prompts" in line for line in result.methods)
    assert [front.y.name for front in result.pareto][1:] == ["quality/agreement"]


def test_almost_all_is_not_shown_as_all(study):
    frame = study(TWO).assign(**{"quality/agreement": 0.9999})
    result = report(frame)
    assert " 99.9 " in terminal(result)
    assert any("torch (99.9 % of its prompts agree)" in note for note in result.notes)


def test_a_quality_that_all_cells_share_is_no_trade_off(study):
    result = report(study(TWO).assign(**{"quality/agreement": 1.0}))
    assert [front.y.name for front in result.pareto] == ["latency/e2e_p50_s"]
    assert not [note for note in result.notes if "reference engine" in note]


def test_agreement_can_be_compared_and_more_is_better(study):
    frame = study({"onnx/cpu": 0.8, "torch/cpu": 1.0}, noise=0.001)
    frame["quality/agreement"] = 1 / frame["throughput/output_tokens_per_s"]
    [result] = report(frame, metrics=["quality/agreement"]).metrics
    [pair] = pairs(result)
    assert (pair.a, pair.verdict) == ("torch-cpu", "gains")


def test_json_has_every_figure_and_no_nan(study):
    frame = study(FOUR)
    frame.loc[0, ["outcome", "reason"]] = ["failed", "killed"]
    data = json.loads(report(frame).to_json())
    pair = data["metrics"][0]["families"][0]["pairs"][-1]
    assert {"ratio", "low", "high", "p", "delta", "verdict", "wide_low"} <= set(pair)
    assert data["metrics"][0]["descriptive"][0]["mean"] == pytest.approx(0.012, rel=0.1)


def test_json_is_the_report_again(study):
    frame = study(FOUR).assign(**{"quality/pass_at_1": 0.5, "thermal/gpu_start_c": 40.0})
    result = report(frame)
    assert from_plain(Report, json.loads(result.to_json())) == result


def test_json_of_thousands_of_trials_leaves_the_metrics_that_are_not_compared_to_parquet(study):
    result = report(study(FOUR).assign(**{"thermal/gpu_start_c": 40.0}))
    many = dataclasses.replace(
        result, trials=result.trials * (1 + MOST_WHOLE // len(result.trials))
    )
    rows = json.loads(many.to_json())["trials"]
    assert len(rows) == len(many.trials) > MOST_WHOLE
    assert set(rows[0]["values"]) == {each.metric.name for each in many.metrics}
    assert rows[0]["values"].items() < result.trials[0].values.items()


def test_markdown_has_the_same_tables(study):
    text = to_markdown(report(study(TWO)))
    assert text.startswith("# toy on lab-1: 2 cells, 5 rounds, 10 of 10 trials valid\n")
    assert "| onnx | 5/5 | **12.1 (" in text
    assert "| torch | 0.364 (0.360 to 0.369) | 64 % less |" in text


def test_zero_and_infinity_cannot_form_a_ratio(study):
    frame = study(TWO)
    frame.loc[[0, 2], ENERGY] = [0.0, float("inf")]
    left_out = " ".join(out.reason for out in report(frame).left_out)
    assert "2 values that are not above zero and finite cannot form a ratio" in left_out


def test_without_energy_the_next_metric_decides(study):
    frame = study(TWO)
    frame = frame.drop(columns=[name for name in frame if name.startswith("energy/")])
    result = report(frame)
    assert result.left_out[0].reason == (
        "no energy was recorded: the trials ran with measurement=off"
    )
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


def test_a_metric_in_half_of_the_trials_says_so(study):
    frame = study(FOUR)
    frame.loc[frame["round"] > 2, ENERGY] = float("nan")
    result = report(frame)
    assert [row.trials for row in result.metrics[0].descriptive] == [2, 2, 2, 2]
    assert [row.trials for row in result.metrics[1].descriptive] == [5, 5, 5, 5]
    assert any(out.reason == "12 of 20 valid trials have no value" for out in result.left_out)


def test_a_constant_metric_has_no_verdict(study):
    result = report(study(FOUR).assign(**{ENERGY: 0.5}))
    assert {pair.verdict for pair in pairs(result.metrics[0])} == {"inconclusive"}
    assert "conventional tests: all values are the same" in " ".join(result.notes)


def test_it_accounts_for_every_trial_it_read(study):
    frame = study(FOUR)
    again = frame.loc[[0]].assign(attempt=2, started="2026-01-02T00:00")
    result = report(pd.concat([frame, again], ignore_index=True).assign(**{"version.torch": "2.1"}))
    assert (result.provenance.rows, result.provenance.repeated) == (21, 1)
    assert len(result.trials) == 20
    assert result.provenance.libraries == {"version.torch": ("2.1",)}
    assert result.provenance.last_started.startswith("2026-01-02T00:00")


def test_flagged_trials_stay_in_and_the_verdicts_that_rest_on_them_are_named(study):
    frame = study({"torch/cpu": 0.0106, "onnx/cpu": 0.01}, rounds=10, own_interval=None)
    frame.loc[frame["engine.name"] == "onnx", ENERGY] *= [1] * 9 + [2]
    seen = report(frame).metrics[0].diagnostics
    assert [point.round for point in seen.points if point.outlier] == [10]
    (changed,) = seen.changed
    assert (changed.verdict, changed.without) == ("inconclusive", "worse")


def test_the_words_tell_an_estimate_from_a_measurement(study):
    measured, guessed = report(study(TWO)), report(study(TWO, kind="energy_estimated"))
    assert "measured by hardware counters" in measured.methods[0]
    assert "estimate of a model" not in measured.methods[0]
    assert "not a measurement" in guessed.methods[0]
    assert "measured by hardware" not in guessed.methods[0]


def test_several_models_have_a_sentence_about_models_in_general():
    result = report(make_models(4, TWO), metrics=[ENERGY])
    [line] = [line for line in result.findings if line.startswith("Over models")]
    assert line.startswith(
        "Over models like these 4: onnx costs 64 % less energy per output token than torch, 95 % "
        "interval "
    )
    assert line.endswith("cheaper on 4 of 4 models.")
    assert result.metrics[0].population.models == ("m0", "m1", "m2", "m3")
    assert "model as a random factor" in result.methods[-1]
    text = terminal(result)
    assert "Energy per output token over models like these 4, model as a random factor" in text
    assert "over models like these 4" in to_markdown(result)


def test_every_pair_of_engines_is_compared_over_models():
    costs = {"torch/cpu": 0.033, "onnx/cpu": 0.012, "openvino/cpu": 0.02}
    result = report(make_models(4, costs), metrics=[ENERGY])
    lines = [line for line in result.findings if line.startswith("Over models")]
    assert len(lines) == 3
    assert all("simultaneous 95 % interval" in line for line in lines)
    assert len(result.metrics[0].population.pairs) == 3


def test_of_two_models_nothing_is_said_of_others_and_how_many_it_takes():
    result = report(make_models(2, TWO), metrics=[ENERGY])
    assert not [line for line in result.findings if line.startswith("Over models")]
    assert (
        "Nothing is said of models in general: that takes 3 models that share two configurations, "
        "and this study has 2."
    ) in result.notes


def test_a_study_of_one_model_asks_nothing_about_others():
    result = report(make_models(1, TWO), metrics=[ENERGY])
    assert not [line for line in result.notes if "models in general" in line]


def test_the_design_is_a_randomised_block_only_where_it_was_one(study):
    whole = study(TWO)

    def design(frame):
        return report(frame, metrics=[ENERGY]).methods[0]

    assert ", each a randomised complete block, on lab-1" in design(whole)
    gap = whole.copy()
    gap.loc[0, ["outcome", "reason"]] = ["failed", "killed"]
    assert "(cells in an order that differs between rounds)" in design(gap)
    late = whole.copy()
    late.loc[0, "started"] = "2026-01-02T00:00"
    assert "1 trial began when a later round had begun" in design(late)
    same = whole.sort_values(["round", "cell"]).assign(order=range(1, len(whole) + 1))
    assert "(cells in the same order in all rounds" in design(same)
    for frame in (gap, late, same):
        assert "randomised complete block" not in design(frame)


def test_no_sentence_says_when_the_margin_was_declared(study):
    text = " ".join(report(study(FOUR), metrics=[ENERGY]).methods)
    assert "declared" not in text
    assert "The margin is 2 %" in text


def test_a_drift_over_rounds_is_a_note_and_rounds_that_only_differ_are_none(study):
    frame = study(FOUR, rounds=8, drift=0.0)
    frame[ENERGY] *= 1.02 ** frame["round"]
    assert any(
        "drifts with the number of the round (comparisons within rounds remove it)" in note
        for note in report(frame, metrics=[ENERGY]).notes
    )
    assert not any(
        "drifts" in note for note in report(study(FOUR, rounds=8), metrics=[ENERGY]).notes
    )


def test_the_chance_of_a_verdict_names_the_margin(study):
    notes = " ".join(report(study(FOUR), metrics=[ENERGY]).notes)
    assert "% gets a verdict (saves or worse, beyond the margin of 2 %) with a chance of 0.8." in (
        notes
    )


def test_dunn_is_said_to_take_drift_for_noise_only_where_rounds_drift(study):
    close = {f"e{i}/cpu": 0.0100 * 1.03**i for i in range(6)}
    drifting = report(study(close, rounds=10, drift=0.3, own_interval=None), metrics=[ENERGY])
    steady = report(
        study(close, rounds=10, drift=0.0, noise=0.004, own_interval=None), metrics=[ENERGY]
    )
    whys = [
        {d.why for f in each.metrics[0].families for d in f.disagreements if d.found_by == "rounds"}
        for each in (drifting, steady)
    ]
    assert any("drift between rounds as noise" in why for why in whys[0])
    assert not any("drift" in why for why in whys[1])


def test_a_source_that_was_left_out_is_named_in_the_report(study):
    rows = study({"torch/cpu": 2.0, "onnx/cpu": 1.0}).assign(
        **{"measurement.leave_out": '["rapl/intel-rapl:0:2"]'}
    )
    found = report(rows)
    (out,) = found.left_out
    assert (out.scope, out.name) == ("source", "rapl/intel-rapl:0:2")
    line = "rapl/intel-rapl:0:2: measurement.leave_out: neither read nor part of any total."
    assert f"Left out: {line}" in found.notes


def test_a_source_that_was_left_out_of_some_cells_is_named_with_them(study):
    rows = study({"torch/cpu": 2.0, "onnx/cpu": 1.0})
    rows["measurement.leave_out"] = [
        "[]" if name == "onnx" else '["x"]' for name in rows["engine.name"]
    ]
    (out,) = report(rows).left_out
    assert out.reason.startswith(
        "measurement.leave_out: neither read nor part of any total, in torch"
    )
