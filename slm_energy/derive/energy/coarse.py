"""Counters with steps that are large beside what a window uses: the step, and windows for it. Pure.

A plug that counts in watt-hours shows nothing of a window in which 900 J are used. What it shows is
right; the interval says how much it is worth, and the sentences here say what to change.
"""

from __future__ import annotations

import dataclasses

from slm_energy.counter_step import step_of
from slm_energy.record import UNITS_PER_JOULE, EnergyFigure, Series, Source, Window

_SLOW_DOMAINS = ("wall", "machine")
"""Their meters are read over a network. The sampler measures the steps of all others."""

_LONGEST_WAIT_S = 600.0


def with_step(series: Series) -> Series:
    """The series with the step that its values show, if it is a counter of the whole machine."""
    source = series.source
    if source.kind != "counter" or source.domain not in _SLOW_DOMAINS:
        return series
    step = step_of([int(raw) for raw in series.raw if raw is not None])
    if step is None:
        return series
    learnt = dataclasses.replace(source, quantum=max(1, step), resolution=max(1, step))
    return dataclasses.replace(series, source=learnt)


def shortest_window_s(source: Source, target_error: float) -> float | None:
    """Shortest window of a counter with coarse steps: see `accounting.shortest_window_s`.

    It is read about once per update period, so a value is up to two periods old, and the time of a
    step is known to three. Between two steps power may have been up to three times the usual, which
    is why the interval has up to a step at both edges (`window_edges.py`).

    Returns:
        None if the idle power is unknown.
    """
    if not source.idle_w:
        return None
    period_s = (source.update_period_ns or 0) / 1e9
    step_s = source.quantum / UNITS_PER_JOULE[source.unit] / source.idle_w
    return (3 * period_s + 2 * step_s) / target_error


def next_step_s(source: Source) -> float:
    """How long to read a summed counter after a window, until it has shown one more step.

    Without that step it is unknown how much of the last one belongs to the window.

    Returns:
        One and a half steps at idle power, at most ten minutes; 0 for all other sources.
    """
    if source.kind != "counter" or source.quantum == 1 or not source.summed or not source.idle_w:
        return 0.0
    step_s = source.quantum / UNITS_PER_JOULE[source.unit] / source.idle_w
    return min(_LONGEST_WAIT_S, 1.5 * step_s)


def why_unknown(series: Series) -> str:
    """What to add to a reason without joules; empty if it is not for the counter's steps.

    Args:
        series: with its step (see `with_step`).
    """
    source = series.source
    if source.kind != "counter":
        return ""
    known = [raw for raw in series.raw if raw is not None]
    took_s = (series.after_ns[-1] - series.before_ns[0]) / 1e9 if known else 0.0
    reason = ""
    if len(set(known)) == 1:
        reason = f"; it stayed at {known[0]} {source.unit} for {took_s:,.3g} s, all the trial"
        if source.domain not in _SLOW_DOMAINS:
            return f"{reason}: measurement.leave_out=[{source.id}] leaves it out of the sum"
    if source.quantum == 1 or not known:
        return reason
    unit = UNITS_PER_JOULE[source.unit]
    reason += f"; it counts in steps of {source.quantum / unit:,.4g} J"
    power_w = source.idle_w or max(0.0, known[-1] - known[0]) / unit / took_s
    if not power_w:
        return reason
    needed_s = 2 * source.quantum / unit / power_w / 0.01
    return f"{reason}: measurement.serve_s={needed_s:.0f} gives 1 % at {power_w:.3g} W"


def too_coarse(figure: EnergyFigure, window: Window, target_error: float) -> str | None:
    """Why the steps of a counter keep a figure from the accuracy that was asked for.

    Args:
        figure: of one source, over the window.
        window: what it was accounted over.
        target_error: `measurement.target_error`.

    Returns:
        None if it is accurate enough, or something else is the reason.
    """
    step_j = figure.pedigree.get("step_j")
    if not isinstance(step_j, float) or not figure.joules:
        return None
    if figure.low_j is None or figure.high_j is None:
        return None
    error = (figure.high_j - figure.low_j) / 2 / figure.joules
    needed_s = 2 * step_j / (figure.joules / window.duration_s) / target_error
    if error <= target_error or needed_s <= window.duration_s:
        return None
    return (
        f"{figure.source_id} counts in steps of {step_j:,.4g} J: the window of"
        f" {window.duration_s:,.3g} s is known to {100 * error:.3g} %;"
        f" {100 * target_error:g} % takes measurement.serve_s={needed_s:.0f}"
    )
