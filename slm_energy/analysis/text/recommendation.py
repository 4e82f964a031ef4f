"""The sentences about which configuration to use, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.recommendation import Candidate, Condition, Reading, Recommendation
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.verdict import COARSE, SEPARATES
from slm_energy.analysis.text import findings, machines_in_words
from slm_energy.analysis.text.phrases import (
    amount,
    between,
    changes,
    confidence,
    joined,
    kind,
    measured,
    number,
    of_reference,
    shown,
    simultaneous_for,
    than,
    times,
)
from slm_energy.analysis.text.solved_findings import of_best
from slm_energy.analysis.text.solved_order import fewer, other_order
from slm_energy.analysis.text.solved_phrases import LIKE, facts, is_per_solved, row_of

_MOST = 6
"""Excluded configurations that a sentence names."""


def sentences(report: Report, made: Recommendation) -> tuple[str, ...]:
    """All of it: what to use, how sure that is, what it ties with, doubts, what is excluded."""
    if not made.eligible:
        return (*_nothing(report, made), *_excluded(report, made))
    return (
        _first(report, made),
        *_certainty(report, made),
        *_ties(report, made),
        *_pass_rate(report, made),
        *_other_order(report, made),
        *_doubts(report, made),
        *_excluded(report, made),
    )


MOST_FAMILIES = 3
"""Families that a report goes through one by one; of more it has a table, and folds the rest."""


def opening(report: Report) -> tuple[tuple[str, ...], ...]:
    """What a report begins with: which machine, then which configuration; the first line leads."""
    across = machines_in_words.findings(report)
    made = choices(report)
    many = len(made) > MOST_FAMILIES
    groups = [_most_often(report, made)] if many else [each.sentences for each in made]
    return (*([across] if across else []), *under_load(report), *groups)


def under_load(report: Report) -> list[tuple[str, ...]]:
    """What a report begins with about loads: of many families nothing, the section has it."""
    families = () if report.under_load is None else report.under_load.families
    return [each.sentences for each in families if len(families) <= MOST_FAMILIES]


def choices(report: Report) -> tuple[Recommendation, ...]:
    """The recommendations that had something to choose from."""
    return tuple(
        made
        for made in report.recommendations
        if sum(candidate.cost is not None for candidate in made.candidates) > 1
    )


def _most_often(report: Report, made: Sequence[Recommendation]) -> tuple[str, ...]:
    """Which configurations are the cheapest in how many of many families."""
    lines = []
    for metric in dict.fromkeys(each.metric for each in made):
        own = [each for each in made if each.metric == metric and each.eligible]
        counts = Counter(report.short_label(each.eligible[0].cell) for each in own)
        sure = sum(each.eligible[1].verdict in SEPARATES for each in own if len(each.eligible) > 1)
        of = "models" if report.by_model else "families"
        names = joined([f"{name} for {n} of {len(own)} {of}" for name, n in counts.most_common()])
        what = "Cheapest" if metric.is_energy else "Best"
        lines.append(
            f"{what} configuration by {metric.title}{kind(metric)}: {names}. A verdict separates it"
            f" from the next best in {sure} of {len(own)}."
        )
    return tuple(lines)


def unsaid(report: Report) -> tuple[str, ...]:
    """The findings without those that `opening` states too."""
    said = {
        line
        for made in choices(report)
        for solved in report.solved
        if solved.metric == made.metric
        for family in solved.families
        if family.name == made.family
        for line in of_best(report, solved, family)
    }
    said |= {*machines_in_words.findings(report)}
    if len(choices(report)) > MOST_FAMILIES:  # the table of choices has them
        said |= {*findings.findings(report)}
    return tuple(line for line in report.findings if line not in said)


def condition(limit: Condition) -> str:
    """A condition in words: `pass rate of at least 30 %`."""
    side = "at least" if limit.at_least else "at most"
    return f"{limit.metric.title}{kind(limit.metric)} of {side} {_limit(limit)}"


def _limit(limit: Condition) -> str:
    """The limit as it was set, in the unit of pages."""
    metric = limit.metric
    return f"{limit.limit * metric.scale:,.6g} {metric.unit}".strip()


def lacks(metric: Metric) -> str:
    """That a cell does not have a metric."""
    which = "" if not metric.is_energy else "estimated " if metric.estimated else "measured "
    return f"has no {which}{metric.title}"


def missed(limit: Condition, seen: Reading) -> str:
    """Why a cell does not keep a condition."""
    if seen.value is None:
        return lacks(limit.metric)
    side = "below" if limit.at_least else "above"
    within = ""
    if seen.low is not None and seen.high is not None and seen.contains(limit.limit):
        within = f", which its interval {between(limit.metric, seen.low, seen.high)} contains"
    return (
        f"{limit.metric.title} {shown(limit.metric, seen.value)} is {side} {_limit(limit)}{within}"
    )


def _reading(metric: Metric, seen: Reading) -> str:
    assert seen.value is not None
    if seen.low is None or seen.high is None:
        return shown(metric, seen.value)
    return f"{shown(metric, seen.value)} ({between(metric, seen.low, seen.high)})"


def _first(report: Report, made: Recommendation) -> str:
    best = made.eligible[0]
    limits = f" with {_listed(made.conditions)}" if made.conditions else ""
    of = f" of {made.family}" if made.family else ""
    what = "Cheapest" if made.metric.is_energy else "Best"
    return (
        f"{what} configuration{of}{limits}: {report.labels[best.cell]}, "
        f"{_facts(report, made, best)}.{measured(report, made.metric)}"
    )


def _listed(limits: Sequence[Condition]) -> str:
    return " and ".join(condition(limit) for limit in limits)


def _facts(report: Report, made: Recommendation, best: Candidate) -> str:
    """What it costs; of joules per solved task with both intervals, tasks and joules per token."""
    row = row_of(report, made.metric, best.cell)
    if row is not None:
        return facts(report, made.metric, row)
    assert best.cost is not None
    span = ""
    if best.low is not None and best.high is not None:
        span = f"{confidence(report)} interval {between(made.metric, best.low, best.high)}"
    notes = "; ".join(filter(None, ("estimated" * made.metric.estimated, span)))
    return amount(made.metric, best.cost) + (f" ({notes})" if notes else "")


def _certainty(report: Report, made: Recommendation) -> Iterator[str]:
    """How the recommended configuration compares with the next best."""
    others = made.eligible[1:]
    if not others:
        which = "meets the conditions" if made.conditions else f"has {made.metric.title}"
        yield f"No other configuration {which}: there is nothing to compare it with."
        return
    following = others[0]
    assert following.cost is not None
    name = f"{report.labels[following.cell]} ({amount(made.metric, following.cost)})"
    if following.ratio is None:
        yield f"The next best is {name}; the two were not compared."
        return
    if following.untested:
        yield (
            f"The next best is {name}, ratio {number(following.ratio)}; no verdict:"
            f" {following.untested}."
        )
        return
    interval = _interval(report, made, following)
    if following.verdict in SEPARATES:
        said = f"costs {of_reference(following.ratio)} than the next best, {name}"
        if not made.metric.is_energy:
            said = than(made.metric, following.ratio, f"the next best, {name}")
        yield f"It {said}{interval}: {following.verdict}."
    elif following.verdict == "equivalent":
        yield (
            f"The next best, {name}, is equivalent: the difference lies within the margin of "
            f"{100 * report.options.margin:g} %{interval}."
        )
    else:
        coarse = f" ({COARSE})" * (following.verdict == COARSE)
        yield (
            f"Not certain: no verdict separates it from the next best, {name}; ratio "
            f"{number(following.ratio)}{interval}: inconclusive{coarse}."
        )


def _interval(report: Report, made: Recommendation, candidate: Candidate) -> str:
    """The interval of a ratio, with its name, after a comma; empty where there is none."""
    low, high = candidate.ratio_low, candidate.ratio_high
    if low is None or high is None:
        return ""
    tasks = f" {LIKE}" if is_per_solved(made.metric) else ""
    name = f"{simultaneous_for(report, made.pairs)} interval"
    if candidate.verdict in SEPARATES:
        return f", {name} {changes(low, high)}{tasks}"
    return f", {name} of the ratio {number(low)} to {number(high)}{tasks}"


def _ties(report: Report, made: Recommendation) -> Iterator[str]:
    """What else is not separated from it, and what the first costs that is."""
    others = made.eligible[1:]
    ties = [c for c in others if c.tied]
    if len(ties) > 1 or (ties and ties[0] is not others[0]):
        names = joined([f"{report.labels[c.cell]} ({c.stated})" for c in ties])
        yield f"Statistically tied with it: {names}."
    separated = [c for c in others if c.verdict in SEPARATES]
    if separated and separated[0] is not others[0]:
        first = separated[0]
        assert first.cost is not None
        assert first.ratio is not None
        costs = "costs" if made.metric.is_energy else "has"
        times_as_much = of_reference(1 / first.ratio).replace("times", "times as much")
        yield (
            f"The first that a verdict separates from it is {report.labels[first.cell]} with "
            f"{amount(made.metric, first.cost)}: it {costs} {times_as_much}"
            f"{_ratio(report, made, first)}."
        )


def _ratio(report: Report, made: Recommendation, candidate: Candidate) -> str:
    low, high = candidate.ratio_low, candidate.ratio_high
    if not low or not high:
        return ""
    name = f"{simultaneous_for(report, made.pairs)} interval"
    return f", {name} {changes(1 / low, 1 / high)}"


def _pass_rate(report: Report, made: Recommendation) -> Iterator[str]:
    """How the recommended one solves tasks, against the one that solves most of those eligible."""
    best, *others = made.eligible
    rows = [row_of(report, made.metric, c.cell) for c in (best, *others)]
    known = [row for row in rows if row is not None]
    if not known or rows[0] is None:
        return
    most = max(known, key=lambda row: row.rate)
    if most.rate > rows[0].rate:
        yield fewer(report, made.metric, rows[0], most)


def _other_order(report: Report, made: Recommendation) -> Iterator[str]:
    """What is cheaper by the metric that decides, and dearer per solved task."""
    if is_per_solved(made.metric):
        cells = [candidate.cell for candidate in made.eligible]
        yield from other_order(report, made.metric, made.family, cells)


def _doubts(report: Report, made: Recommendation) -> Iterator[str]:
    """Conditions that are met by values whose intervals contain the limit."""
    for i, limit in enumerate(made.conditions):
        names = [
            f"{report.labels[candidate.cell]} with {_reading(limit.metric, candidate.readings[i])}"
            for candidate in made.eligible
            if candidate.readings[i].contains(limit.limit)
        ]
        if names:
            yield (
                f"Doubtful: the limit of {_limit(limit)} lies within the {confidence(report)} "
                f"interval of {limit.metric.title}{kind(limit.metric)} of {joined(names)}."
            )


def _excluded(report: Report, made: Recommendation) -> Iterator[str]:
    excluded = [c for c in made.candidates if c.excluded]
    names = [f"{report.labels[c.cell]}: {c.excluded}" for c in excluded[:_MOST]]
    more = f"; and {len(excluded) - _MOST} more" if len(excluded) > _MOST else ""
    if names:
        yield f"Excluded: {'; '.join(names)}{more}."


def _nothing(report: Report, made: Recommendation) -> Iterator[str]:
    """Which condition is hardest to meet, and what comes nearest."""
    of = f" of {made.family}" if made.family else ""
    known = [c for c in made.candidates if all(r.value is not None for r in c.readings)]
    priced = [c for c in known if c.cost is not None]
    if not made.conditions:
        yield f"No configuration{of} has {made.metric.title}{kind(made.metric)}."
        return
    conditions = f"condition{'s' * (len(made.conditions) > 1)}"
    yield f"No configuration{of} meets the {conditions}: {_listed(made.conditions)}."
    if not priced:
        return
    met = [
        sum(limit.met_by(c.readings[i].value or 0.0) for c in known)
        for i, limit in enumerate(made.conditions)
    ]
    if len(made.conditions) > 1:
        hardest = made.conditions[met.index(min(met))]
        yield (
            f"Hardest to meet is {condition(hardest)}: {min(met)} of "
            f"{times(len(known), 'configuration')}."
        )
    nearest = min(priced, key=lambda c: _miss(made, c))
    what = [
        f"{limit.metric.title} {_reading(limit.metric, seen)}"
        for limit, seen in zip(made.conditions, nearest.readings, strict=True)
    ]
    assert nearest.cost is not None
    yield (
        f"Nearest is {report.labels[nearest.cell]} with {' and '.join(what)}, and has "
        f"{amount(made.metric, nearest.cost)}{kind(made.metric)}."
    )


def _miss(made: Recommendation, candidate: Candidate) -> float:
    """The largest distance from a limit, as a share of it."""
    pairs = zip(made.conditions, candidate.readings, strict=True)
    return max(limit.missed_by(seen.value or 0.0) for limit, seen in pairs)
