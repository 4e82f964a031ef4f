"""Hostile text in the terminal and in Markdown; tests/analysis/test_report.py has the tables."""

import io

from rich.console import Console

from slm_energy.analysis.result.report import Report


def test_a_terminal_obeys_nothing_that_comes_from_a_run(report: Report) -> None:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    report.to_terminal(console)
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "␛[31m" in text
    assert "<script>run()</script>" in text


def test_markdown_has_no_markup_from_a_run(report: Report) -> None:
    text = report.to_markdown()
    assert "<script>" not in text
    assert "[x](y)" not in text.replace(r"\[x](y)", "")
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if "&lt;script>run()" in line and line[0] == "|"]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [4]
