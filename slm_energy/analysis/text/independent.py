"""The sentences of a report on repetitions that are not rounds.

Those of `methods` and `findings` speak of rounds, fresh processes and our own sensors.
"""

from __future__ import annotations

from collections.abc import Iterator

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.text.methods import multiplicity, rule
from slm_energy.analysis.text.phrases import (
    confidence,
    equivalence_interval,
    interval,
    number,
    p_is,
    times,
    verdict,
)


def methods(report: Report, figure: str) -> tuple[str, ...]:
    """What was done, as a paper would say it.

    Args:
        report: without its sentences.
        figure: what a cell's only value is, where it has one only.
    """
    options, cells = report.options, times(len(report.cells), "cell")
    if not _repeated(report):
        return (
            f"The table has one figure ({figure}) for each of {cells}, so cells are described and "
            "their ratios given; nothing is tested.",
        )
    return (
        f"The repetitions of {cells} were not run in rounds, so they are taken as independent. "
        f"Cells are compared by the ratio of geometric means with {confidence(report)} intervals "
        "on the log ratio that hold simultaneously for all pairs of a family: the largest "
        "moderated t over all pairs (each cell's variance shrunk towards the common one, Smyth "
        f"2004), drawn {options.draws:,} times from noise of each cell's variance; of two cells, "
        "Welch's t interval. p is that of Welch's t test, adjusted with Holm. The margin "
        f"is {100 * options.margin:g} %, and a smaller difference is taken not to matter: "
        f"{rule(options)}.",
        multiplicity(report),
        "The conventional tests were run on the untransformed values as well: Shapiro-Wilk, Levene "
        "(about the median), Kruskal-Wallis with epsilon squared, Dunn with Holm, Games-Howell, "
        "Cliff's delta and Vargha-Delaney's A12. Values are flagged, and kept, that are farther "
        "from their cell's median, in spreads of their cell, than the farthest of a study without "
        f"outliers is in {100 * options.alpha:g} % of draws. Tests of the factors give each cell a "
        "noise of its own where cells have several values; they are about the levels there are.",
    )


def findings(report: Report) -> tuple[str, ...]:
    """The best cell of each family against the next and the last, or against the named one."""
    if not _repeated(report):
        return ()
    lines = []
    for result in report.deciding:
        for family in result.families:
            pairs = family.headline
            chosen = pairs[:1] if family.named or len(pairs) < 2 else (pairs[0], pairs[-1])
            lines += [_sentence(report, result, family, pair) for pair in chosen]
    return tuple(lines)


def _repeated(report: Report) -> bool:
    return any(result.repeated for result in report.metrics)


def _sentence(report: Report, result: MetricResult, family: Family, pair: Pair) -> str:
    a, b, metric = report.labels[pair.a], report.labels[pair.b], result.metric
    assert pair.ratio is not None
    start = f"{a} against {b}, {metric.title}: ratio {number(pair.ratio)}"
    seen = interval(report, family, pair)
    if not pair.is_tested:
        return f"{start}, no verdict: {pair.reason}."
    if not seen:
        return f"{start}: {verdict(pair)}; the values do not vary within cells."
    if pair.verdict == "equivalent":
        seen = equivalence_interval(report, family, pair)
    reason = f"; {pair.reason}" if pair.reason else ""
    return f"{start}, {seen}, {p_is(pair.p)}: {verdict(pair)}{reason}."


def notes(report: Report) -> tuple[str, ...]:
    """What was left out, the conventional tests, and flagged values."""
    lines = [f"Left out: {out.name}: {out.reason}." for out in report.left_out]
    for result in report.metrics:
        for family in result.families:
            lines += _conventional(report, result, family)
        lines += _outliers(report, result)
    return tuple(lines)


def _conventional(report: Report, result: MetricResult, family: Family) -> Iterator[str]:
    chain, alpha = family.conventional, report.options.alpha
    if chain is None:
        return
    skewed = sum(cell.shapiro_p is not None and cell.shapiro_p < alpha for cell in chain.cells)
    differing = sum(pair.dunn_p <= alpha for pair in chain.pairs)
    where = f" of {family.name}" if family.name else ""
    yield (
        f"{result.metric.heading}{where}, conventional tests: Shapiro-Wilk rejects normality in "
        f"{skewed} of {times(len(chain.cells), 'cell')}; Levene {p_is(chain.levene_p)}; "
        f"Kruskal-Wallis H = {number(chain.kruskal_h)}, {p_is(chain.kruskal_p)}, epsilon squared "
        f"{chain.epsilon_squared:.2f}; Dunn with Holm finds a difference in {differing} of "
        f"{times(len(chain.pairs), 'pair')}."
    )


def _outliers(report: Report, result: MetricResult) -> Iterator[str]:
    flagged = [point for point in result.diagnostics.points if point.outlier]
    if flagged:
        names = dict.fromkeys(report.labels[point.cell] for point in flagged)
        changed = times(len(result.diagnostics.changed), "verdict")
        yield (
            f"{result.metric.heading}: {times(len(flagged), 'value')} flagged as outliers and kept "
            f"({', '.join(names)}); without them {changed} would change."
        )
