import dataclasses

from slm_energy.analysis.render.answer_table import answer, resources
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.result.report import Report


def test_every_cell_has_its_verdict_in_words_and_measured_and_estimated_are_apart(
    report: Report,
) -> None:
    grid = answer(report)
    said = {row[0]: row[-1] for row in grid.rows}
    assert said["onnx / cpu"] == "reference"
    assert said["torch / cpu"].endswith(" times that of onnx / cpu: worse")
    assert said["a_b & 50 % / cpu"].endswith(" % more than onnx / cpu: worse")
    assert said["onnx / tpu"] == "reference"
    columns = [name for name in grid.head if "mJ/token" in name]
    assert columns == ["Energy\nmJ/token", "Energy\nestimated\nmJ/token"]


def test_resources_are_means_over_valid_trials(report: Report) -> None:
    trials = tuple(
        dataclasses.replace(
            trial,
            values={"utilization/cpu_mean_pct": 40.0 + trial.round, "tokens/passes": 1.0},
        )
        for trial in report.trials
    )
    grid = resources(dataclasses.replace(report, trials=trials))
    assert grid.head == ("Cell", "CPU mean utilization, %")
    rounds = {row[0]: row[1] for row in grid.rows}
    assert rounds["onnx / cpu"] == "43.0"


def test_the_page_says_what_it_ran_on_and_what_its_words_mean(report: Report) -> None:
    page = to_html(dataclasses.replace(report, hardware={"memory, GiB": "<64>"}))
    assert "&lt;64&gt;" in page.split('<section id="machine"')[1]
    assert "Coefficient of variation" in page.split('<section id="terms"')[1]
    assert '<section id="machine"' not in to_html(report)
