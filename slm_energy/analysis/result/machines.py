"""Part of a result: cells of two machines against each other."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.metric import Metric


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AcrossMachines:
    """One metric on two machines, within one family of the other settings.

    Attributes:
        metric: which.
        machines: both.
        family: the levels that the cells share, such as a model; empty where all are one family.
        pairs: the best cells of both machines, then the cells with the same settings on both;
            `joint_wide_low` and `joint_wide_high` cover the gain of the sensors, and decide.
        candidates: pairs of cells that these intervals hold for together.
        reason: why there is no ratio; empty where there are.
    """

    metric: Metric
    machines: tuple[str, str]
    family: str = ""
    pairs: tuple[Pair, ...] = ()
    candidates: int = 0
    reason: str = ""
