"""What a sweep prints while a trial runs."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from slm_energy.running.progress import Display


def said(calls: Sequence[tuple[float, str, float]], *, terminal: bool) -> str:
    """What is printed of a trial's phases: the time at which each is shown, and its share."""
    console = Console(file=io.StringIO(), width=150, force_terminal=terminal)
    now = [0.0]
    with Display(console, 1, None, clock=lambda: now[0]) as display:
        for now[0], phase, share in calls:
            display.phase("phi-2 / onnx / cpu", 1, phase, share)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_a_line_of_a_long_phase_after_10_s_and_twice_that() -> None:
    lines = said([(s, "prepare", 0.0) for s in range(45)], terminal=False).splitlines()
    assert lines == [
        f"running     phi-2 / onnx / cpu  r01  exporting or compiling, {s} s so far"
        for s in (10, 20, 40)
    ]


def test_a_pipe_gets_no_line_of_short_phases() -> None:
    calls = [(float(s), f"phase {s // 9}", 0.0) for s in range(60)]
    assert said(calls, terminal=False) == ""


@pytest.mark.parametrize("phase", ["gate", "reference"])
def test_a_terminal_shows_phase_share_and_time(phase: str) -> None:
    names = {"gate": "gate, 3 s: cpu busy", "reference": "generating reference tokens"}
    texts = {"gate": "gate, 3 s: cpu busy", "reference": "reference"}
    shown = said([(0.0, phase, 0.0), (7.0, texts[phase], 0.25)], terminal=True)
    assert f"r01  {names[phase]}, 25%, 7 s" in shown
