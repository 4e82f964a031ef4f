"""How figures are worded everywhere: digits, per cent, p-values, verdicts."""

from __future__ import annotations

import typing

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.solved import SolvedFamily
from slm_energy.analysis.result.verdict import COARSE


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


_TIMES = 2.0
"""Ratio from which on a factor is said: 111 % more is read as 111 %."""


def than(metric: Metric, ratio: float, other: str) -> str:
    """What a cell costs or has, compared with another: `costs 74 % less energy than torch`."""
    verb = "costs" if metric.is_energy else "has"
    if ratio >= _TIMES:
        return f"{verb} {number(ratio)} times the {metric.title} of {other}{kind(metric)}"
    return f"{verb} {of_reference(ratio)} {metric.title} than {other}{kind(metric)}"


def changes(low: float, high: float) -> str:
    """The interval of a ratio as sizes of the saving or the loss, the smaller first: 66 to 94 %.

    Of a loss that may be twice as much, as factors: 1.40 to 2.31 times.
    """
    if high >= _TIMES:
        return f"{number(low)} to {number(high)} times"
    smaller, larger = sorted(abs(1 - value) for value in (low, high))
    return f"{percent(smaller)} to {percent(larger)} %"


def share(value: float | None) -> str:
    """A share in per cent; 100 only where it is the whole."""
    if value is None:
        return "-"
    return "100" if value == 1 else number(min(100 * value, 99.9))


def p_value(value: float | None) -> str:
    """As tables show it."""
    if value is None:
        return "-"
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_is(value: float | None) -> str:
    """As sentences say it: `p = 0.03`, `p < 0.0001`."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def pair_p(family: Family, pair: Pair) -> str:
    """The p of a pair as tables show it: none of two cells whose rounds are too few for alpha.

    Their verdict rests on the t interval, which such a p can only contradict.
    """
    return "-" if pair.rounds and too_few_for_p(family) else p_value(pair.p)


def too_few_for_p(family: Family) -> bool:
    """Whether two cells have so few rounds that p by permutation cannot be as small as alpha."""
    plan = family.power
    return plan is not None and len(family.ranked) == 2 and plan.rounds < plan.smallest_rounds


def won(pair: Pair) -> str:
    """In how many rounds a pair's first cell is better; nothing where there are no rounds."""
    return f"{pair.won}/{pair.rounds}" if pair.rounds else "-"


def change(pair: Pair) -> str:
    """How much more or less `a` has than `b`: `74 % less`, `3.83 times`."""
    return "-" if pair.ratio is None else of_reference(pair.ratio)


def of_reference(ratio: float) -> str:
    """A ratio as a reader compares: `74 % less`, `12 % more`; from twice on `3.83 times`."""
    if ratio >= _TIMES:
        return f"{number(ratio)} times"
    return f"{percent(abs(1 - ratio))} % {'less' if ratio < 1 else 'more'}"


def compared(ratio: float, other: str) -> str:
    """The same with its reference: `74 % less than torch`, `3.83 times that of torch`."""
    return f"{of_reference(ratio)} {'that of' if ratio >= _TIMES else 'than'} {other}"


def verdict(pair: Pair) -> str:
    """The verdict in a table: with the further rounds that would settle it."""
    if not pair.is_tested:
        return "not tested"
    if pair.verdict == COARSE:
        return "below resolution"
    if pair.verdict == "inconclusive" and pair.more_rounds is not None:
        return f"inconclusive, +{times(pair.more_rounds, 'round')}"
    return pair.verdict


def times(count: int, what: str) -> str:
    """A count and its noun: `1 round`, `5 rounds`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def joined(names: typing.Sequence[str], most: int = 6) -> str:
    """Names in a sentence, the first few and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def kind(metric: Metric) -> str:
    """What a sentence adds to the name of an estimate."""
    return " (estimated)" if metric.estimated else ""


def amount(metric: Metric, value: float) -> str:
    """A value in a sentence: `21.0 mJ per output token`, `end-to-end latency p95 38.4 ms`."""
    of_what, per, unit = metric.title.partition(" per ")
    figure = shown(metric, value)
    if not (metric.is_energy and per):
        return f"{metric.title} {figure}"
    kind_of = "" if of_what == "energy" else f" of {of_what}"
    return f"{figure.partition('/')[0]}{kind_of} per {unit}"


def shown(metric: Metric, value: float) -> str:
    """A value with the unit of pages: `38.4 ms`, `27.5 %`."""
    return f"{number(value * metric.scale)} {metric.unit}".strip()


def between(metric: Metric, low: float, high: float) -> str:
    """An interval in the unit of pages, without it: `8.90 to 18.1`."""
    return f"{number(low * metric.scale)} to {number(high * metric.scale)}"


def difference(pct: float) -> str:
    """A true difference of two cells; above 100 % a factor, because nothing saves more than all."""
    size = f"of {number(pct)} %" if pct <= 100 else f"by a factor of {number(1 + pct / 100)}"
    return f"a difference {size}"


def measured(report: Report, metric: Metric) -> str:
    """The sentence that follows one about a measured sum: what it is the energy of."""
    return f" Measured: {report.scope}." if _has_scope(report, metric) else ""


def measured_once(report: Report, metric: Metric, lines: list[str]) -> list[str]:
    """Sentences of which only the first says what was measured."""
    return [*lines[:1], *(line.removesuffix(measured(report, metric)) for line in lines[1:])]


def titled(report: Report, metric: Metric) -> str:
    """The same, as the end of a title."""
    return f"; measured: {report.scope}" if _has_scope(report, metric) else ""


def _has_scope(report: Report, metric: Metric) -> bool:
    known = bool(report.scope) and not report.across  # else the head says it machine by machine
    return known and metric.is_sum and not metric.estimated


def confidence(report: Report) -> str:
    """The confidence of intervals, as `95 %`."""
    return f"{100 * (1 - report.options.alpha):g} %"


def simultaneous(report: Report, family: Family | SolvedFamily) -> str:
    """What a family's intervals are called: `simultaneous 95 %`, or `95 %` of a single pair."""
    return simultaneous_for(report, len(family.pairs))


def simultaneous_for(report: Report, pairs: int) -> str:
    """The same for a number of pairs."""
    alone = pairs == 1 and report.options.adjust == "family"
    return confidence(report) if alone else f"simultaneous {confidence(report)}"


def interval(report: Report, family: Family, pair: Pair) -> str:
    """The interval that a verdict other than equivalent rests on, with its name.

    A pair that could not be tested together with the others has its own only; empty without one.
    """
    if pair.joint_low is not None and pair.joint_high is not None:
        span = f"{number(pair.joint_low)} to {number(pair.joint_high)}"
        return f"{simultaneous(report, family)} interval {span}"
    if pair.low is not None and pair.high is not None:
        span = f"{number(pair.low)} to {number(pair.high)}"
        return f"{confidence(report)} interval for this pair alone {span}"
    return ""


def equivalence_interval(report: Report, family: Family, pair: Pair) -> str:
    """The interval of two one-sided tests, with its name: of confidence 1 - 2 alpha."""
    assert pair.tost_low is not None
    assert pair.tost_high is not None
    level = f"{100 * (1 - 2 * report.options.alpha):g} %"
    name = simultaneous(report, family).replace(confidence(report), level)
    return f"{name} interval {number(pair.tost_low)} to {number(pair.tost_high)}"
