"""Hostile text in Markdown; tests/analysis/test_build.py has the tables."""

from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.analysis.result.report import Report


def test_markdown_has_no_markup_from_a_run(report: Report) -> None:
    text = to_markdown(report)
    assert "<script>" not in text
    assert "[x](y)" not in text.replace(r"\[x](y)", "")
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if "&lt;script>run()" in line and line[0] == "|"]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [4]
