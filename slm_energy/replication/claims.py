"""The verdicts of a study beside those of the same plan run elsewhere, one by one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Literal

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.verdict import SEPARATES, Verdict
from slm_energy.analysis.text.phrases import compared, kind

Answer = Literal["reproduced", "same direction", "not settled", "contradicted", "not here"]
HOLDS: tuple[Answer, ...] = ("reproduced", "same direction")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One verdict of a study, and what became of it.

    Attributes:
        metric: title of the metric.
        claimed: the verdict as the study states it, with its ratio.
        here: the same comparison on this machine; empty where there is none.
        answer: `reproduced`: the same verdict, and the ratio within the margin of the claimed one,
            or the two intervals overlap; `same direction`: the same verdict, another ratio;
            `not settled`: these rounds decide nothing; `contradicted`: another verdict; `not here`:
            it could not be compared.
        sentence: all of it for a reader, with the reason.
    """

    metric: str
    claimed: str
    here: str
    answer: Answer
    sentence: str


def claims(
    study: Report, again: Report | None, cells: Mapping[str, str], reasons: Mapping[str, str]
) -> tuple[Claim, ...]:
    """Compare the verdicts of two reports of one plan.

    Args:
        study: the report whose verdicts are claims: those with each family's reference.
        again: the report of this machine's trials; None where they allow none.
        cells: id of a cell of `study` to its id in `again`.
        reasons: id of a cell of `study` to the reason why it has no valid trial here.
    """
    return tuple(
        _claim(study, metric.metric, family, pair, again, cells, reasons)
        for metric in study.metrics
        for family in metric.families
        for pair in family.headline
        if pair.verdict in SEPARATES or pair.verdict == "equivalent"
    )


def _claim(
    study: Report,
    metric: Metric,
    family: Family,
    pair: Pair,
    again: Report | None,
    cells: Mapping[str, str],
    reasons: Mapping[str, str],
) -> Claim:
    labels = study.labels
    claimed = f"{labels[pair.a]}: {_stated(pair, labels[pair.b])}"
    title = f"{metric.title}{kind(metric)}"
    found = None if again is None else _same_pair(again, metric, pair, cells)
    answer: Answer
    if found is None:
        why = next((reasons[cell] for cell in (pair.a, pair.b) if cell in reasons), "")
        why = why or f"this machine has no {title} of both cells"
        answer, here, verdict = "not here", "", f"not reproducible here: {why}"
    else:
        answer = _answer(pair, found, study.options.margin)
        here = _stated(found, labels[pair.b])
        why = f" ({found.reason})" if found.reason and answer == "not settled" else ""
        verdict = f"{answer}, here {here}{why}"
    where = f"{family.name}, " if family.name else ""
    return Claim(
        metric=title,
        claimed=claimed,
        here=here,
        answer=answer,
        sentence=f"{where}{title}, {claimed}; {verdict}.",
    )


def _stated(pair: Pair, other: str) -> str:
    if pair.verdict == "equivalent":
        return f"equivalent to {other}"
    size = "unknown" if pair.ratio is None else compared(pair.ratio, other)
    return size if pair.verdict in SEPARATES else f"{size}, {pair.verdict}"


def _same_pair(again: Report, metric: Metric, pair: Pair, cells: Mapping[str, str]) -> Pair | None:
    """The comparison of the same two cells, in the same order; None where there is none."""
    a, b = cells.get(pair.a), cells.get(pair.b)
    for result in again.metrics:
        if result.metric.name != metric.name:
            continue
        for each in _pairs(result.families):
            if (each.a, each.b) == (a, b):
                return each
            if (each.a, each.b) == (b, a):
                return each.turned(higher_is_better=metric.higher_is_better)
    return None


def _pairs(families: tuple[Family, ...]) -> Iterator[Pair]:
    return (pair for family in families for pair in family.pairs if pair.ratio is not None)


def _answer(claim: Pair, found: Pair, margin: float) -> Answer:
    if found.verdict not in SEPARATES and found.verdict != "equivalent":
        return "not settled"
    if _direction(claim.verdict) != _direction(found.verdict):
        return "contradicted"
    if claim.verdict == "equivalent" or _close(claim, found, margin):
        return "reproduced"
    return "same direction"


def _direction(verdict: Verdict) -> str:
    """`better`, `worse` or `equivalent`."""
    return "better" if verdict in ("saves", "gains") else verdict


def _close(claim: Pair, found: Pair, margin: float) -> bool:
    """Whether two ratios are within the margin, or their simultaneous intervals overlap."""
    if claim.ratio is None or found.ratio is None:
        return False
    if abs(math.log(found.ratio / claim.ratio)) <= math.log1p(margin):
        return True
    ends = (claim.joint_low, claim.joint_high, found.joint_low, found.joint_high)
    low, high, other_low, other_high = ends
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high
