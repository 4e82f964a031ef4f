"""Any name of a level shows up in every form of a report, escaped and in one piece."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from slm_energy.analysis import build, options
from slm_energy.analysis.external.columns import columns
from slm_energy.analysis.external.table import read
from slm_energy.analysis.render import latex, solved_data, tables
from slm_energy.analysis.render.html import to_html
from slm_energy.analysis.render.markdown import table_lines
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.render.terminal import print_grid
from slm_energy.analysis.result.report import Report
from slm_energy.errors import one_line
from slm_energy.escape import spreadsheet, visible, visible_line
from tests.analysis.conftest import make_study
from tests.analysis.render.test_html import Outline
from tests.analysis.scored import scored_report

SPECIAL = "|&$<>=+@-#%_{}[]()'\"`*~^\\/;, \n\r\t\x00\x07\x1b\x9b\u00ad\u200b\u202e\u2028\ufeffé中"
NAMES = st.text(st.sampled_from(SPECIAL) | st.characters(codec="utf-8"), min_size=1, max_size=20)
HOSTILE = (
    "[red]a[/red]", "</td><td>", "=cmd|' /C calc'!A0", "-1", "a / b", r"$x$ & \input{z}",
    "\u202eabc", "a\nb", "'=a", "{{ 7 * 7 }}", "<!--", "\\", "a\tb",
)  # fmt: skip


def any_name(test):
    for name in HOSTILE:
        test = example(name=name)(test)
    return settings(derandomize=True, max_examples=40, deadline=None, database=None)(
        given(name=NAMES)(test)
    )


def a_grid(name: str) -> Grid:
    return Grid(title=name, head=("Cell", "n"), rows=((name, "1"), ("other", "2")))


@any_name
def test_a_terminal_shows_a_name_in_one_line_and_obeys_none_of_it(name: str) -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    print_grid(a_grid(name), console)
    written = console.file.getvalue()
    assert visible_line(name).strip() in written
    assert visible(written) == written
    assert len([row for row in written.split("\n") if row.strip().endswith(("1", "2"))]) >= 2


@any_name
def test_markdown_has_a_name_in_one_field_of_its_row(name: str) -> None:
    head, _, *rows = table_lines(a_grid(name))[2:]
    fields = [re.split(r"(?<!\\)(?:\\\\)*\|", row) for row in (head, *rows)]
    assert [len(each) for each in fields] == [4, 4, 4]
    unescaped = re.sub(r"\\(.)", r"\1", rows[0].removeprefix("| ").removesuffix(" | 1 |"))
    shown = unescaped.replace("&lt;", "<").replace("&amp;", "&")
    assert shown == visible(one_line(name, 1000))
    assert "<" not in rows[0]


@any_name
def test_latex_has_a_name_in_one_field_of_its_row(name: str) -> None:
    text = latex.table(a_grid(name), "t")
    [row] = [row for row in text.split("\n") if row.endswith(r" & 1 \\")]
    plain = re.sub(
        r"\\(textbackslash|textasciicircum|textless|textgreater|textbar|char\d+)\{\}", "", row
    )
    assert len(re.split(r"(?<!\\)&", plain)) == 2
    bare = re.sub(r"\\[{}$&%#_~]|\{\[\}|\{\]\}|\\textasciitilde\{\}|\$-\$", "", plain)
    assert not set(bare.removesuffix(r"& 1 \\")) & set('\\{}$&%#_^~<>|"`')
    assert max(map(ord, text)) <= 0x17F


@pytest.fixture(scope="session")
def small() -> Report:
    frame = make_study({"torch/cpu": 0.03, "onnx/cpu": 0.012}, rounds=2)
    return build(frame, options({"study": "toy", "metrics": ["energy/per_output_token_j"]}))


@settings(derandomize=True, max_examples=3, deadline=None, database=None)
@given(name=NAMES)
@example(name="".join(HOSTILE))
def test_a_page_has_the_tags_that_it_has_with_any_other_name(small: Report, name: str) -> None:
    first, *rest = small.cells
    named = dataclasses.replace(first, label=name, levels=dict.fromkeys(first.levels, name))
    page = Outline(to_html(dataclasses.replace(small, study=name, cells=(named, *rest))))
    assert set(page.tags) == set(Outline(to_html(small)).tags)
    assert " ".join(visible(name).split()) in " ".join(page.text.split())


@any_name
def test_a_name_survives_a_csv_file_and_no_spreadsheet_computes_it(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    name = f"a{name}".strip()[1:].strip() or "a"
    path = tmp_path_factory.getbasetemp() / "names.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = (("engine", "energy/total_j"), (spreadsheet(name), -0.0), ("other", 2.0))
        csv.writer(file).writerows(rows)
    assert not re.match(r"[=+@\t\r-]", spreadsheet(name))
    frame = read(path, columns({"factors": {"engine": "engine"}})).rows
    assert list(frame["engine.name"]) == [name, "other"]


def test_text_that_a_spreadsheet_would_compute_is_marked_in_csv_and_numbers_are_not() -> None:
    report = scored_report()
    cells = (dataclasses.replace(report.cells[0], label="=1+1"), *report.cells[1:])
    renamed = dataclasses.replace(report, cells=cells)
    for write, column in ((solved_data.cells, "label"), (solved_data.pairs, "a_label")):
        before, after = (pd.read_csv(io.StringIO(write(each))) for each in (report, renamed))
        assert "'=1+1" in set(after[column]) | set(after.get("b_label", ()))
        numbers = before.select_dtypes("number")
        assert after.select_dtypes("number").equals(numbers)
        assert not numbers.empty
    assert tables.descriptive(renamed, renamed.metrics[0]).rows[0][0] == "=1+1"
