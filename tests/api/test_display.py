"""Text that came from a run is not trusted in a notebook either."""

from __future__ import annotations

import pandas as pd

from slm_energy.api import display


def test_text_is_escaped_and_never_a_formula() -> None:
    hostile = "<script>alert(1)</script> \x1b[31m $x^2$"
    page = display.block(
        display.paragraph(hostile),
        display.table(pd.DataFrame({"reason": [hostile]})),
        display.bullets([hostile], hostile),
    )
    assert page.count("&lt;script&gt;") == 4
    assert "<script" not in page
    assert "\x1b" not in page
    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore">')


def test_what_has_nothing_to_show_takes_no_room() -> None:
    nothing = display.table(pd.DataFrame()) + display.paragraph("") + display.bullets([], "Notes")
    assert nothing == ""


def test_a_console_without_a_terminal_prints_plain_lines(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel does
    console = display.progress_console()
    with console.status("looking ..."):
        console.print("[green]valid[/]")
    assert capsys.readouterr().out == "valid\n"
    assert not console.is_terminal
