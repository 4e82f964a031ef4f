"""Solved tasks on the page, in Markdown, LaTeX and CSV, and a report of an earlier version."""

from __future__ import annotations

import io
import json

import pandas as pd

from slm_energy.analysis.render.files import files
from slm_energy.analysis.render.generated import Generated
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import AnswerCounts
from slm_energy.serialization import from_plain
from tests.analysis.scored import ONNX, scored_report, unscored_report

FIRST = "12.3 J per solved task"


def test_the_first_lines_of_the_description_have_recommendation_and_finding() -> None:
    text = files(scored_report()).contents["report.md"].decode()
    title, recommended, finding = [line for line in text.splitlines() if line][:3]
    assert title.startswith("# toy on lab-1")
    assert recommended.startswith("**Cheapest configuration: onnx, 12.3 J per solved task")
    assert "It costs 18 % less than the next best, torch" in recommended
    assert finding.startswith("**Pass rate of onnx against torch: ")  # nothing is stated twice
    assert text.count("12.3 J per solved task (") == text.count("5.0 to 30 % for tasks like") == 1


def test_the_page_opens_with_the_recommendation_and_has_every_pair() -> None:
    page = to_html(scored_report())
    assert page.index('<section id="answer"') < page.index('<section id="findings"')
    [section] = page.split('<section id="solved"')[1:]
    assert "Solved tasks" in section
    assert page.count('<th scope="row">onnx</th>') >= 3
    assert "11 of 40 solved" in section


def test_verdicts_of_answers_are_beside_the_code_and_counted() -> None:
    report = scored_report()
    counts = AnswerCounts(cell=ONNX, trials=5, counts={"timeout": 5, "passed": 55})
    report = from_plain(Report, {**json.loads(report.to_json()), "answers": [vars_of(counts)]})
    sample = Generated(
        label="onnx", task_id="t/1", completion="pass", verdict="timeout: more than 10 s"
    )
    page = to_html(report, [sample])
    assert "t/1: onnx (timeout: more than 10 s)</h3>" in page
    table = page.split("Answers by verdict")[1].split("</table>")[0]
    assert table.index("Passed") < table.index("Timeout")


def vars_of(counts: AnswerCounts) -> dict[str, object]:
    return {"cell": counts.cell, "trials": counts.trials, "counts": counts.counts}


def test_tables_for_a_paper_and_figures_for_programs() -> None:
    contents = files(scored_report()).contents
    assert b"11/40" in contents["tables/solved-cells.tex"]
    assert b"McNemar" in contents["tables/solved-pairs-1.tex"]
    cells = pd.read_csv(io.BytesIO(contents["solved-cells.csv"])).set_index("label")
    assert cells.loc["onnx", "per_solved_j"] == 12.3
    assert cells.loc["onnx", "like_low"] < cells.loc["onnx", "these_low"]
    pairs = pd.read_csv(io.BytesIO(contents["solved-pairs.csv"]))
    assert pairs["quality"].tolist() == ["not worse", "better", "better"]


def test_a_report_without_scores_has_none_of_these_and_is_read_back() -> None:
    contents = files(unscored_report()).contents
    assert not [name for name in contents if "solved" in name]
    plain = json.loads(contents["comparisons.json"])
    for later in ("solved", "unscored", "answers", "recommendations"):  # as schema 2 was
        del plain[later]
    assert from_plain(Report, plain | {"schema": 2}).solved == ()
