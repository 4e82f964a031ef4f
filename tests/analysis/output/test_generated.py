import json

from slm_energy.analysis.output.generated import generated
from slm_energy.analysis.result import Report
from tests.analysis.output.conftest import widened

COLUMNS = ["task_id", "prompt", "completion", "input_tokens", "output_tokens", "stop"]


def table(*completions: str) -> str:
    rows = [[f"t/{i}", "def f():", text, 3, 4, "length"] for i, text in enumerate(completions)]
    return json.dumps({"columns": COLUMNS, "data": rows})


def test_the_first_completion_of_a_valid_trial_of_each_cell(report: Report) -> None:
    outcomes = {trial.run_id: trial.outcome for trial in report.trials}
    asked = []

    def read(run_id: str, name: str) -> str:
        asked.append(run_id)
        assert name == "outputs/generations.json"
        return table(f"by {run_id}", "second")

    found = generated(report, read)
    assert [each.label for each in found] == [cell.label for cell in report.cells]
    assert [each.completion for each in found] == [f"by {run_id}" for run_id in asked]
    assert {each.task_id for each in found} == {"t/0"}
    assert {outcomes[run_id] for run_id in asked} == {"valid"}


def test_long_texts_are_cut_and_say_so(report: Report) -> None:
    [first, *_] = generated(report, lambda run_id, name: table("x" * 2500))
    assert first.completion == "x" * 2000 + "\n... and 500 more characters"


def test_at_most_12_cells_are_read(report: Report) -> None:
    assert len(generated(widened(report, 30, 2), lambda run_id, name: table("x"))) == 12


def test_a_trial_without_answers_has_no_sample(report: Report) -> None:
    assert generated(report, lambda run_id, name: table()) == ()
