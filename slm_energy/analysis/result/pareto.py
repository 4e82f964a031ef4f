"""Part of a result: the trade-off between two metrics."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.metric import Metric


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParetoPoint:
    """One cell on the plane of two metrics.

    Attributes:
        cell: its id.
        x: geometric mean of the front's metric x (arithmetic for a share such as quality).
        y: of metric y.
        x_low: lower end of its t interval; None where unknown.
        x_high: upper end.
        y_low: lower end of its t interval; None where unknown.
        y_high: upper end.
        front: no other cell is at least as good in both and better in one.
        probability: share of resamples of the rounds in which it is on the front: how stable the
            front is from round to round, not the chance that the cell is truly on it.
    """

    cell: str
    x: float
    y: float
    x_low: float | None
    x_high: float | None
    y_low: float | None
    y_high: float | None
    front: bool
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pareto:
    """Which cells are the best trade-off of two metrics, over all families of a kind of energy.

    Attributes:
        x: the metric of energy.
        y: latency or quality.
        points: cells that have both, in order of x.
        resamples: how many the shares rest on; None in reports of earlier versions.
    """

    x: Metric
    y: Metric
    points: tuple[ParetoPoint, ...]
    resamples: int | None = None
