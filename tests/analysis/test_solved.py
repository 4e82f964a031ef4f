"""Whether answers work, and what a working one costs, from a study's trials to its report."""

import json
import math

import numpy as np
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.trials.answers import TrialAnswers
from slm_energy.record import TaskScore
from slm_energy.serialization import from_plain
from tests.analysis.conftest import make_study, with_requests

TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}
SOME = np.arange(40) % 4 == 0


def trial(solved, digest="", refused=()):
    scores = tuple(
        TaskScore(
            task_id=f"t{i}",
            verdict="refused" if i in refused else "passed" if works else "failed assertion",
        )
        for i, works in enumerate(solved)
    )
    return TrialAnswers(scores=scores, digest=digest)


def report(frame, answers, **keys):
    """The report of a study whose cells answered like this in all rounds, or in each."""
    runs = {}
    for run, cell, number in zip(frame["run_id"], frame["cell"], frame["round"], strict=True):
        if cell in answers:
            own = answers[cell]
            runs[run] = own[number - 1] if isinstance(own, list) else own
    asked = {"study": "toy", "draws": 999, "metrics": ["energy/per_request_j"], **keys}
    result = build(frame, options(asked), answers=runs)
    assert result.failures == ()
    return result


def only(result):
    [solved] = result.solved
    return solved, {cell.cell: cell for cell in solved.cells}


def pair(solved, a, b):
    return next(p for f in solved.families for p in f.pairs if {p.a, p.b} == {a, b})


@pytest.fixture(scope="module")
def frame():
    return with_requests(make_study(TWO, rounds=6))


def test_energy_of_all_attempts_over_the_solved_ones(frame):
    solved, cells = only(report(frame, {cell: trial(SOME) for cell in frame["cell"].unique()}))
    own = frame[frame["cell"] == "onnx-cpu"]
    cell = cells["onnx-cpu"]
    expected = math.exp(np.log(own["energy/per_request_j"]).mean()) * 40 / 10
    assert solved.metric.name == "energy/per_solved_j"
    assert (cell.solved, cell.scored, solved.tasks) == (10, 40, 40)
    assert cell.per_solved_j == pytest.approx(expected)
    assert cell.like.low < cell.these.low < expected < cell.these.high < cell.like.high
    assert cell.instrument.high / cell.per_solved_j == pytest.approx(1.001)
    assert not cell.attributed
    assert solved.families[0].ranked[0] == "onnx-cpu"


def test_a_report_with_solved_tasks_is_read_back_from_its_json(frame):
    result = report(frame, {"onnx-cpu": trial(SOME), "torch-cpu": trial(~SOME)})
    assert from_plain(Report, json.loads(result.to_json())) == result


def test_none_solved_is_undefined_and_has_the_limit_of_the_pass_rate(frame):
    solved, cells = only(report(frame, {"onnx-cpu": trial(SOME), "torch-cpu": trial(SOME & False)}))
    none = cells["torch-cpu"]
    assert none.per_solved_j is none.these is none.like is None
    assert none.reason == "no task is solved"
    assert none.rate_range.high == pytest.approx(0.0722, abs=1e-4)
    apart = pair(solved, "onnx-cpu", "torch-cpu")
    assert (apart.ratio, apart.reason, apart.quality) == (None, "no task is solved", "better")
    assert solved.families[0].ranked == ("onnx-cpu", "torch-cpu")


def test_identical_answers_are_not_worse_and_cost_what_their_energies_say(frame):
    same = {cell: trial(SOME, digest="x") for cell in ("onnx-cpu", "torch-cpu")}
    result = report(frame, same)
    [family] = only(result)[0].families
    [ours], [energy] = family.pairs, result.metrics[0].families[0].pairs
    assert ours.identical
    assert ours.quality == "not worse"
    assert (ours.difference, ours.mcnemar_p) == (0, 1)
    assert ours.ratio == pytest.approx(energy.ratio)
    assert ours.ratio_range.low == pytest.approx(energy.joint_low)
    assert ours.ratio_range.high == pytest.approx(energy.joint_high)
    assert ours.verdict == energy.verdict == "saves"
    assert any("identical answers" in text for text in result.methods)


def test_equal_verdicts_of_other_answers_prove_less_than_identical_ones(frame):
    solved, _ = only(report(frame, {"onnx-cpu": trial(SOME, "x"), "torch-cpu": trial(SOME, "y")}))
    other = pair(solved, "onnx-cpu", "torch-cpu")
    assert not other.identical
    assert other.quality == "inconclusive"
    assert other.ratio_range.high / other.ratio_range.low > 1.5


def test_a_refused_task_leaves_the_pass_rate_but_no_joules(frame):
    answers = {cell: trial(SOME, refused={3, 5}) for cell in ("onnx-cpu", "torch-cpu")}
    solved, cells = only(report(frame, answers))
    assert cells["onnx-cpu"].scored == 38
    assert cells["onnx-cpu"].per_solved_j is None
    assert cells["onnx-cpu"].reason == "2 of 40 tasks could not be scored"
    assert pair(solved, "onnx-cpu", "torch-cpu").reason == "2 of 40 tasks could not be scored"


def test_tasks_that_only_some_rounds_served_do_not_count(frame):
    def answered(counts):
        return report(frame, {"onnx-cpu": [trial(SOME[:count]) for count in counts]})

    result = answered((40, 38, 39, 40, 40, 40))
    solved, cells = only(result)
    assert cells["onnx-cpu"] == only(answered([38] * 6))[1]["onnx-cpu"]
    assert (cells["onnx-cpu"].solved, cells["onnx-cpu"].scored, solved.tasks) == (10, 38, 38)
    [left_out] = [each for each in result.left_out if each.name.startswith("Pass rate")]
    assert left_out.reason == "2 of 40 tasks, which only some rounds served"


def test_where_all_that_every_round_served_was_refused_that_is_the_reason(frame):
    rounds = [trial(SOME[:count], refused=range(38)) for count in (40, 38, 40, 40, 40, 40)]
    result = report(frame, {"onnx-cpu": rounds, "torch-cpu": trial(SOME)})
    assert set(only(result)[1]) == {"torch-cpu"}
    [left_out] = [each for each in result.left_out if each.name.startswith("Pass rate")]
    assert left_out.reason == "none of its tasks could be scored"


def test_cells_that_answered_other_tasks_are_not_compared(frame):
    solved, cells = only(report(frame, {"onnx-cpu": trial(SOME), "torch-cpu": trial(SOME[:30])}))
    assert set(cells) == {"onnx-cpu", "torch-cpu"}
    assert solved.families[0].pairs == ()
    assert solved.reason == "the cells did not answer the same tasks"


def test_a_task_solved_in_some_rounds_counts_with_its_share(frame):
    first, then = trial(SOME), trial(SOME | (np.arange(40) == 1))
    solved, cells = only(
        report(frame, {"onnx-cpu": [first, then] * 3, "torch-cpu": trial(SOME)}, margin_points=50)
    )
    cell = cells["onnx-cpu"]
    assert (cell.solved, cell.varying, cell.rate) == (10.5, 1, 10.5 / 40)
    both = pair(solved, "onnx-cpu", "torch-cpu")
    assert (both.both, both.only_a, both.only_b, both.neither) == (10, 1, 0, 29)
    assert both.quality == "not worse"


def test_one_task_or_one_round_gives_no_interval_and_says_so(frame):
    solved, cells = only(report(frame, {c: trial([True]) for c in ("onnx-cpu", "torch-cpu")}))
    assert cells["onnx-cpu"].these is not None
    assert cells["onnx-cpu"].like is None
    assert cells["onnx-cpu"].reason == "one task gives no interval for tasks like it"
    assert pair(solved, "onnx-cpu", "torch-cpu").reason == cells["onnx-cpu"].reason
    alone = frame[frame["round"] == 1]
    solved, cells = only(report(alone, {c: trial(SOME) for c in ("onnx-cpu", "torch-cpu")}))
    assert cells["onnx-cpu"].per_solved_j > 0
    assert cells["onnx-cpu"].these is cells["onnx-cpu"].like is None
    assert cells["onnx-cpu"].reason == "one round gives no interval"
    assert pair(solved, "onnx-cpu", "torch-cpu").reason == "one round gives no interval"


def test_a_round_that_one_cell_lacks_counts_for_no_pair(frame):
    torch, last = frame["cell"] == "torch-cpu", frame["round"] == 6
    odd = frame[~(torch & last)].copy()
    odd.loc[last & ~torch, "energy/per_request_j"] *= 1e6
    solved, _ = only(report(odd, {c: trial(SOME) for c in ("onnx-cpu", "torch-cpu")}))
    apart = pair(solved, "onnx-cpu", "torch-cpu")
    assert (apart.a, apart.reason) == ("onnx-cpu", "")
    assert apart.ratio == pytest.approx(0.012 / 0.033, rel=0.05)


def test_without_energy_there_are_pass_rates(frame):
    bare = frame.drop(columns=[c for c in frame if str(c).startswith("energy/")])
    solved, cells = only(report(bare, {"onnx-cpu": trial(SOME)}, metrics=["latency/e2e_p50_s"]))
    assert solved.metric is None
    assert cells["onnx-cpu"].reason == "no energy was recorded"
    assert solved.reason == "no two cells to compare"


def test_comparisons_of_solved_tasks_share_the_error_rate_of_a_study(frame):
    answers = {"onnx-cpu": trial(SOME), "torch-cpu": trial(np.roll(SOME, 1))}

    def width(**keys):
        own = pair(only(report(frame, answers, **keys))[0], "onnx-cpu", "torch-cpu")
        return own.difference_range.high - own.difference_range.low

    assert width(adjust="study") > width()


def test_a_study_without_scores_has_no_such_part(frame):
    result = report(frame, {})
    assert result.solved == ()
    assert not any("solved" in text for text in result.methods)
