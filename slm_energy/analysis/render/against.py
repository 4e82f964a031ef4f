"""A cell against another one, whichever of the two their pair names first."""

from __future__ import annotations

from typing import NamedTuple

from slm_energy.analysis.result.comparison import Family, Pair
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.verdict import Verdict, mirrored

_Span = tuple[float, float] | None


class Against(NamedTuple):
    """What a pair says about `cell` against the other cell.

    Attributes:
        cell: its id.
        ratio: over the other; None where it is not known.
        interval: simultaneous, of the ratio.
        wide: the same with the instruments' intervals.
        verdict: about `cell`; None where nothing was tested.
        reason: why there is no other verdict.
    """

    cell: str
    ratio: float | None
    interval: _Span
    wide: _Span
    verdict: Verdict | None
    reason: str

    @property
    def stated(self) -> str:
        """The verdict in words."""
        return self.verdict or "not tested"


def against(metric: Metric, pair: Pair, other: str) -> Against:
    """The cell of a pair that is not `other`, against it."""
    turned = pair.a == other

    def span(low: float | None, high: float | None) -> _Span:
        if low is None or high is None or low <= 0:
            return None
        return (1 / high, 1 / low) if turned else (low, high)

    verdict = mirrored(pair.verdict, metric.higher_is_better) if turned else pair.verdict
    return Against(
        cell=pair.b if turned else pair.a,
        ratio=1 / pair.ratio if turned and pair.ratio else pair.ratio,
        interval=span(pair.joint_low, pair.joint_high),
        wide=span(pair.joint_wide_low, pair.joint_wide_high),
        verdict=verdict if pair.is_tested else None,
        reason=pair.reason,
    )


def against_reference(metric: Metric, family: Family) -> list[Against]:
    """The other cells of a family, best first."""
    return [against(metric, pair, family.reference) for pair in family.headline]
