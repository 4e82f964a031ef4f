import json

from slm_energy.analysis.render.generated import generated
from slm_energy.analysis.result.report import Report
from tests.analysis.render.conftest import widened

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


def compared(completions: list[str], differs_at: list[int | None]) -> str:
    found = json.loads(table(*completions))
    rows = [[*row, at] for row, at in zip(found["data"], differs_at, strict=True)]
    return json.dumps({"columns": [*COLUMNS, "differs_at"], "data": rows})


def test_the_first_prompt_with_other_tokens_is_shown_of_every_cell(report: Report) -> None:
    alike = compared(["a", "b", "c"], [None, None, None])
    other = compared(["a", "x", "y"], [None, 17, 0])
    more = len(report.cells) - 2
    tables = iter([alike, other, *[alike] * more])
    found = generated(report, lambda run_id, name: next(tables))
    shown = [(each.task_id, each.completion, each.differs_at) for each in found]
    assert shown == [
        *[("t/0", "a", None)] * len(report.cells),
        ("t/1", "b", None),
        ("t/1", "x", 17),
        *[("t/1", "b", None)] * more,
    ]


def test_where_all_agree_only_the_first_prompt_is_shown(report: Report) -> None:
    found = generated(report, lambda run_id, name: compared(["a", "b"], [None, None]))
    assert [each.task_id for each in found] == ["t/0"] * len(report.cells)


def test_long_texts_are_cut_and_say_so(report: Report) -> None:
    [first, *_] = generated(report, lambda run_id, name: table("x" * 2500))
    assert first.completion == "x" * 2000 + "\n... and 500 more characters"


def test_at_most_12_cells_are_read(report: Report) -> None:
    assert len(generated(widened(report, 30, 2), lambda run_id, name: table("x"))) == 12


def test_a_trial_without_answers_has_no_sample(report: Report) -> None:
    assert generated(report, lambda run_id, name: table()) == ()
