"""A comparison of two studies on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_energy.analysis.regression.comparison import StudyComparison
from slm_energy.analysis.regression.manifest import Difference
from slm_energy.analysis.render.terminal import WIDTH
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.welch import CellChange
from slm_energy.analysis.text.phrases import number, p_value, percent
from slm_energy.escape import visible


def to_terminal(result: StudyComparison, console: Console) -> None:
    """Print with rich; text from runs is never read as markup."""
    width = min(console.width, WIDTH)
    console.print(_safe(f"{result.b} against {result.a}", style="bold"), width=width)
    if scope := scope_in_words(result):
        console.print(_safe(f"measured: {scope}", style="dim"), width=width)
    for title, table in _tables(result):
        console.print()
        console.print(_safe(title, style="bold"), width=width)
        console.print(table, width=width)
    for line in _findings(result):
        console.print(_safe(line, style="bold"), width=width)
    for line in result.warnings:
        console.print(_safe(f"Warning: {line}.", style="yellow"), width=width)


def scope_in_words(result: StudyComparison) -> str:
    """What measured energy covers: once if it is the same in both studies; empty if not known."""
    both = ((result.a, result.a_scope), (result.b, result.b_scope))
    if result.a_scope == result.b_scope:
        return result.a_scope
    return "; ".join(f"{name}: {scope or 'not recorded'}" for name, scope in both)


def _measured(result: StudyComparison, metric: Metric) -> str:
    scope = scope_in_words(result)
    return f"; measured: {scope}" if scope and metric.is_sum and not metric.estimated else ""


def _tables(result: StudyComparison) -> Iterator[tuple[str, Table]]:
    """What differs, what was compared, what was not: title and table."""
    if result.differences:
        facts = (
            (row.fact, _values(row.a), _values(row.b), str(row.cells), _may(row))
            for row in result.differences
        )
        yield (
            "What differs besides the cells",
            _table(("Fact", result.a, result.b, "Cells", "Allowed"), facts),
        )
    ratio = f"Ratio (simultaneous {100 * (1 - result.options.alpha):g} % interval)"
    for change in result.metrics:
        metric = change.metric
        unit = f", {metric.unit}" if metric.unit else ""
        head = ("Cell", result.a, result.b, ratio, "p", "Verdict")
        rows = (_row(metric, cell) for cell in change.cells)
        title = f"{metric.heading}{unit}: mean (trials){_measured(result, metric)}"
        yield title, _table(head, rows)
    if result.left_out:
        missing = ((row.name, row.reason) for row in result.left_out)
        yield "Not compared", _table(("What", "Reason"), missing)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        whole = name == "p" or name.startswith("Ratio")
        table.add_column(_safe(name), overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(_safe, row))
    return table


def _safe(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _values(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "not recorded"


def _may(row: Difference) -> str:
    return f"yes, allow={row.group}" if row.allowed else f"no: allow={row.group}"


def _row(metric: Metric, cell: CellChange) -> tuple[str, ...]:
    ratio = number(cell.ratio)
    if cell.joint_low is not None and cell.joint_high is not None:
        ratio += f" ({number(cell.joint_low)} to {number(cell.joint_high)})"
    return (
        cell.cell,
        f"{number(cell.a * metric.scale)} ({cell.a_trials})",
        f"{number(cell.b * metric.scale)} ({cell.b_trials})",
        ratio,
        p_value(cell.p),
        f"{cell.verdict}: {cell.reason}" if cell.reason else cell.verdict,
    )


def _signed(ratio: float) -> str:
    return f"{'+' * (ratio > 1)}{percent(ratio - 1)} %"


def _findings(result: StudyComparison) -> list[str]:
    """One line per metric, and one for each regression."""
    lines = []
    for change in result.metrics:
        name = change.metric.heading
        counts = Counter(cell.verdict for cell in change.cells)
        summary = ", ".join(
            f"{verdict} {n} of {len(change.cells)}" for verdict, n in counts.items()
        )
        measured = _measured(result, change.metric)
        lines.append(f"{name}: {summary}; all cells together {_signed(change.ratio)}{measured}.")
        if change.noise_pct is not None and change.verdict_pct is not None:
            lines.append(
                f"Noise: trials of a cell scatter by {change.noise_pct:.2g} %; a change of"
                f" {change.verdict_pct:.2g} % of a typical cell gets a verdict (beyond the margin"
                f" of {100 * result.options.margin:g} %) with a chance of 0.8."
            )
        if change.correlation > 0 and change.effective_rounds is not None:
            lines.append(
                f"A round resembles the next (correlation {change.correlation:.2g}), so that"
                f" {change.rounds} rounds are worth {change.effective_rounds:.2g} independent ones;"
                " intervals and p allow for it."
            )
        lines += [
            f"Regression: {cell.cell}, {change.metric.title} {_signed(cell.ratio)}."
            for cell in change.cells
            if cell.verdict == "regression"
        ]
    return lines
