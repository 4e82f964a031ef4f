"""The sentences of a report: verdicts with their figures, and what a reader must know."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

from slm_energy.analysis.compare import COARSE, Comparison, Pair
from slm_energy.analysis.metric import Metric
from slm_energy.analysis.options import AnalysisOptions

if typing.TYPE_CHECKING:
    from slm_energy.analysis.report import Section


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 1,230."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 999.5:
        return f"{float(f'{value:.3g}'):,.0f}"
    digits = 0
    while digits < 12 and size * 10**digits < 99.95:
        digits += 1
    return f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share as per cent: one decimal below 10, none above."""
    value = share * 100
    text = f"{value:.1f}" if abs(value) < 9.95 else f"{value:,.0f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def p_value(value: float | None) -> str:
    """As tables show it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def change(metric: Metric, pair: Pair) -> str:
    """How much better `a` is than `b`, in per cent; negative when it is worse."""
    if pair.ratio is None:
        return "-"
    return f"{percent(pair.ratio - 1 if metric.higher_is_better else 1 - pair.ratio)} %"


def verdict(pair: Pair) -> str:
    """The verdict in a table: with the further rounds that would settle it."""
    if pair.verdict != "inconclusive":
        return pair.verdict
    if pair.more_rounds is not None:
        return f"inconclusive, +{pair.more_rounds} round{'s' * (pair.more_rounds != 1)}"
    return "below resolution" if pair.reason == COARSE else "inconclusive"


def findings(
    metric: Metric, comparison: Comparison, labels: Mapping[str, str], options: AnalysisOptions
) -> list[str]:
    """The verdict in sentences: per model the best cell against the next and against the last.

    With a reference that was asked for: the best other cell against it.
    """
    pairs = comparison.pairs
    if not pairs:
        if len(comparison.ranked) > 1:
            return ["No model has two cells to compare; reference=CELL compares across models."]
        only = labels[comparison.ranked[0]]
        return [f"Only {only} has {metric.title}{_kind(metric)}: there is nothing to compare."]
    if len({pair.b for pair in pairs}) == 1:
        return [sentence(metric, pairs[0], labels, options)]
    beaten = {pair.b for pair in pairs}
    chosen: list[Pair] = []
    for best in dict.fromkeys(pair.a for pair in pairs if pair.a not in beaten):
        own = [pair for pair in pairs if pair.a == best]
        chosen += [own[0], own[-1]] if len(own) > 1 else own
    return [sentence(metric, pair, labels, options) for pair in chosen]


def _kind(metric: Metric) -> str:
    return " (estimated)" if metric.estimated else ""


def sentence(
    metric: Metric, pair: Pair, labels: Mapping[str, str], options: AnalysisOptions
) -> str:
    """One pair in words."""
    a, b, confidence = labels[pair.a], labels[pair.b], f"{100 * (1 - options.alpha):g} %"
    what = f"{metric.title}{_kind(metric)}"
    if pair.ratio is None:
        return f"{a} against {b}, {what}: {pair.reason}."
    rounds = f"{pair.rounds} round" + ("s" if pair.rounds != 1 else "")
    better = "cheaper" if metric.is_energy else "better"
    won = f"{better} in {pair.won} of {rounds}"
    if pair.low is None or pair.high is None:
        return f"{a} against {b}, {what}: ratio {number(pair.ratio)}, no verdict: {pair.reason}."
    interval = f"{confidence} interval {number(pair.low)} to {number(pair.high)}"
    if pair.verdict == "equivalent":
        return (
            f"{a} and {b} are equivalent in {what}: ratio {number(pair.ratio)}, {interval}, within "
            f"the margin of {100 * options.margin:g} %."
        )
    if pair.verdict == "inconclusive":
        return (
            f"{a} against {b}, {what}: inconclusive, ratio {number(pair.ratio)}, {interval}, "
            f"{won}; {pair.reason}{_more(pair)}."
        )
    less = pair.ratio < 1
    sizes = sorted(abs(1 - value) for value in (pair.low, pair.high))
    return (
        f"{a} {'costs' if metric.is_energy else 'has'} {percent(abs(1 - pair.ratio))} % "
        f"{'less' if less else 'more'} {metric.title} than {b}{_kind(metric)}, {confidence} "
        f"interval {percent(sizes[0])} to {percent(sizes[1])} %, {won}."
    )


def _more(pair: Pair) -> str:
    if pair.more_rounds is not None:
        times = "round" if pair.more_rounds == 1 else "rounds"
        return f"; about {pair.more_rounds} more {times} would settle it"
    return ""


def notes(
    lead: Sequence[Section], labels: Mapping[str, str], options: AnalysisOptions
) -> list[str]:
    """What a reader must know: the method, the kind of energy, what was left out."""
    lines = []
    kinds = {section.metric.estimated for section in lead}
    if True in kinds:
        lines.append("Estimated energy comes from CodeCarbon's model of the machine: not measured.")
    if len(kinds) == 2:
        lines.append("Measured and estimated cells are ranked apart: they cannot be compared.")
    for section in lead:
        elsewhere = {cell for other in lead for cell in other.comparison.ranked}
        lines += _design(section, elsewhere, labels, options)
        if section.conventional is not None:
            lines += section.conventional.lines(labels)
    lines.append(
        "Ratio: geometric means over the rounds valid for both cells, with a "
        f"{100 * (1 - options.alpha):g} % t interval on the log ratio. Verdict: against a margin "
        f"of {100 * options.margin:g} %; with more than two cells a difference must also have p at "
        f"most {options.alpha:g}."
    )
    return lines


def _design(
    section: Section,
    elsewhere: set[str],
    labels: Mapping[str, str],
    options: AnalysisOptions,
) -> list[str]:
    """What the adjusted p of one comparison rests on."""
    result, cells = section.comparison, len(section.comparison.ranked)
    lines = []
    gone = [cell for cell in result.left_out if cell not in elsewhere]
    named = ", ".join(labels[cell] for cell in gone[:6])
    more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
    if gone:
        what = f"{section.metric.title}{_kind(section.metric)}"
        lines.append(f"Without a valid value of {what}, so left out: {named}{more}.")
    if cells < 2:
        return lines
    tests = cells * (cells - 1) // 2
    if result.permutations:
        how = f"all {result.permutations:,}" if result.exact else f"{result.permutations:,} random"
        lines.append(
            f"p: max-T over {tests:,} pair{'s' * (tests != 1)}, {how} permutations of labels "
            f"within {result.complete_rounds} complete rounds."
        )
    else:
        lines.append(
            f"No p: of {result.rounds} round{'s' * (result.rounds != 1)} {result.complete_rounds} "
            f"with a valid trial of all {cells} cells."
        )
    if result.complete_rounds < result.smallest_rounds:
        rests = cells == 2 and result.complete_rounds > 1
        lines.append(
            f"With {cells} cells a p of {options.alpha:g} needs {result.smallest_rounds} complete "
            "rounds: run the sweep again to fill gaps, or raise study.rounds."
            + (" Until then the verdict rests on the t interval." if rests else "")
        )
    return lines
