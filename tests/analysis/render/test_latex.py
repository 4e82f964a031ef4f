import re

import pytest

from slm_energy.analysis.render import latex
from slm_energy.analysis.result.report import Report
from tests.analysis.render.conftest import widened


def environments(text: str) -> list[str]:
    """Names of the environments; refuses what does not nest."""
    names, open_ = [], []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            names.append(name)
            open_.append(name)
        else:
            assert open_.pop() == name
    assert open_ == []
    return names


@pytest.mark.parametrize("make", [latex.descriptive, latex.pairs])
def test_tables_are_balanced_and_have_as_many_fields_as_columns(report: Report, make) -> None:
    for result in report.metrics:
        text = make(report, result)
        environments(text)
        unescaped = re.sub(r"\\[{}]", "", text)
        assert unescaped.count("{") == unescaped.count("}")
        for columns, body in re.findall(
            r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL
        ):
            rows = [line for line in body.splitlines() if line.endswith(r" \\")]
            assert len(rows) > 1
            assert all(row.count(" & ") == len(columns) - 1 for row in rows)


def test_names_are_escaped_and_numbers_have_a_minus(report: Report) -> None:
    text = latex.pairs(report, report.deciding[0])
    assert r"a\_b \& 50 \% / cpu" in text
    assert "$-$1.00" in text
    assert not re.search(r"[ (]-\d", text)


def test_every_family_has_its_table_and_label(report: Report) -> None:
    for result in report.metrics:
        labels = re.findall(r"\\label\{([^}]*)\}", latex.pairs(report, result))
        assert len(set(labels)) == len(labels) == len([f for f in result.families if f.pairs])


def test_long_tables_break_over_pages(report: Report) -> None:
    wide = widened(report, 50, 2)
    assert environments(latex.descriptive(wide, wide.metrics[0])) == ["longtable"]
    short = widened(report, 5, 2)
    assert environments(latex.descriptive(short, short.metrics[0])) == ["table", "tabular"]
