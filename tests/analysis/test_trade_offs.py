"""The pass rate as an axis beside energy."""

from __future__ import annotations

from slm_energy.analysis import build, options
from slm_energy.analysis.trials.answers import TrialAnswers
from slm_energy.record import TaskScore
from tests.analysis.conftest import make_study


def test_pass_rates_have_the_interval_for_tasks_like_these_and_counts_are_no_axis() -> None:
    frame = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.02})
    passed = frame["engine.name"].map({"torch": 4, "onnx": 1})
    frame["quality/pass_at_1"], frame["quality/solved_count"] = passed / 10, passed
    frame["energy/per_request_j"] = 10 * frame["energy/per_output_token_j"]
    answers = {
        run: TrialAnswers(
            scores=tuple(
                TaskScore(task_id=str(i), verdict="passed" if i < solved else "timeout")
                for i in range(10)
            )
        )
        for run, solved in zip(frame["run_id"], passed, strict=True)
    }
    report = build(frame, options({"study": "toy"}), answers=answers)
    front, *others = report.pareto
    assert front.y.name == "quality/pass_at_1"
    assert front.x.name == "energy/per_output_token_j"
    assert not [other for other in others if other.y.name.endswith("_count")]
    ranges = {row.cell: row.rate_range for row in report.solved[0].cells}
    for point in front.points:
        assert (point.y_low, point.y_high) == (ranges[point.cell].low, ranges[point.cell].high)
    assert {row.cell: row.counts for row in report.answers}["onnx-cpu"] == {
        "passed": 5,
        "timeout": 45,
    }
