"""Which configuration costs least under conditions, and how sure that is. Pure.

What is minimised is joules per solved task where any cell of a family solves one, else the metric
that decides. Each family and each kind of energy has a recommendation of its own: measured and
estimated joules never compete. A server that is saturated in any trial serves less than is asked of
it and is never recommended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from slm_energy.analysis.conditions import conditions, for_kind, readings
from slm_energy.analysis.result.comparison import Family
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.recommendation import Candidate, Condition, Reading, Recommendation
from slm_energy.analysis.result.report import MetricResult, Report
from slm_energy.analysis.result.solved import Range, Solved, SolvedFamily
from slm_energy.analysis.result.verdict import Verdict, mirrored
from slm_energy.analysis.text import recommendation as text
from slm_energy.analysis.text import under_load
from slm_energy.analysis.text.phrases import times
from slm_energy.metric_catalog.definition import SUMS


class _Cost(NamedTuple):
    value: float
    low: float | None
    high: float | None


class _Compared(NamedTuple):
    """One cell over another."""

    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict
    untested: str = ""

    def turned(self, higher_is_better: bool) -> _Compared:
        low = None if not self.high else 1 / self.high
        high = None if not self.low else 1 / self.low
        verdict = mirrored(self.verdict, higher_is_better)
        return _Compared(1 / self.ratio, low, high, verdict, self.untested)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Contest:
    """Cells that compete.

    Attributes:
        family: name of their family.
        metric: what is minimised.
        ranked: cells, best first.
        costs: cell to its cost.
        pairs: two cells to the first over the second.
        without: cell to the reason why it has no cost, where that is known.
    """

    family: str
    metric: Metric
    ranked: tuple[str, ...]
    costs: dict[str, _Cost]
    pairs: dict[tuple[str, str], _Compared]
    without: dict[str, str]

    def compared(self, a: str, b: str) -> _Compared | None:
        """Cell `a` over cell `b`."""
        if (a, b) in self.pairs:
            return self.pairs[a, b]
        other = self.pairs.get((b, a))
        return None if other is None else other.turned(self.metric.higher_is_better)


def recommend(
    report: Report, at_least: Mapping[str, float], at_most: Mapping[str, float]
) -> tuple[Recommendation, ...]:
    """The cheapest configuration of each family and kind of energy, measured before estimated.

    Args:
        report: the comparison; its families are those that are recommended for.
        at_least: name of a metric to the smallest value, in its stored unit, that is acceptable.
        at_most: likewise the largest.

    Raises:
        ConfigError: a condition names no metric of the study.
    """
    limits = conditions(report, at_least, at_most)
    made = (_recommended(report, contest, limits) for contest in _contests(report))
    return tuple(dataclasses.replace(each, sentences=text.sentences(report, each)) for each in made)


def _contests(report: Report) -> list[_Contest]:
    """By joules per solved task where there are any, else by the metric that decides."""
    found: dict[tuple[str, str], _Contest] = {}
    for contest in (*_by_solved(report.solved), *_by_deciding(report.deciding)):
        found.setdefault((_group(contest.metric), contest.family), contest)
    kinds = {group for group, _ in found} & set(SUMS)
    families = list(dict.fromkeys(cell.family for cell in report.cells))
    return sorted(
        # With joules per solved task, a deciding metric that is no energy decides nothing.
        (c for (group, _), c in found.items() if group in SUMS or not kinds),
        key=lambda c: (_kind_order(c.metric), families.index(c.family)),
    )


def _group(metric: Metric) -> str:
    return metric.name.partition("/")[0]


def _kind_order(metric: Metric) -> int:
    return list(SUMS).index(_group(metric)) if metric.is_energy else len(SUMS)


def _by_solved(results: Iterable[Solved]) -> Iterator[_Contest]:
    for solved in results:
        rows = {row.cell: row for row in solved.cells}
        for family in solved.families:
            costs = {
                cell: _Cost(row.per_solved_j, *_ends(row.like))
                for cell in family.ranked
                if (row := rows[cell]).per_solved_j is not None
            }
            if solved.metric is not None and costs:
                yield _Contest(
                    family=family.name,
                    metric=solved.metric,
                    ranked=tuple(cell for cell in family.ranked if cell in costs),
                    costs=costs,
                    pairs=dict(_solved_pairs(family)),
                    without={c: rows[c].reason for c in family.ranked if c not in costs},
                )


def _ends(interval: Range | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _solved_pairs(family: SolvedFamily) -> Iterator[tuple[tuple[str, str], _Compared]]:
    for pair in family.pairs:
        if pair.ratio is not None:
            yield (
                (pair.a, pair.b),
                _Compared(pair.ratio, *_ends(pair.ratio_range), pair.verdict),
            )


def _by_deciding(results: Iterable[MetricResult]) -> Iterator[_Contest]:
    for result in results:
        rows = {row.cell: row for row in result.descriptive}
        if not rows:  # an error kept them out of the report, which says so
            continue
        for family in result.families:
            yield _Contest(
                family=family.name,
                metric=result.metric,
                ranked=tuple(cell for cell in family.ranked if cell in rows),
                costs={
                    cell: _Cost(rows[cell].mean, rows[cell].low, rows[cell].high)
                    for cell in family.ranked
                    if cell in rows
                },
                pairs=dict(_pairs(family)),
                without={},
            )


def _pairs(family: Family) -> Iterator[tuple[tuple[str, str], _Compared]]:
    for pair in family.pairs:
        if pair.ratio is not None:
            untested = "" if pair.is_tested else pair.reason
            ends = pair.joint_low, pair.joint_high
            seen = _Compared(pair.ratio, *ends, pair.verdict, untested)
            yield (pair.a, pair.b), seen


def _recommended(report: Report, contest: _Contest, limits: Sequence[Condition]) -> Recommendation:
    own = tuple(for_kind(limit, contest.metric) for limit in limits)
    known = [readings(report, condition.metric) for condition in own]
    rest = [cell.id for cell in report.cells if cell.family == contest.family]
    cells = dict.fromkeys([*contest.ranked, *rest])
    candidates = [
        _candidate(
            report, contest, cell, own, tuple(r.get(cell, Reading(value=None)) for r in known)
        )
        for cell in cells
    ]
    meeting = [candidate for candidate in candidates if not candidate.excluded]
    if meeting:
        best = meeting[0].cell
        meeting = [_against(contest, best, candidate) for candidate in meeting]
    excluded = [candidate for candidate in candidates if candidate.excluded]
    return Recommendation(
        family=contest.family,
        metric=contest.metric,
        conditions=own,
        candidates=(*meeting, *excluded),
        pairs=len(contest.pairs),
        reason="" if meeting else "no configuration meets the conditions",
    )


def _candidate(
    report: Report,
    contest: _Contest,
    cell: str,
    limits: Sequence[Condition],
    seen: tuple[Reading, ...],
) -> Candidate:
    cost = contest.costs.get(cell)
    missed = [
        text.missed(condition, reading)
        for condition, reading in zip(limits, seen, strict=True)
        if reading.value is None or not condition.met_by(reading.value)
    ]
    if trials := under_load.saturated(report).get(cell):
        missed.insert(0, f"it is saturated in {times(trials, 'trial')}, so its queue has no end")
    if cost is None:
        missed.insert(0, contest.without.get(cell) or _no_cost(report, contest.metric, cell))
    return Candidate(
        cell=cell,
        cost=None if cost is None else cost.value,
        low=None if cost is None else cost.low,
        high=None if cost is None else cost.high,
        readings=seen,
        excluded=", and ".join(missed),
    )


def _no_cost(report: Report, metric: Metric, cell: str) -> str:
    """Why a cell does not have the metric."""
    slots = [slot for slot in report.audit.slots if slot.cell == cell]
    if slots and not any(slot.outcome == "valid" for slot in slots):
        last = [slot for slot in slots if slot.outcome != "missing"][-1]
        why = f"{last.outcome}: {last.reason}" if last.reason else last.outcome
        return f"no valid trial ({why})"
    return text.lacks(metric)


def _against(contest: _Contest, best: str, candidate: Candidate) -> Candidate:
    """The candidate with the recommended configuration compared with it."""
    seen = contest.compared(best, candidate.cell)
    if seen is None:
        return candidate
    return dataclasses.replace(
        candidate,
        ratio=seen.ratio,
        ratio_low=seen.low,
        ratio_high=seen.high,
        verdict=seen.verdict,
        untested=seen.untested,
    )
