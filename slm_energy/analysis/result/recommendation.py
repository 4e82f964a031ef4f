"""Part of a result: which configuration costs least under the conditions that were set."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.metric import Metric


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A limit that a configuration must keep, such as a pass rate of at least 0.3."""

    metric: Metric
    limit: float
    at_least: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A configuration.

    Attributes:
        cell: its id.
        cost: of the deciding metric.
        low: lower end of its interval; None where unknown.
        high: upper end.
        tied: no verdict separates it from the recommended one.
        doubtful: conditions that it meets by its value, but whose limit is within its interval.
        excluded: why it does not meet the conditions; empty if it does.
    """

    cell: str
    cost: float | None
    low: float | None = None
    high: float | None = None
    tied: bool = False
    doubtful: tuple[str, ...] = ()
    excluded: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """What to use, of one family and one kind of energy.

    Attributes:
        family: name of the family; empty where there is one.
        metric: what is minimised: joules per solved task where they are known.
        conditions: the limits.
        candidates: the recommended one first, then by cost; those excluded last.
        reason: why nothing is recommended; else empty.
        sentences: all of it in words.
    """

    family: str
    metric: Metric
    conditions: tuple[Condition, ...]
    candidates: tuple[Candidate, ...]
    reason: str = ""
    sentences: tuple[str, ...] = ()
