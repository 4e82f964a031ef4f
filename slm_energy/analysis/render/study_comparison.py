"""A comparison of two studies: on the terminal, and as files for a review and for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from slm_energy.analysis.regression.comparison import StudyComparison
from slm_energy.analysis.regression.manifest import Difference
from slm_energy.analysis.render.junit import to_junit
from slm_energy.analysis.render.markdown import table_lines
from slm_energy.analysis.render.tables import Grid, ratio
from slm_energy.analysis.render.terminal import WIDTH, print_grid
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.welch import CellChange
from slm_energy.analysis.text.phrases import number, p_value, percent
from slm_energy.escape import markdown, visible
from slm_energy.serialization import readable


def to_terminal(result: StudyComparison, console: Console) -> None:
    """Print with rich; text from runs is never read as markup."""
    width = min(console.width, WIDTH)
    console.print(_safe(_title(result), style="bold"), width=width)
    if scope := scope_in_words(result):
        console.print(_safe(f"measured: {scope}", style="dim"), width=width)
    for grid in _grids(result):
        print_grid(grid, console)
    for line in _findings(result):
        console.print(_safe(line, style="bold"), width=width)
    for line in result.warnings:
        console.print(_safe(f"Warning: {line}.", style="yellow"), width=width)


def files(result: StudyComparison) -> dict[str, bytes]:
    """The files of `out=FOLDER`, name to content."""
    return {
        "comparison.md": to_markdown(result).encode(),
        "comparison.json": readable(result.to_json()).encode(),
        "junit.xml": to_junit(result),
    }


def to_markdown(result: StudyComparison) -> str:
    """Write as Markdown, findings first."""
    lines = [f"# {markdown(_title(result))}", ""]
    if result.refusal:
        lines += [f"**No verdict: {markdown(result.refusal)}.**", ""]
    lines += [f"- {markdown(line)}" for line in _findings(result)]
    lines += [f"- Warning: {markdown(line)}." for line in result.warnings]
    if scope := scope_in_words(result):
        lines += ["", f"Measured: {markdown(scope)}."]
    for grid in _grids(result):
        lines += ["", *table_lines(grid)]
    return "\n".join(lines) + "\n"


def _title(result: StudyComparison) -> str:
    return f"{result.b} against {result.a}"


def scope_in_words(result: StudyComparison) -> str:
    """What measured energy covers: once if it is the same in both studies; empty if not known."""
    both = ((result.a, result.a_scope), (result.b, result.b_scope))
    if result.a_scope == result.b_scope:
        return result.a_scope
    return "; ".join(f"{name}: {scope or 'not recorded'}" for name, scope in both)


def _measured(result: StudyComparison, metric: Metric) -> str:
    scope = scope_in_words(result)
    return f"; measured: {scope}" if scope and metric.is_sum and not metric.estimated else ""


def _grids(result: StudyComparison) -> Iterator[Grid]:
    """What was compared, what was not, what differs besides."""
    with_interval = f"Ratio (simultaneous {100 * (1 - result.options.alpha):g} % interval)"
    for change in result.metrics:
        metric = change.metric
        unit = f", {metric.unit}" if metric.unit else ""
        yield Grid(
            title=f"{metric.heading}{unit}: mean (trials){_measured(result, metric)}",
            head=("Cell", result.a, result.b, with_interval, "p", "Verdict"),
            rows=tuple(_row(metric, cell) for cell in change.cells),
        )
    if result.left_out:
        rows = tuple((row.name, row.reason) for row in result.left_out)
        yield Grid(title="Not compared", head=("What", "Reason"), rows=rows)
    if result.differences:
        facts = (
            (row.fact, _values(row.a), _values(row.b), str(row.cells), _may(row))
            for row in result.differences
        )
        yield Grid(
            title="What differs besides the cells",
            head=("Fact", result.a, result.b, "Cells", "Allowed"),
            rows=tuple(facts),
        )


def _safe(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _values(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "not recorded"


def _may(row: Difference) -> str:
    return f"yes, allow={row.group}" if row.allowed else f"no: allow={row.group}"


def _row(metric: Metric, cell: CellChange) -> tuple[str, ...]:
    return (
        cell.cell,
        f"{number(cell.a * metric.scale)} ({cell.a_trials})",
        f"{number(cell.b * metric.scale)} ({cell.b_trials})",
        ratio(cell.ratio, cell.joint_low, cell.joint_high),
        p_value(cell.p),
        f"{cell.stated}: {cell.reason}" if cell.reason else cell.stated,
    )


def _signed(ratio: float) -> str:
    return f"{'+' * (ratio > 1)}{percent(ratio - 1)} %"


def _findings(result: StudyComparison) -> list[str]:
    """One line per metric, and one for each regression."""
    lines = []
    for change in result.metrics:
        name = change.metric.heading
        counts = Counter(cell.stated for cell in change.cells)
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
    lines += [f"Missing in {result.b}: {what}." for what in result.missing]
    return lines
