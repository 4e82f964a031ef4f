"""Sentences and figures that must not contradict each other."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.build import build_independent
from slm_energy.analysis.render.answer_table import answer
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.summary_tables import choices, grids
from slm_energy.analysis.render.tables import Grid, counts
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import changes, of_reference
from slm_energy.analysis.text.recommendation import opening, unsaid
from slm_energy.errors import AnalysisError
from tests.analysis.conftest import make_models, make_study

ENERGY = {"study": "toy", "metrics": ["energy/per_output_token_j"]}


def pairs(report: Report) -> Grid:
    [grid] = [grid for grid in grids(report) if "Verdict" in grid.head]
    return grid


@pytest.mark.parametrize(("rounds", "states_p"), [(3, False), (6, True)])
def test_no_p_of_two_cells_stands_beside_a_verdict_before_it_can_be_small(
    rounds: int, states_p: bool
) -> None:
    report = build(make_study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, rounds), options(ENERGY))
    grid = pairs(report)
    assert grid.rows[0][-1] == "saves"
    assert ("p" in grid.head) is states_p
    assert any(note.startswith("p: all 32") for note in report.notes) is states_p
    assert any("No p is stated" in note for note in report.notes) is not states_p


def test_the_rounds_that_settle_a_pair_are_the_only_ones_that_are_asked_for() -> None:
    frame = make_study({"torch/cpu": 0.0304, "onnx/cpu": 0.03}, 3, noise=0.02, seed=4)
    report = build(frame, options(ENERGY))
    [finding] = report.findings
    assert "would settle it" in finding
    assert not [note for note in report.notes if "study.rounds" in note]


def test_repetitions_without_rounds_win_none() -> None:
    frame = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.01})
    assert "Won" not in pairs(build_independent(frame, options(ENERGY))).head


def test_many_families_open_with_one_sentence_and_a_table() -> None:
    rows = make_models(4, {"torch/cpu": 0.03, "onnx/cpu": 0.02}, rounds=3)
    report = build(rows, options({"study": "toy", "metrics": ["energy/per_output_token_j"]}))
    assert opening(report) == (
        (
            "Cheapest configuration by energy per output token: onnx for 4 of 4 models. A verdict"
            " separates it from the next best in 4 of 4.",
        ),
    )
    grid = choices(report)
    assert grid.head == ("Model", "Cheapest", "Cost, mJ/token", "Compared")
    assert {row[:2] for row in grid.rows} == {(f"m{i}", "onnx") for i in range(4)}
    assert all("less than torch: saves" in row[3] for row in grid.rows)
    # The page folds each model, and the table stands for the verdicts in words.
    page = to_html(report)
    assert page.count("<details><summary>m") == 4
    assert not any("costs" in line and "m0" in line for line in unsaid(report))


def test_twice_as_much_and_more_is_a_factor() -> None:
    assert [of_reference(ratio) for ratio in (0.26, 1.12, 1.99, 2.11)] == [
        "74 % less",
        "12 % more",
        "99 % more",
        "2.11 times",
    ]
    assert changes(1.4, 2.31) == "1.40 to 2.31 times"
    assert changes(0.2, 0.34) == "66 to 80 %"


def test_trials_that_were_planned_and_have_not_run_are_counted() -> None:
    report = build(make_study({"torch/cpu": 0.03, "onnx/cpu": 0.01}, 4), options(ENERGY))
    assert counts(report) == "2 cells, 4 rounds, 8 of 8 trials valid"
    planned = dataclasses.replace(report, planned_rounds=6)
    assert counts(planned) == "2 cells, 4 of 6 rounds, 8 of 12 planned trials valid"
    assert "8 of 8" in counts(dataclasses.replace(planned, stopped="after 4 rounds"))


def test_sums_over_different_numbers_of_passes_are_not_compared() -> None:
    frame = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.01})
    frame["energy/total_j"] = 50.0
    frame["tokens/passes"] = 3.0
    asked = options({"study": "toy", "metrics": ["energy/total_j"]})
    assert build(frame, asked).metrics[0].metric.name == "energy/total_j"
    frame.loc[frame["engine.name"] == "onnx", "tokens/passes"] = 9.0
    with pytest.raises(AnalysisError, match=r"3 to 9 passes .*per_output_token_j"):
        build(frame, asked)


def test_a_metric_that_does_not_vary_within_cells_is_not_tested_and_says_why() -> None:
    rows = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.02}, noise=0, drift=0, own_interval=None)
    report = build(rows, options(ENERGY))
    [sentences] = opening(report)
    assert sentences[1] == (
        "The next best is torch (30.0 mJ per output token), ratio 0.667; no verdict: the ratio is"
        " the same in every round, so its spread is unknown."
    )
    assert answer(report).rows[1][-1] == "not tested: 50 % more than onnx"
    shares = rows.assign(**{"quality/pass_at_1": rows["energy/per_output_token_j"]})
    alone = build_independent(shares, options({"study": "toy", "metrics": ["quality/pass_at_1"]}))
    assert alone.findings == (
        "torch against onnx, pass rate: ratio 1.50: gains; the values do not vary within cells.",
    )
