"""Whatever shows joules says which devices they were measured on."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from slm_energy import StudyReport
from slm_energy.analysis.build import build
from slm_energy.analysis.options import options
from slm_energy.analysis.render import latex, supporting_tables, tables
from slm_energy.analysis.render.energy_breakdown import breakdowns
from slm_energy.analysis.render.files import files
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.render.summary_tables import grids
from slm_energy.analysis.render.terminal import to_terminal
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text import phrases
from tests.analysis.conftest import WHOLE, make_models, make_study, with_scope

WORDS = "processor package and DRAM of 1 socket, 1 GPU (NVIDIA H100)"


@pytest.fixture(scope="module")
def report() -> Report:
    """Two measured cells, with phases."""
    rows = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012})
    rows["energy/total_j"] = 1000 * rows["energy/per_output_token_j"]
    rows["energy/load_total_j"] = 0.3 * rows["energy/total_j"]
    return build(with_scope(rows, WHOLE), options({"study": "toy"}))


def plain(text: str) -> str:
    """One line, without Markdown's backslashes."""
    return " ".join(text.replace("\\", "").split())


def test_each_finding_about_measured_energy_names_the_scope(report: Report) -> None:
    assert report.scope == WORDS
    assert [line.endswith(f" Measured: {WORDS}.") for line in report.findings] == [True]
    assert f"is that of: {WORDS}." in report.methods[0]


def test_each_table_of_measured_energy_names_the_scope_and_no_other_does(report: Report) -> None:
    [lead] = report.deciding
    others = [result for result in report.metrics if result not in report.deciding]
    for result in (lead, *others):
        made = [tables.descriptive(report, result)]
        made += [tables.pairs(report, result.metric, family) for family in result.families]
        assert {WORDS in grid.title for grid in made} == {result is lead}
        captions = latex.descriptive(report, result) + latex.pairs(report, result)
        assert (WORDS in captions) == (result is lead)
    titles = [grid.title for grid in grids(report)]
    assert [WORDS in title for title in titles[:2]] == [True, True]
    assert all(WORDS in found.title for found in breakdowns(report))


def test_the_energy_of_one_domain_is_not_that_of_the_sum(report: Report) -> None:
    rows = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012})
    rows["energy/gpu_j"] = 1000 * rows["energy/per_output_token_j"]
    asked = options({"study": "toy", "metrics": ["energy/gpu_j"]})
    of_gpu = build(with_scope(rows, WHOLE), asked)
    assert "Measured" not in of_gpu.findings[0]
    assert phrases.titled(of_gpu, of_gpu.deciding[0].metric) == ""


def test_terminal_markdown_page_notebook_and_json_name_it(report: Report) -> None:
    console = Console(width=200, file=io.StringIO())
    to_terminal(report, console)
    text = plain(console.file.getvalue())
    assert f"measured: {WORDS}" in text.splitlines()[0]
    assert plain(to_markdown(report)).count(WORDS) >= 4
    assert f"Measured: {WORDS}</p>" in to_html(report)
    assert StudyReport(result=report)._repr_html_().count(WORDS) >= 3
    assert json.loads(report.to_json())["scope"] == WORDS
    made = files(report).contents
    assert WORDS.encode() in made["report.html"]
    assert WORDS in plain(made["report.md"].decode())


def test_what_is_said_of_models_in_general_names_it() -> None:
    rows = make_models(3, {"torch/cpu": 0.03, "onnx/cpu": 0.012})
    report = build(with_scope(rows, WHOLE), options({"study": "toy"}))
    [line] = [line for line in report.findings if line.startswith("Over models like these 3")]
    assert line.endswith(f" Measured: {WORDS}.")
    assert WORDS in supporting_tables.over_models(report, report.deciding[0]).title
    assert WORDS.encode() in files(report).contents["figures/energy-per-output-token-j-models.svg"]


def test_a_report_of_trials_without_a_known_scope_says_nothing_about_it() -> None:
    report = build(make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012}), options({"study": "toy"}))
    assert report.scope == ""
    assert "easured:" not in to_markdown(report) + to_html(report)
