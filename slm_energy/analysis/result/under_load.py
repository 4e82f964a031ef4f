"""Part of a result: joules and latency against the load, of cells that differ in nothing else."""

from __future__ import annotations

import dataclasses
from typing import Literal

from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.verdict import Verdict

Promise = Literal["kept", "uncertain", "broken", "unknown"]

ENOUGH = 0.95
"""Share of requests that must be good for a promise to be kept: what a 95th percentile says."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadPoint:
    """A configuration at one load.

    Attributes:
        cell: its id.
        level: requests per second, or clients.
        trials: valid ones.
        saturated: of these, the trials in which the queue grew through the window.
        delivered_per_s: complete requests per second, mean over trials; None where unknown.
        energy: joules per request; geometric mean over trials with its t interval.
        per_good_request: joules per request that kept the promise; None without a promise.
        latencies: name of a metric to its geometric mean over trials with its t interval.
        good: share of requests that kept the promise, or were answered where nothing was promised;
            mean over trials with its t interval; None where unknown.
        promise: whether enough requests were good; `uncertain` where the interval has both.
        idle_share: power of the baseline over that of the window, mean over trials; None where
            unknown.
    """

    cell: str
    level: float
    trials: int
    saturated: int
    delivered_per_s: float | None
    energy: Amount
    per_good_request: Amount | None
    latencies: dict[str, Amount]
    good: Amount | None
    promise: Promise
    idle_share: float | None

    @property
    def admissible(self) -> bool:
        """Whether it can be recommended."""
        return not self.saturated and self.promise == "kept"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Knee:
    """The load from which on more of it costs more latency than it gains throughput.

    Attributes:
        level: the load, of those that were measured.
        rounds: rounds that are complete for all loads.
        same: of these, the rounds that alone show the same knee.
        low: smallest knee that one of these rounds shows.
        high: largest.
        end: `lowest` or `highest` where it is at an end of the loads that do not saturate, so that
            it may lie beyond; else empty.
    """

    level: float
    rounds: int
    same: int
    low: float
    high: float
    end: Literal["lowest", "highest", ""]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadCurve:
    """A configuration over its loads.

    Attributes:
        name: what distinguishes it from the others.
        points: by load.
        knee: None with fewer than three loads that do not saturate.
        cheapest: the load with the least joules per request of those that keep the promise and do
            not saturate; None where there is none.
    """

    name: str
    points: tuple[LoadPoint, ...]
    knee: Knee | None
    cheapest: float | None

    @property
    def best(self) -> LoadPoint | None:
        """The point of `cheapest`."""
        return next((point for point in self.points if point.level == self.cheapest), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadPair:
    """Two configurations at one load, compared within rounds on joules per request.

    Attributes:
        level: the load.
        ratio: geometric mean of `a` over `b`; None without a common round.
        low: lower end of its simultaneous interval over all pairs of this load; None where unknown.
        high: upper end.
        verdict: about `a`; None where one of them is saturated: they do not serve the same load.
    """

    level: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadOrder:
    """Two configurations over the loads that both have.

    Attributes:
        a: name of a curve.
        b: of another.
        pairs: by load.
    """

    a: str
    b: str
    pairs: tuple[LoadPair, ...]

    @property
    def changes(self) -> bool:
        """Whether verdicts at different loads are for different configurations."""
        return len({pair.verdict for pair in self.pairs} & {"saves", "worse"}) > 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadFamily:
    """Configurations of one family over one kind of load, on one kind of energy.

    Attributes:
        name: levels that they share; empty where there is one family.
        key: `load.rate` or `load.clients`.
        metric: joules per request.
        latencies: names of the latencies that the promise limits; TTFT and end-to-end latency, 95th
            percentiles, where it limits none.
        limits: name of such a latency to its promised limits in s, one unless cells have several.
        curves: one per configuration.
        orders: one per two configurations that share a load.
        sentences: all of it in words, the most important one first.
    """

    name: str
    key: Literal["load.rate", "load.clients"]
    metric: Metric
    latencies: tuple[str, ...]
    limits: dict[str, tuple[float, ...]]
    curves: tuple[LoadCurve, ...]
    orders: tuple[LoadOrder, ...]
    sentences: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnderLoad:
    """What a study shows whose cells run under different loads.

    Attributes:
        keys: settings of the load that vary; cells are compared where these are equal.
        families: with curves of at least two loads; empty where no configuration has two.
    """

    keys: tuple[str, ...]
    families: tuple[LoadFamily, ...]
