"""Part of a result: which configuration costs least under the conditions that were set."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.verdict import SEPARATES, Verdict


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A limit that a configuration must keep, such as a pass rate of at least 0.3."""

    metric: Metric
    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Whether a value keeps the limit."""
        return value >= self.limit if self.at_least else value <= self.limit

    def missed_by(self, value: float) -> float:
        """How far a value is beyond the limit, as a share of it; 0 where it keeps it."""
        if self.met_by(value):
            return 0.0
        return abs(value - self.limit) / (abs(self.limit) or 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a configuration has of a condition's metric.

    Attributes:
        value: mean over its valid trials, geometric except for shares; None where there is none.
        low: lower end of its interval; None where unknown.
        high: upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def contains(self, limit: float) -> bool:
        """Whether a limit lies within the interval: then it is not certain on which side it is."""
        return self.low is not None and self.high is not None and self.low <= limit <= self.high


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A configuration.

    Attributes:
        cell: its id.
        cost: of the metric that is minimised; None where it has none.
        low: lower end of its interval, of joules per solved task that for tasks like these; None
            where unknown.
        high: upper end.
        readings: one for each condition.
        ratio: cost of the recommended configuration over this one's; None for the recommended one,
            and where the two were not compared.
        ratio_low: lower end of its interval, simultaneous for all pairs of the family.
        ratio_high: upper end.
        verdict: about the recommended one against this one; None where `ratio` is.
        untested: why there is none, where nothing could be tested; else empty.
        excluded: why it cannot be recommended; empty if it can.
    """

    cell: str
    cost: float | None
    low: float | None = None
    high: float | None = None
    readings: tuple[Reading, ...] = ()
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    verdict: Verdict | None = None
    untested: str = ""
    excluded: str = ""

    @property
    def tied(self) -> bool:
        """Whether no verdict separates it from the recommended configuration."""
        return self.verdict is not None and self.verdict not in SEPARATES

    @property
    def stated(self) -> str:
        """The verdict in words."""
        return "not tested" if self.untested else self.verdict or "not compared"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """What to use, of one family and one kind of energy.

    Attributes:
        family: name of the family; empty where there is one.
        metric: what is minimised (throughput and quality: maximised); joules per solved task where
            they are known.
        conditions: the limits.
        candidates: the recommended one first, then by cost; those excluded last.
        pairs: comparisons that the intervals of ratios hold for together.
        reason: why nothing is recommended; else empty.
        sentences: all of it in words, the most important one first.
    """

    family: str
    metric: Metric
    conditions: tuple[Condition, ...]
    candidates: tuple[Candidate, ...]
    pairs: int
    reason: str = ""
    sentences: tuple[str, ...] = ()

    @property
    def eligible(self) -> tuple[Candidate, ...]:
        """Those that are not excluded; the first one is recommended."""
        return tuple(candidate for candidate in self.candidates if not candidate.excluded)
