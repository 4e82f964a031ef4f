"""A table that somebody else measured: analysed as far as it allows, and labelled as theirs.

    analyse   the report, without what needs rounds or repetitions that are not there, the savings
              over models, and what follows of its authors' claims
    show      all three on the terminal

Where repetitions are no rounds the paragraphs are written here, because those of a study speak of
rounds, fresh processes and our own sensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_energy.analysis.build import build
from slm_energy.analysis.external import claims, medians, unblocked
from slm_energy.analysis.external.columns import Columns, columns
from slm_energy.analysis.external.table import read
from slm_energy.analysis.options import METRICS, options
from slm_energy.analysis.render import text
from slm_energy.analysis.render.tables import Grid
from slm_energy.analysis.result.report import Family, MetricResult, Pair, Report
from slm_energy.analysis.text import phrases


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """What somebody else's table says.

    Attributes:
        report: the analysis; its notes and findings say the other two in sentences.
        ranges: savings over models, metric by metric.
        checked: its authors' claims.
    """

    report: Report
    ranges: tuple[medians.Range, ...]
    checked: tuple[claims.Checked, ...]


def analyse(asked: Mapping[str, Any]) -> Foreign:
    """Analyse a table.

    Args:
        asked: the keys of conf/analysis.yaml without `tracking`; `data` is the file. As long as
            `metrics` is what is shipped, it means all metrics of the table.

    Raises:
        ConfigError: the mapping or an option is wrong.
        AnalysisError: the table cannot be read as the mapping says, or not be analysed as asked.
    """
    rest = dict(asked)
    path, mapping = Path(str(rest.pop("data"))), columns(rest.pop("columns"))
    frame = read(path, mapping)
    rest["study"] = rest.get("study") or path.stem
    if tuple(rest.get("metrics", METRICS)) == METRICS:
        rest["metrics"] = [str(name) for name in frame.columns if "/" in str(name)]
    chosen = options(rest)
    report = build(frame, chosen)
    if not mapping.rounds:
        report = unblocked.without_rounds(report)
    middle = medians.middles(frame)
    ranges = tuple(
        each
        for result in report.metrics
        for each in medians.ranges(middle, result.metric, chosen.families)
    )
    checked = tuple(claims.check(claim, middle, report) for claim in mapping.claims)
    return Foreign(
        report=_told(report, path, mapping, ranges, checked), ranges=ranges, checked=checked
    )


def show(found: Foreign, console: Console) -> None:
    """Print the report, then the savings over models and the claims; fits in 100 columns."""
    found.report.to_terminal(console)
    for grid in grids(found):
        text.show(grid, console)


def grids(found: Foreign) -> list[Grid]:
    """The savings over models and the claims, as tables."""
    ranges = Grid(
        title="Savings of the cheapest cell against the dearest of its family (medians)",
        head=("Metric", "Among", "Families", "Least", "Largest"),
        rows=tuple(
            (
                each.metric.title,
                each.group or "all",
                str(each.families),
                f"{each.least_pct:.2f} % {each.least_in}",
                f"{each.largest_pct:.2f} % {each.largest_in}",
            )
            for each in found.ranges
        ),
    )
    checked = Grid(
        title="What the authors say, and what follows from this table",
        head=("Claim", "Published", "Computed", "Follows"),
        rows=tuple(
            (one.claim.text, one.published, one.computed, one.follows) for one in found.checked
        ),
    )
    return [grid for grid in (ranges, checked) if grid.rows]


def _told(
    report: Report,
    path: Path,
    mapping: Columns,
    ranges: tuple[medians.Range, ...],
    checked: tuple[claims.Checked, ...],
) -> Report:
    """Say first whose data it is, then what follows from it."""
    source = f" {mapping.source.rstrip('.')}." if mapping.source else ""
    origin = (
        f"Data from {path.name}, not measured by slm_energy; what energy means in it is as "
        f"declared by its authors.{source}"
    )
    first = report.deciding[0].metric
    saved = tuple(each.sentence() for each in ranges if each.metric == first)
    said = tuple(each.sentence() for each in checked)
    if mapping.rounds:
        design = "The unit of analysis is a repetition of a cell; its authors call them rounds."
        methods, findings, notes = (design, *report.methods[1:]), report.findings, report.notes
    else:
        methods, findings = tuple(_methods(report, mapping)), tuple(_findings(report))
        notes = tuple(_notes(report))
    return dataclasses.replace(
        report,
        origin=f"data from {path.name}",
        methods=(origin, *methods),
        findings=(*saved, *findings),
        notes=(origin, *notes, *said),
    )


def _methods(report: Report, mapping: Columns) -> Iterator[str]:
    options = report.options
    if _single(report):
        which = mapping.aggregate or "one value"
        yield (
            f"Each of the {len(report.cells)} cells has one figure ({which}), so cells are "
            "described and their ratios given; nothing is tested."
        )
        return
    confidence = f"{100 * (1 - options.alpha):g} %"
    yield (
        f"Each of the {len(report.cells)} cells was repeated, but not in rounds, so repetitions "
        "are taken as independent. Cells are compared by the ratio of geometric means with Welch's "
        f"{confidence} t interval on logs; p is that of his t test, adjusted with Holm within a "
        f"family. A difference of less than {100 * options.margin:g} % was declared not to matter: "
        f"a cell saves when the whole interval lies beyond this margin and p is at most "
        f"{options.alpha:g}; two cells are equivalent when it lies within and Welch's two "
        "one-sided tests, adjusted with Holm, agree."
    )
    yield (
        "Beside it stands the conventional chain on the values as they are: Shapiro-Wilk, Levene "
        "(about the median), Kruskal-Wallis with epsilon squared, Dunn with Holm, Games-Howell, "
        "Cliff's delta and Vargha-Delaney's A12. Values whose robust z score within their cell is "
        "above 3.5 are flagged and kept."
    )


def _findings(report: Report) -> Iterator[str]:
    """The best cell of each family against the next and the last, or against the named one."""
    if _single(report):
        return
    for result in report.deciding:
        for family in result.families:
            pairs = family.headline
            chosen = pairs[:1] if family.named or len(pairs) < 2 else (pairs[0], pairs[-1])
            for pair in chosen:
                yield _sentence(report, result, pair)


def _sentence(report: Report, result: MetricResult, pair: Pair) -> str:
    a, b, metric = report.labels[pair.a], report.labels[pair.b], result.metric
    assert pair.ratio is not None
    start = f"{a} against {b}, {metric.title}: ratio {phrases.number(pair.ratio)}"
    if pair.low is None or pair.high is None:
        return f"{start}, no verdict: {pair.reason}."
    reason = f"; {pair.reason}" if pair.reason else ""
    return (
        f"{start}, {100 * (1 - report.options.alpha):g} % interval {phrases.number(pair.low)} to "
        f"{phrases.number(pair.high)}, p {_p(pair.p)}: {phrases.verdict(pair)}{reason}."
    )


def _notes(report: Report) -> Iterator[str]:
    for out in report.left_out:
        yield f"Left out: {out.name}: {out.reason}."
    for result in report.metrics:
        for family in result.families:
            yield from _chain(report, result, family)
        flagged = [point for point in result.diagnostics.points if point.outlier]
        if flagged:
            names = dict.fromkeys(report.labels[point.cell] for point in flagged)
            yield (
                f"{result.metric.heading}: {len(flagged)} values flagged as outliers and kept "
                f"({', '.join(names)}); {len(result.diagnostics.changed)} verdicts would change "
                "without."
            )


def _chain(report: Report, result: MetricResult, family: Family) -> Iterator[str]:
    chain, alpha = family.conventional, report.options.alpha
    if chain is None:
        return
    skewed = sum(cell.shapiro_p is not None and cell.shapiro_p < alpha for cell in chain.cells)
    found = sum(pair.dunn_p <= alpha for pair in chain.pairs)
    where = f" of {family.name}" if family.name else ""
    yield (
        f"{result.metric.heading}{where}, conventional chain: Shapiro-Wilk rejects normality in "
        f"{skewed} of {len(chain.cells)} cells; Levene p {_p(chain.levene_p)}; Kruskal-Wallis H = "
        f"{phrases.number(chain.kruskal_h)}, p {_p(chain.kruskal_p)}, epsilon squared "
        f"{chain.epsilon_squared:.2f}; Dunn with Holm finds a difference in {found} of "
        f"{len(chain.pairs)} pairs."
    )


def _p(value: float | None) -> str:
    shown = phrases.p_value(value)
    return shown if shown.startswith("<") else f"= {shown}"


def _single(report: Report) -> bool:
    """Whether no cell has two values."""
    return not any(row.trials > 1 for result in report.metrics for row in result.descriptive)
