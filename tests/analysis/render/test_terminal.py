"""Hostile text on the terminal; tests/analysis/test_build.py has the tables."""

import io

from rich.console import Console

from slm_energy.analysis.render.terminal import to_terminal
from slm_energy.analysis.result.report import Report


def test_a_terminal_obeys_nothing_that_comes_from_a_run(report: Report) -> None:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    to_terminal(report, console)
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "␛[31m" in text
    assert "<script>run()</script>" in text
