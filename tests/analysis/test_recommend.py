"""Which configuration is recommended, under which conditions, and in which words."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.analysis.recommend import recommend
from slm_energy.analysis.result.recommendation import Recommendation
from slm_energy.analysis.result.report import Report
from slm_energy.errors import ConfigError
from slm_energy.serialization import from_plain, to_plain
from tests.analysis.scored import (
    INT8,
    ONNX,
    TORCH,
    cell,
    pair,
    scored_report,
    solved_of,
    unscored_report,
    with_solved,
)


def only(report: Report, *, at_least=None, at_most=None) -> Recommendation:
    [made] = recommend(report, at_least or {}, at_most or {})
    return made


def words(made: Recommendation) -> str:
    return " ".join(made.sentences)


def test_the_cheapest_working_answer_wins_over_the_cheapest_token() -> None:
    made = only(scored_report())
    assert made.metric.name == "energy/per_solved_j"
    assert [c.cell for c in made.candidates] == [ONNX, TORCH, INT8]
    assert made.sentences[0] == (
        "Cheapest configuration: onnx, 12.3 J per solved task (95 % interval 12.2 to 12.4 for these"
        " tasks, 8.61 to 18.5 for tasks like these), 11 of 40 tasks solved, 21.0 mJ per output"
        " token."
    )
    assert "It costs 18 % less than the next best, torch (15.0 J per solved task)" in words(made)
    assert "int8 costs less (18.2 against 21.0 mJ per output token: saves), but more" in words(made)
    assert "pass rate is not worse by more than 2 points" in words(made)


def test_without_scores_the_metric_that_decides_is_minimised() -> None:
    made = only(unscored_report())
    assert made.metric.name == "energy/per_output_token_j"
    assert made.candidates[0].cell == INT8
    assert made.candidates[1].verdict == "saves"
    assert "costs 13 % less than the next best, onnx (21.0 mJ per output token)" in words(made)


def test_where_nothing_is_solved_tokens_decide_as_well() -> None:
    none = cell(ONNX, 0, None), cell(TORCH, 0, None)
    report = with_solved(solved_of(*none, pairs=()))
    assert only(report).metric.name == "energy/per_output_token_j"
    assert report.findings[0] == (
        "No configuration solves any of 40 tasks, so that joules per solved task are undefined;"
        " their pass rates are at most 15.0 % (95 % interval, for tasks like these)."
    )
    assert "mJ" not in report.findings[0]
    assert "energy per output token" in report.findings[1]


def test_a_server_whose_queue_grows_is_not_recommended_however_cheap_it_is() -> None:
    report = unscored_report()
    trials = tuple(
        dataclasses.replace(trial, values=trial.values | {"load/saturated": float(number == 0)})
        if trial.cell == INT8
        else trial
        for number, trial in enumerate(sorted(report.trials, key=lambda each: each.cell != INT8))
    )
    made = only(dataclasses.replace(report, trials=trials))
    assert [c.cell for c in made.candidates] == [ONNX, TORCH, INT8]
    assert "int8" in words(made)
    assert "it is saturated in 1 trial, so its queue has no end" in words(made)


def test_what_no_verdict_separates_is_tied_and_says_how() -> None:
    onnx, torch, int8 = cell(ONNX, 11, 12.3), cell(TORCH, 12, 12.5), cell(INT8, 4, 30.0)
    made = only(
        with_solved(
            solved_of(
                onnx,
                torch,
                int8,
                pairs=(
                    pair(onnx, torch, 0.8, 1.2),
                    pair(onnx, int8, 0.3, 0.6),
                    pair(torch, int8, 0.3, 0.7),
                ),
            )
        )
    )
    assert [c.tied for c in made.candidates] == [False, True, False]
    assert "Not certain: no verdict separates it from the next best, torch" in words(made)
    assert "ratio 0.984, simultaneous 95 % interval of the ratio 0.800 to 1.20 for" in words(made)
    assert (
        "The first that a verdict separates from it is int8 with 30.0 J per solved task"
        in words(made)
    )


def test_equivalent_is_a_tie_too() -> None:
    onnx, torch = cell(ONNX, 11, 12.3), cell(TORCH, 12, 12.4)
    seen = pair(onnx, torch, 0.985, 1.0, verdict="equivalent")
    made = only(with_solved(solved_of(onnx, torch, pairs=(seen,))))
    assert made.candidates[1].tied
    assert "is equivalent: the difference lies within the margin of 2 %" in words(made)


@pytest.mark.parametrize("name", ["pass_at_1", "quality/pass_at_1"])
def test_a_condition_excludes_with_its_reason_and_a_limit_in_an_interval_is_doubtful(name) -> None:
    made = only(scored_report(), at_least={name: 0.26})
    assert [c.cell for c in made.eligible] == [ONNX, TORCH]
    assert made.candidates[2].excluded == "pass rate 10.0 % is below 26 %"
    assert (
        "Doubtful: the limit of 26 % lies within the 95 % interval of pass rate of onnx with 27.5 %"
        " (14.5 to 42.5), torch with 30.0 % "
    ) in words(made)
    assert made.sentences[0].startswith("Cheapest configuration with pass rate of at least 26 %: ")


def test_at_most_is_in_the_stored_unit() -> None:
    made = only(scored_report(), at_most={"e2e_p95_s": 2.5})
    assert [c.cell for c in made.eligible] == [ONNX, INT8]
    assert "p95 3,240 ms is above 2,500 ms" in made.candidates[2].excluded


def test_nothing_meets_the_conditions() -> None:
    made = only(scored_report(), at_least={"pass_at_1": 0.5}, at_most={"e2e_p95_s": 2.5})
    assert made.reason == "no configuration meets the conditions"
    assert not made.eligible
    assert "Hardest to meet is pass rate of at least 50 %: 0 of 3 configurations." in words(made)
    assert "Nearest is torch with pass rate 30.0 % (17.0 to 45.0) and" in words(made)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pas_at_1", "at_least.pas_at_1: no such metric; did you mean pass_at_1?"),
        ("memory/gpu_peak_mb", "no trial of study=toy has memory/gpu_peak_mb"),
        ("xyzzy", "slm-energy metrics lists all"),
    ],
)
def test_a_condition_on_no_metric_of_the_study_says_which_there_are(name, advice) -> None:
    with pytest.raises(ConfigError, match=advice.replace("?", r"\?")):
        only(scored_report(), at_least={name: 1})


def test_a_pass_rate_of_a_study_without_scores_names_the_command_that_makes_them() -> None:
    with pytest.raises(ConfigError, match="slm-energy score study=toy"):
        only(unscored_report(), at_least={"pass_at_1": 0.3})


def test_a_cell_without_the_cost_is_excluded_with_the_reason() -> None:
    onnx, int8 = cell(ONNX, 11, 12.3), cell(INT8, 0, None)
    made = only(with_solved(solved_of(onnx, int8, pairs=())))
    reasons = {c.cell: c.excluded for c in made.candidates}
    assert reasons[INT8] == "it solves no task"
    assert reasons[TORCH] == "has no measured energy per solved task"
    assert "there is nothing to compare it with" in words(made)


def test_measured_and_estimated_energy_have_recommendations_of_their_own() -> None:
    [measured] = scored_report().solved
    estimated = dataclasses.replace(
        measured, metric=dataclasses.replace(measured.metric, name="energy_estimated/per_solved_j")
    )
    first, second = recommend(with_solved(estimated, measured), {}, {})
    assert (first.metric.estimated, second.metric.estimated) == (False, True)
    assert "12.3 J per solved task (estimated; 95 % interval" in second.sentences[0]
    assert ") (" not in " ".join(second.sentences)


def test_a_recommendation_survives_json() -> None:
    made = only(scored_report(), at_least={"pass_at_1": 0.26})
    assert from_plain(Recommendation, to_plain(made)) == made


def test_equal_answers_are_said_to_be_equal() -> None:
    onnx, torch = cell(ONNX, 11, 12.3), cell(TORCH, 11, 15.0)
    report = with_solved(
        solved_of(onnx, torch, pairs=(pair(onnx, torch, 0.8, 0.85, identical=True),))
    )
    assert (
        "onnx and torch gave the same answers to all tasks: their pass rates are equal."
        in report.findings
    )
