"""The tables of a report, as plain text in cells, for the page and for LaTeX.

Every builder gives a `Grid`, without rows where there is nothing to show. `summary_tables` has the
short tables of the terminal and of Markdown, `supporting_tables` those that support a verdict.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.design import Slot, SlotOutcome
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.phrases import (
    between,
    change,
    confidence,
    number,
    pair_p,
    share,
    simultaneous,
    times,
    titled,
    verdict,
    won,
)

MOST_PAIRS = 66
"""Of a family with more (that is above 12 cells) only the pairs with its reference are shown."""

MARGINAL = "This pair alone"
"""Head of the column of marginal intervals."""

_MOST_REASONS = 20
_MOST_ROUNDS = 10
_SENTENCES = (
    "Levels",
    "Reading",
    "Meaning",
    "Compared",
    "Reason",
    "Version",
    "Registered",
    "This study",
    "Asked for by",
)
_WORDS = (
    "Cheapest",
    "Against",
    "Verdict",
    "Without",
    "Allowed",
    "Study",
    "Here",
    "Answer",
    "Note",
    *_SENTENCES,
)
"""Heads of columns that hold words, not figures."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table of text. The first column is left-aligned, as are those of words."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()

    def left_aligned(self, column: int) -> bool:
        """Whether a column is aligned to the left."""
        return column == 0 or self.head[column] in _WORDS

    def wraps(self, column: int) -> bool:
        """Whether its text may take several lines on a page."""
        return self.head[column] in _SENTENCES

    def widths(self) -> list[int]:
        """Characters that each column and its margin take when nothing is wrapped."""
        columns = zip(self.head, *self.rows, strict=True)
        return [max(len(line) for text in c for line in text.split("\n")) + 2 for c in columns]

    def without(self, *heads: str) -> Grid:
        """The table less these columns."""
        return self._of([i for i, name in enumerate(self.head) if name not in heads])

    def without_empty(self) -> Grid:
        """The table less the columns that no row has a value for."""
        columns = range(len(self.head))
        return self._of([i for i in columns if any(row[i] != "-" for row in self.rows)])

    def _of(self, columns: Sequence[int]) -> Grid:
        return Grid(
            title=self.title,
            head=tuple(self.head[i] for i in columns),
            rows=tuple(tuple(row[i] for i in columns) for row in self.rows),
        )


def heading(report: Report) -> str:
    """The first line of a report: study, machine, cells, rounds, valid trials."""
    return f"{report.study} on {report.machine}: {counts(report)}"


def counts(report: Report) -> str:
    """Cells, rounds, valid trials."""
    outcomes = report.audit.outcomes
    cells = times(len(report.cells), "cell")
    if report.origin and not report.audit.rounds:
        return f"{cells}, {times(outcomes.get('valid', 0), 'value')} per metric"
    rounds, slots = max((cell.rounds for cell in report.cells), default=0), sum(outcomes.values())
    valid, planned = outcomes.get("valid", 0), report.planned_rounds
    if planned <= rounds or report.stopped:
        return f"{cells}, {times(rounds, 'round')}, {valid} of {slots} trials valid"
    slots += (planned - rounds) * sum(cell.rounds > 0 for cell in report.cells)
    return f"{cells}, {rounds} of {planned} rounds, {valid} of {slots} planned trials valid"


def descriptive(report: Report, result: MetricResult) -> Grid:
    """One row per cell."""
    metric = result.metric
    rows = [
        (
            report.labels[row.cell],
            str(row.trials),
            figure(metric, row.mean),
            _range(metric, row.low, row.high),
            figure(metric, row.median),
            "-" if row.cv_pct is None else number(row.cv_pct),
            _range(metric, row.minimum, row.maximum),
            _range(metric, row.instrument_low, row.instrument_high),
            _range(metric, row.with_gain_low, row.with_gain_high),
        )
        for row in result.descriptive
    ]
    head = (
        "Cell",
        "n",
        "Geometric mean",
        f"{confidence(report)} interval",
        "Median",
        "CV, %",
        "Smallest to largest",
        "Instruments' interval",
        "With sensor gain",
    )
    title = f"{metric.heading}, {unit(metric)}{titled(report, metric)}"
    return Grid(title=title, head=head, rows=tuple(rows)).without_empty()


def pairs(report: Report, metric: Metric, family: Family) -> Grid:
    """The pairs of a family: the comparison and the effect sizes."""
    alone = simultaneous(report, family) == confidence(report)
    shown = family.pairs if len(family.pairs) <= MOST_PAIRS else family.headline
    rows = [
        (
            report.labels[pair.a],
            report.labels[pair.b],
            verdict(pair),
            ratio(pair.ratio, pair.joint_low, pair.joint_high),
            change(pair),
            pair_p(family, pair),
            won(pair),
            ratio(None, pair.joint_wide_low, pair.joint_wide_high),
            "-" if alone else ratio(None, pair.low, pair.high),
            _effect(pair.delta, pair.delta_low, pair.delta_high),
            _effect(pair.a12, pair.a12_low, pair.a12_high),
        )
        for pair in shown
    ]
    head = (
        "Cell",
        "Against",
        "Verdict",
        "Ratio",
        "Difference",
        "p",
        "Won",
        "Ratio with instruments",
        MARGINAL,
        "Cliff's delta",
        "A12",
    )
    name = f", {family.name}" if family.name else ""
    title = f"{metric.heading}{name}, pair by pair, {simultaneous(report, family)} intervals"
    title += _rest(report, family, len(shown)) + titled(report, metric)
    return Grid(title=title, head=head, rows=tuple(rows)).without_empty()


def _rest(report: Report, family: Family, shown: int) -> str:
    """What a table says that does not show every pair."""
    if shown == len(family.pairs):
        return ""
    name = report.labels[family.reference]
    return f": those with {name}; comparisons.json has all {len(family.pairs):,}"


def audit(report: Report) -> Grid:
    """What is not valid: how often, why, and in which cells."""
    groups: dict[tuple[str, str], list[str]] = {}
    labels = report.labels
    for slot in report.audit.slots:
        if slot.outcome != "valid":
            groups.setdefault((slot.outcome, slot.reason), []).append(labels[slot.cell])
    rows = []
    for (outcome, reason), names in sorted(groups.items(), key=lambda item: -len(item[1])):
        short = list(dict.fromkeys(names))
        more = f" and {len(short) - 3} more" if len(short) > 3 else ""
        rows.append((", ".join(short[:3]) + more, f"{len(names)} {outcome}", reason or "-"))
    if len(rows) > _MOST_REASONS:
        rest = len(rows) - _MOST_REASONS
        rows = [
            *rows[:_MOST_REASONS],
            (f"and {rest} more reasons", "", "comparisons.json has them all"),
        ]
    return Grid(
        title="Trials that are not valid", head=("Cells", "Trials", "Reason"), rows=tuple(rows)
    )


def outcomes(report: Report) -> Grid:
    """How often each outcome occurred in each cell, and in which rounds one that is not valid."""
    slots: dict[str, list[Slot]] = {cell.id: [] for cell in report.cells}
    for slot in report.audit.slots:
        slots[slot.cell].append(slot)
    names = [name for name in get_args(SlotOutcome) if name in report.audit.outcomes]
    rows = []
    for cell in report.cells:
        counts = Counter(slot.outcome for slot in slots[cell.id])
        bad = [str(slot.round) for slot in slots[cell.id] if slot.outcome != "valid" and slot.round]
        more = f" and {len(bad) - _MOST_ROUNDS} more" if len(bad) > _MOST_ROUNDS else ""
        where = ", ".join(bad[:_MOST_ROUNDS]) + more
        rows.append((cell.label, *(str(counts[name]) for name in names), where or "-"))
    head = ("Cell", *(name.capitalize() for name in names), "Rounds not valid")
    return Grid(title="Outcomes; comparisons.json has each trial's", head=head, rows=tuple(rows))


def agreement(report: Report) -> Grid:
    """Whose answers are the reference engine's, token by token."""
    rows = tuple(
        (cell.label, share(cell.agreement), share(cell.agreeing_tokens))
        for cell in report.cells
        if cell.agreement is not None
    )
    head = ("Cell", "Prompts with equal tokens, %", "Tokens before the first other one, %")
    return Grid(title="Agreement with the reference engine", head=head, rows=rows)


def left_out(report: Report) -> Grid:
    """What the analysis did not use, and why."""
    rows = tuple((f"{out.scope} {out.name}", out.reason) for out in report.left_out)
    return Grid(title="Left out", head=("What", "Reason"), rows=rows)


def registration(report: Report) -> Grid:
    """What was declared in advance, item by item, and whether the study follows it."""
    check = report.registration
    if check is None:
        return Grid(title="Registration", head=("Declared in advance",), rows=())
    rows = tuple(
        (item.name, item.registered, item.actual, "yes" if item.follows else "NO")
        for item in check.items
    )
    head = ("Declared in advance", "Registered", "This study", "Follows")
    return Grid(
        title=f"Registration {check.digest[:12]} of {check.registered}", head=head, rows=rows
    )


def versions(report: Report) -> Grid:
    """Of the analysis, and of the stack that was measured."""
    span = report.provenance
    rows = [*span.versions.items(), *((k, ", ".join(v)) for k, v in span.libraries.items())]
    return Grid(title="Versions", head=("Name", "Version"), rows=tuple(rows))


def hardware(report: Report) -> Grid:
    """What the study ran on."""
    rows = tuple(report.hardware.items())
    title = f"{report.machine}, as its last valid trial recorded it"
    return Grid(title=title, head=("What", "Reading"), rows=rows)


def unit(metric: Metric) -> str:
    """Of the figures of a table."""
    return metric.unit or "no unit"


def figure(metric: Metric, value: float | None) -> str:
    """A value in that unit."""
    return "-" if value is None else number(value * metric.scale)


def _range(metric: Metric, low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else between(metric, low, high)


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    """A ratio with its interval, or either."""
    parts = [] if value is None else [number(value)]
    if low is not None and high is not None:
        span = f"{number(low)} to {number(high)}"
        parts.append(f"({span})" if parts else span)
    return " ".join(parts) or "-"


def _effect(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    span = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f}{span}"
