"""A report as text: the same plain tables for the terminal and for Markdown."""

from __future__ import annotations

import dataclasses
import typing

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slm_energy.analysis import words
from slm_energy.analysis.metric import CONTEXT, Metric
from slm_energy.errors import one_line

if typing.TYPE_CHECKING:
    from slm_energy.analysis.report import Figure, Report, Section

WIDTH = 100
MOST_REASONS = 20
FEWEST = 20  # with fewer characters for a cell's name the figures are wrapped as well


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table of text. The first column is left-aligned, as is one headed Verdict or Reason."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()

    def left(self, column: int) -> bool:
        """Whether a column is aligned to the left."""
        return column == 0 or self.head[column] in ("Verdict", "Reason")

    def widths(self) -> list[int]:
        """Characters that each column and its margin take when nothing is wrapped."""
        columns = zip(self.head, *self.rows, strict=True)
        return [max(len(line) for text in c for line in text.split("\n")) + 2 for c in columns]


def title(report: Report) -> str:
    """Study, machine, trials."""
    counts = report.outcomes
    total = sum(counts.values())
    rounds = max((cell.rounds for cell in report.cells), default=0)
    times = f"{rounds} round" + ("s" if rounds != 1 else "")
    cells = f"{len(report.cells)} cell" + ("s" if len(report.cells) != 1 else "")
    return (
        f"{report.study} on {report.machine}: {cells}, {times}, "
        f"{counts.get('valid', 0)} of {total} trials valid"
    )


def grids(report: Report) -> list[Grid]:
    """All tables in reading order."""
    decides = report.sections[0].metric.quantity
    lead = [s for s in report.sections if s.metric.quantity == decides]
    rest = [s for s in report.sections if s not in lead]
    result = [audit(report), cells(report, lead)]
    result += [pairs(report, section) for section in lead if section.comparison.pairs]
    result += [others(report, rest)]
    return [grid for grid in result if grid.rows]


def audit(report: Report) -> Grid:
    """What is not valid: how often, why, and in which cells."""
    groups: dict[tuple[str, str], list[str]] = {}
    for slot in report.slots:
        if slot.outcome != "valid":
            groups.setdefault((slot.outcome, slot.reason), []).append(report.labels[slot.cell])
    rows = []
    for (outcome, reason), labels in sorted(groups.items(), key=lambda item: -len(item[1])):
        names = list(dict.fromkeys(labels))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        rows.append((", ".join(names[:3]) + more, f"{len(labels)} {outcome}", reason or "-"))
    if len(rows) > MOST_REASONS:
        rest = len(rows) - MOST_REASONS
        rows = [*rows[:MOST_REASONS], (f"and {rest} more reasons", "", "report.json has them all")]
    return Grid(
        title="Trials that are not valid", head=("Cells", "Trials", "Reason"), rows=tuple(rows)
    )


def cells(report: Report, lead: list[Section]) -> Grid:
    """What each cell costs; the best of each model in bold."""
    first = [section.metric for section in lead]
    columns = [*first, *(metric for metric in CONTEXT if metric not in first)]
    columns = [m for m in columns if any(m.name in cell.figures for cell in report.cells)]
    head = ("Cell", "Valid", *(f"{_short(metric)}\n{metric.unit}".strip() for metric in columns))
    rows = []
    for cell in report.cells:
        figures = [cell.figures.get(metric.name) for metric in columns]
        texts = [_figure(m, f, m in first) for m, f in zip(columns, figures, strict=True)]
        rows.append((cell.label, f"{cell.valid}/{cell.rounds}" if cell.rounds else "-", *texts))
    bold = set()
    for column, metric in enumerate(columns, start=2):
        values: dict[str, list[tuple[float, int]]] = {}
        for row, cell in enumerate(report.cells):
            if metric.name in cell.figures:
                values.setdefault(cell.model, []).append((cell.figures[metric.name].mean, row))
        best = max if metric.higher_is_better else min
        bold |= {(best(each)[1], column) for each in values.values() if len(each) > 1}
    heading = f"Per cell: geometric means over rounds, {_confidence(report)} interval in brackets"
    return Grid(title=heading, head=head, rows=tuple(rows), bold=frozenset(bold))


def _confidence(report: Report) -> str:
    return f"{100 * (1 - report.options.alpha):g} %"


def _short(metric: Metric) -> str:
    name = _SHORT.get(metric.quantity, metric.title)
    name = name if name[:2].isupper() else name[:1].upper() + name[1:]
    return f"{name}\nestimated" if metric.estimated else name


_SHORT = {
    "energy/per_output_token_j": "energy",
    "latency/ttft_p50_s": "TTFT\np50",
    "latency/itl_p50_s": "ITL\np50",
    "throughput/output_tokens_per_s": "output",
    "memory/process_peak_mb": "peak\nmemory",
}


def _figure(metric: Metric, figure: Figure | None, interval: bool) -> str:
    if figure is None:
        return "-"
    text = words.number(figure.mean * metric.scale)
    if interval and figure.low is not None and figure.high is not None:
        low, high = (
            words.number(figure.low * metric.scale),
            words.number(figure.high * metric.scale),
        )
        text += f" ({low} to {high})"
    return text


def pairs(report: Report, section: Section) -> Grid:
    """The pairwise table of the metric that decides."""
    metric, found = section.metric, section.comparison.pairs
    suffix, first, names = _naming(report, [(pair.a, pair.b) for pair in found])
    rows = []
    for name, pair in zip(names, found, strict=True):
        ratio = "-" if pair.ratio is None else words.number(pair.ratio)
        if pair.low is not None and pair.high is not None:
            ratio += f" ({words.number(pair.low)} to {words.number(pair.high)})"
        won = f"{pair.won}/{pair.rounds}"
        change, p = words.change(metric, pair), words.p_value(pair.p)
        rows.append((name, ratio, change, p, won, words.verdict(pair)))
    gain = "Gain" if metric.higher_is_better else "Saving"
    head = (first, "Ratio", gain, "p", "Won", "Verdict")
    return Grid(title=f"{metric.heading}{suffix}", head=head, rows=tuple(rows))


def _naming(report: Report, asked: list[tuple[str, str]]) -> tuple[str, str, list[str]]:
    """What goes in a pairwise table's title, in its first heading and in its first column."""
    labels = report.labels
    if len(asked) > 1 and len({a for a, _ in asked}) == 1:
        return f": {labels[asked[0][0]]} against", "Against", [labels[b] for _, b in asked]
    if len(asked) > 1 and len({b for _, b in asked}) == 1:
        return f": against {labels[asked[0][1]]}", "Cell", [labels[a] for a, _ in asked]
    return "", "Pair", [f"{labels[a]} against {labels[b]}" for a, b in asked]


def others(report: Report, rest: list[Section]) -> Grid:
    """The other metrics on the same pairs: ratio and verdict."""
    tables = [{(p.a, p.b): p for p in section.comparison.pairs} for section in rest]
    asked = list(dict.fromkeys(key for table in tables for key in table))
    suffix, first, names = _naming(report, asked)
    rows = []
    for name, key in zip(names, asked, strict=True):
        found = [table.get(key) for table in tables]
        texts = [
            "-" if p is None or p.ratio is None else f"{words.number(p.ratio)} {p.verdict}"
            for p in found
        ]
        rows.append((name, *texts))
    return Grid(
        title=f"Other metrics, ratio and verdict{suffix}",
        head=(first, *(section.metric.heading for section in rest)),
        rows=tuple(rows),
    )


def to_terminal(report: Report, console: Console) -> None:
    """Print with rich; text from runs is never read as markup."""
    width = min(console.width, WIDTH)
    console.print(Text(title(report), style="bold"), width=width)
    if report.shared:
        console.print(Text("all cells: " + ", ".join(report.shared), style="dim"), width=width)
    for grid in grids(report):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        roomy = sum(grid.widths()[1:]) + FEWEST <= width
        for column, name in enumerate(grid.head):
            left = grid.left(column)
            table.add_column(
                Text(name),
                justify="left" if left else "right",
                overflow="fold",
                no_wrap=not left and roomy,
            )
        for i, row in enumerate(grid.rows):
            styles = ["bold" if (i, j) in grid.bold else "" for j in range(len(row))]
            table.add_row(*(Text(cell, style=s) for cell, s in zip(row, styles, strict=True)))
        console.print()
        console.print(Text(grid.title, style="bold"), width=width)
        console.print(table, width=width)
    for line in report.findings:
        console.print(Text(line, style="bold"), width=width)
    console.print()
    for line in report.notes:
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 2)), width=width)


def to_markdown(report: Report) -> str:
    """Write as Markdown."""
    lines = [f"# {_plain(title(report))}", ""]
    if report.shared:
        lines += ["All cells: " + _plain(", ".join(report.shared)) + ".", ""]
    for line in report.findings:
        lines += [f"**{_plain(line)}**", ""]
    for grid in grids(report):
        lines += [f"## {_plain(grid.title)}", ""]
        lines.append("| " + " | ".join(_plain(name) for name in grid.head) + " |")
        marks = (":--" if grid.left(column) else "--:" for column in range(len(grid.head)))
        lines.append("| " + " | ".join(marks) + " |")
        for i, row in enumerate(grid.rows):
            texts = [_plain(cell) for cell in row]
            texts = [f"**{t}**" if (i, j) in grid.bold else t for j, t in enumerate(texts)]
            lines.append("| " + " | ".join(texts) + " |")
        lines.append("")
    lines += ["## Notes", "", *(f"- {_plain(line)}" for line in report.notes), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: what comes from a run is never markup."""
    text = one_line(text, 1000)
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("`", "\\`"),
                       ("[", "\\["), ("_", "\\_")):  # fmt: skip
        text = text.replace(mark, safe)
    return text
