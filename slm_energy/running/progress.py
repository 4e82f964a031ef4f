"""What is printed while a sweep runs: a line per trial, and what the running one does.

A terminal shows that in a bar, drawn once a second. Elsewhere, such as in a pipe, a phase gets a
line after 10 s, 20 s, 40 s and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slm_energy.duration import duration
from slm_energy.metric_catalog.definition import DEVICES, ESTIMATED, MEASURED
from slm_energy.record import Record

_COLOURS = {"valid": "green", "invalid": "yellow", "failed": "red", "unsupported": "cyan"}
_PHASES = {
    "build": "making random weights",
    "prepare": "exporting or compiling",
    "reference": "generating reference tokens",
    "start": "starting the worker",
    "load": "loading",
    "compile": "compiling",
    "baseline": "idle, for the baseline",
    "warmup": "warm-up",
    "serve": "serving",
    "score": "testing the answers",
}
"""Phases of a trial in words."""
_FIRST_LINE_S = 10.0


class Display:
    """A progress bar over trials; draws only when it is called, so it costs nothing in between."""

    def __init__(
        self,
        console: Console,
        trials: int,
        expected_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._clock = clock
        self._phases: dict[tuple[str, int], tuple[str, float]] = {}
        self._next_line_s: dict[tuple[str, int], float] = {}
        self._trials = trials
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._expected_s = expected_s
        self._done = 0
        self._spent_s = 0.0
        self._task = self._bar.add_task("", total=trials, left="")

    def __enter__(self) -> Display:
        """Show the bar, if the console is a terminal."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        if self._console.is_terminal:  # elsewhere rich would end it with an empty line
            self._bar.stop()

    def phase(self, label: str, round_number: int, phase: str, share: float) -> None:
        """Show what a running trial does, and for how long; called about once a second."""
        key, name = (label, round_number), phase.partition(",")[0]
        if self._phases.get(key, ("", 0.0))[0] != name:
            self._phases[key], self._next_line_s[key] = (name, self._clock()), _FIRST_LINE_S
        seconds = self._clock() - self._phases[key][1]
        text = f"{escape(label)}  r{round_number:02d}  {escape(_PHASES.get(phase, phase))}"
        text += f", {share:.0%}" if share >= 0.01 else ""
        if not self._console.is_terminal:
            if seconds >= self._next_line_s[key]:
                self._next_line_s[key] = 2 * seconds
                line = f"[dim]{'running':<11} {text}, {duration(seconds)} so far[/]"
                self._console.print(line, highlight=False, soft_wrap=True)
            return
        done = self._done + min(0.99, share if phase == "serve" else 0.0)
        left = self._left(self._trials - done)
        text += f", {duration(seconds)}"
        self._bar.update(self._task, description=text, completed=done, left=left)
        self._bar.refresh()

    def retrying(self, record: Record) -> None:
        """Print a line for a trial that will be tried again."""
        self._line(record, "; will be retried at the end of the round")

    def left_out(self, trials: int) -> None:
        """Remove trials that are not run: another trial of their cell failed permanently."""
        self._trials -= trials
        self._bar.update(self._task, total=self._trials)

    def finished(self, record: Record) -> None:
        """Print a line for a trial that will not be tried again."""
        self._done += 1
        again = "; not retried any more: run the same command again when the cause is gone"
        self._line(record, again if record.ended_by or record.outcome.permanent else "")

    def _line(self, record: Record, ending: str) -> None:
        seconds = record.duration_s
        self._spent_s += seconds or 0.0
        took = f"{'':7}" if seconds is None else f"{seconds:5.1f} s"
        name, trial = record.outcome.name, record.trial
        detail = _headline(record) or "; ".join(record.outcome.reasons)
        self._console.print(
            f"[{_COLOURS[name]}]{name:<11}[/] {escape(trial.label)}  r{trial.round:02d}"
            f"  {took}  {escape(detail)}{ending}",
            highlight=False,
            soft_wrap=True,
        )

    def _left(self, trials: float) -> str:
        """How long `trials` should take, from the finished ones, else from the plan."""
        if self._done:
            per_trial_s: float | None = self._spent_s / self._done
        else:
            per_trial_s = None if self._expected_s is None else self._expected_s / self._trials
        return "" if per_trial_s is None else f"about {duration(per_trial_s * trials)} left"


def _headline(record: Record) -> str:
    if record.outcome.name != "valid":
        return ""
    values, parts = record.metrics, []
    for group, note in ((MEASURED, ""), (DEVICES, " (devices only)"), (ESTIMATED, " (estimated)")):
        joules = values.get(f"{group}/per_output_token_j")
        if joules is not None:
            parts.append(f"{joules * 1e3:.3g} mJ/token{note}")
    parts.append(f"{values['throughput/output_tokens_per_s']:.0f} tokens/s")
    if record.scores:
        solved, scored = (values.get(f"quality/{name}_count", 0) for name in ("solved", "scored"))
        parts.append(f"{solved:.0f} of {scored:.0f} solved")
    return ", ".join(parts)
