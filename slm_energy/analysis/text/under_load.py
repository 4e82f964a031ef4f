"""The sentences about joules and latency against the load."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.under_load import (
    ENOUGH,
    LoadCurve,
    LoadFamily,
    LoadOrder,
    LoadPair,
    LoadPoint,
)
from slm_energy.analysis.text.phrases import between, joined, kind, percent, shown, times

_MOST_ORDERS = 3
"""Pairs of configurations up to which each has a sentence; of more only those that change."""


def sentences(family: LoadFamily, confidence: str) -> tuple[str, ...]:
    """What is cheapest, what was not kept or saturates, the knees, where the order changes.

    Args:
        family: without its sentences.
        confidence: of intervals, as `95 %`.
    """
    return (
        *_cheapest(family, confidence),
        *_doubtful(family),
        *_saturated(family),
        *_knees(family),
        *_orders(family),
    )


def at(family: LoadFamily, level: float) -> str:
    """A load in words: `2 requests/s`, `1 client`."""
    if family.key == "load.rate":
        return f"{level:g} request{'s' * (level != 1)}/s"
    return times(int(level), "client")


def quantity(family: LoadFamily) -> str:
    """What is varied, as an axis calls it."""
    return "offered requests/s" if family.key == "load.rate" else "clients"


def _cheapest(family: LoadFamily, confidence: str) -> Iterator[str]:
    of = f" of {family.name}" if family.name else ""
    condition = "keeps load.slo" if family.limits else "is served without saturation"
    points = [(curve, point) for curve in family.curves if (point := curve.best) is not None]
    without = [curve.name for curve in family.curves if curve.best is None]
    if not points:
        yield f"No load{of} that was measured {condition}, with any configuration."
        return
    points.sort(key=lambda each: each[1].energy.value)
    named = [
        f"{curve.name} {_cost(family, point, confidence if i == 0 else '')}"
        for i, (curve, point) in enumerate(points)
    ]
    yield (
        f"Least {family.metric.title}{kind(family.metric)}{of} at a load that {condition}:"
        f" {'; '.join(named)}."
        + (f" At no load: {joined(without)}." if without else "")
        + (" No promise is set (load.slo)." if not family.limits else "")
    )


def _cost(family: LoadFamily, point: LoadPoint, confidence: str) -> str:
    """`21.7 J (95 % interval 21.2 to 22.3) at 4 requests/s`."""
    metric, energy = family.metric, point.energy
    span = ""
    if energy.low is not None and energy.high is not None:
        label = f"{confidence} interval " if confidence else ""
        span = f" ({label}{between(metric, energy.low, energy.high)})"
    return f"{shown(metric, energy.value)}{span} at {at(family, point.level)}"


def _doubtful(family: LoadFamily) -> Iterator[str]:
    """Points that would be cheaper, of which it is not certain that they keep the promise."""
    names = [
        f"{curve.name} at {at(family, point.level)} ({good(point.good)})"
        for curve in family.curves
        for point in curve.points
        if point.promise == "uncertain"
        and not point.saturated
        and point.good is not None
        and (curve.best is None or point.energy.value < curve.best.energy.value)
    ]
    if names:
        yield (
            f"Cheaper, but not certain to have {100 * ENOUGH:g} % good requests: {joined(names)}."
        )


def good(share: Amount) -> str:
    """A share of good requests with its interval: `97.2 % (95.1 to 99.3)`."""
    value = percent(share.value)
    if share.low is None or share.high is None:
        return f"{value} %"
    ends = percent(share.low), percent(share.high)
    return f"{value} %" + ("" if set(ends) == {value} else f" ({ends[0]} to {ends[1]})")


def _saturated(family: LoadFamily) -> Iterator[str]:
    names = []
    for curve in family.curves:
        first = next((point for point in curve.points if point.saturated), None)
        if first is not None:
            often = f"{first.saturated} of {times(first.trials, 'trial')}"
            names.append(f"{curve.name} at {at(family, first.level)} ({often})")
    if names:
        yield f"Saturated, from this load on: {'; '.join(names)}."


def _knees(family: LoadFamily) -> Iterator[str]:
    known = [_knee(family, curve) for curve in family.curves if curve.knee is not None]
    if known:
        yield f"Knee, where throughput over mean latency is largest: {'; '.join(known)}."


def _knee(family: LoadFamily, curve: LoadCurve) -> str:
    seen = curve.knee
    assert seen is not None
    beyond = ""
    if seen.end == "lowest":
        beyond = " or below"
    elif seen.end == "highest" and curve.points[-1].level == seen.level:
        beyond = " or above"
    often = f"in {seen.same} of {times(seen.rounds, 'round')}"
    if seen.low < seen.high:
        often += f", else from {seen.low:g} to {seen.high:g}"
    return f"{curve.name} at {at(family, seen.level)}{beyond} ({often})"


def _orders(family: LoadFamily) -> Iterator[str]:
    changing = [order for order in family.orders if order.changes]
    decided = [o for o in family.orders if any(p.verdict in ("saves", "worse") for p in o.pairs)]
    stated = decided if len(family.orders) <= _MOST_ORDERS else changing
    yield from (_order(family, order) for order in stated)
    rest = len(family.orders) - len(stated)
    if rest and stated is changing:
        pairs = f"{times(rest, 'pair')} of configurations"
        yield f"No verdicts at different loads contradict each other in {pairs}."
    elif rest:
        undecided = [f"{o.a} and {o.b}" for o in family.orders if o not in stated]
        yield f"No verdict separates at any load: {joined(undecided)}."


def _order(family: LoadFamily, order: LoadOrder) -> str:
    """`Up to 2 requests/s A costs less energy per request than B (12 to 15 %); from 4 on B ...`."""
    shared = [pair for pair in order.pairs if pair.verdict is not None]  # none is saturated
    runs = [
        (verdict, list(run))
        for verdict, run in itertools.groupby(
            shared, lambda pair: pair.verdict if pair.verdict in ("saves", "worse") else None
        )
    ]
    parts, what = [], family.metric.title
    for verdict, run in runs:
        where = _where(family, run, shared)
        if verdict is None:
            parts.append(f"{where}, no verdict separates the two")
        else:
            cheaper, other = (order.a, order.b) if verdict == "saves" else (order.b, order.a)
            parts.append(f"{where}, {cheaper} costs less {what} than {other} ({_savings(run)})")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}{kind(family.metric)}."


def _where(family: LoadFamily, run: Sequence[LoadPair], shared: Sequence[LoadPair]) -> str:
    first, last = run[0].level, run[-1].level
    starts, ends = first == shared[0].level, last == shared[-1].level
    if first == last and (starts or not ends):
        return f"at {at(family, first)}"
    if starts != ends:
        return f"up to {at(family, last)}" if starts else f"from {at(family, first)} on"
    return f"from {first:g} to {at(family, last)}"


def _savings(run: Sequence[LoadPair]) -> str:
    """The smallest and the largest saving of the cheaper configuration: `12 to 15 %`."""
    ratios = [min(pair.ratio, 1 / pair.ratio) for pair in run if pair.ratio]
    ends = percent(1 - max(ratios)), percent(1 - min(ratios))
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"


def methods(report: Report) -> tuple[str, ...]:
    """How loads were analysed, in a paragraph."""
    if report.under_load is None or not report.under_load.families:
        return ()
    each = "all comparisons of the study" if report.options.adjust == "study" else "each load"
    return (
        "Under load, cells that differ in nothing but the load are one configuration."
        " Configurations are compared on energy per request at equal load, within rounds, as cells"
        f" are otherwise; the error rate is that of {each}. A load is admissible if it saturates in"
        f" no trial and at least {100 * ENOUGH:g} % of its requests are good: they kept load.slo"
        " or, where nothing is promised, were answered; the lower end of the interval over trials"
        " must be that large. The knee is the load with the largest power, throughput over mean"
        " latency (Kleinrock 1979), of those that do not saturate; that of each single round shows"
        " how certain it is.",
    )


def saturated(report: Report) -> dict[str, int]:
    """Cells whose queue grew, and in how many of their valid trials it did."""
    counts: dict[str, int] = {}
    for trial in report.trials:
        if trial.outcome == "valid" and trial.values.get("load/saturated"):
            counts[trial.cell] = counts.get(trial.cell, 0) + 1
    return counts


def notes(report: Report) -> tuple[str, ...]:
    """The caveat about cells whose queue grew."""
    counts = saturated(report).items()
    names = [f"{report.labels[cell]} (in {times(n, 'trial')})" for cell, n in counts]
    if not names:
        return ()
    return (
        f"Saturated: {joined(names)}. More was asked than was served, so the queue grew through the"
        " window: latencies depend on the window's length and are not those of this load, and"
        " joules per request are those at full capacity.",
    )
