"""Output of the diagnosis on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_energy.doctor.diagnosis import Diagnosis
from slm_energy.doctor.finding import Status, seconds
from slm_energy.record import Source
from slm_energy.sampler.stored_calibrations import describe

_STYLES: dict[Status, str] = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "unknown": "cyan",
    "not applicable": "dim",
}
_LINE = "{:<13}{:<17}{:<24}{:<10}{}"
_UNITS = {
    "uJ": (1e-6, "J"),
    "mJ": (1e-3, "J"),
    "J/2^32": (2**-32, "J"),
    "uW": (1e-6, "W"),
    "mW": (1e-3, "W"),
}
_PREFIXES = (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9))
_HEADLINE = {"measured": "bold green", "estimated": "bold yellow", "none": "bold red"}


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print the headline, advice, sources, checks and remedies."""
    console.print(Text(diagnosis.headline, _HEADLINE[diagnosis.energy]), soft_wrap=True)
    for line in diagnosis.advice:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if diagnosis.sources:
        console.print()
        _show_sources(diagnosis, console)
    if diagnosis.energy == "measured":
        console.print(Text("power supply, fans and disks: only a wall meter sees them", "dim"))
    if diagnosis.notes:
        console.print()
        console.print(_notes(diagnosis.notes))
    _show_checks(diagnosis, console)
    _show_remedies(diagnosis, console)
    counts = Counter(check.verdict for check in diagnosis.checks)
    tally = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES if counts[verdict])
    console.print(f"\n{len(diagnosis.checks)} checks: {tally}", highlight=False)


def _show_sources(diagnosis: Diagnosis, console: Console) -> None:
    """Print two lines per source: identities and paths do not fit beside the figures."""
    window = f"window for {100 * diagnosis.target_error:.3g} %"
    heads = ("source of", "kind", "renewed every", "step", window)
    console.print(Text(_LINE.format(*heads), "bold"))
    for source in diagnosis.sources:
        if source.kind == "gauge":
            continue
        window_s = diagnosis.shortest_window_s(source)
        line = _LINE.format(
            source.domain,
            source.kind + (", summed" if source.summed else ""),
            _period(source),
            _step(source),
            "-" if window_s is None else seconds(window_s),
        )
        console.print(Text(line))
        mean = f"mean of {seconds(source.averaging_ns / 1e9)}" if source.averaging_ns else None
        calibration = source.calibration and describe(source.calibration)
        parts = (source.id, source.device, source.path, mean, calibration)
        console.print(Text(f"  {', '.join(part for part in parts if part)}", "dim"))
    gauges = sum(source.kind == "gauge" for source in diagnosis.sources)
    console.print(Text(f"and {gauges} gauges of utilization, memory and heat", "dim"))


def _period(source: Source) -> str:
    if source.update_period_ns is None:
        return "?"
    origin = "measured" if source.update_period_measured else "documented"
    return f"{seconds(source.update_period_ns / 1e9)}, {origin}"


def _step(source: Source) -> str:
    """Resolution in J or W; `?` if it was not measured."""
    factor, unit = _UNITS.get(source.unit, (1.0, source.unit))
    if not source.resolution:
        return "?"
    value = source.resolution * factor
    prefix, scale = next((prefix for prefix in _PREFIXES if value >= prefix[1]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def _show_checks(diagnosis: Diagnosis, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was seen", overflow="fold")
    for check in diagnosis.checks:
        if check.verdict != "not applicable":
            verdict = Text(check.verdict, _STYLES[check.verdict])
            table.add_row(check.name, verdict, Text(check.detail))
    console.print()
    console.print(table)
    rest = [check.name for check in diagnosis.checks if check.verdict == "not applicable"]
    if rest:
        console.print(Text(f"not applicable here: {', '.join(rest)}", "dim"))


def _show_remedies(diagnosis: Diagnosis, console: Console) -> None:
    """Print remedies, failures first. Lines are not wrapped, so that commands can be copied."""
    order: tuple[Status, ...] = ("fail", "warn", "unknown")
    checks = [check for check in diagnosis.checks if check.remedy and check.verdict in order]
    if checks:
        console.print(Text("\nwhat to do", "bold"))
    for check in sorted(checks, key=lambda check: order.index(check.verdict)):
        line = Text.assemble((check.name, _STYLES[check.verdict]), f": {check.remedy}")
        console.print(line, soft_wrap=True)


def _notes(lines: Sequence[str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    return table
