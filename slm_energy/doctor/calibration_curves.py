"""What a source shows in the phases of a calibration: powers of plateaus, moments of steps. Pure.

Power is that of `derive/energy`. The moment of a step is that at which a sharp step would give the
same energy between two plateaus: it does not depend on how averaging smears the step out.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slm_energy.derive.energy.accounting import account
from slm_energy.errors import MeterError
from slm_energy.record import Series, Window

Floats = NDArray[np.float64]

_UNSTEADY = 0.1
"""Largest deviation between phases of equal load, as a share of the range of a source."""

_FEWEST_READINGS = 5
"""Values that a plateau's power must rest on; a counter's must differ."""

_LATEST = 0.6
"""Latest moment at which changes may usually show, as a share of the time before a plateau."""

_SMALL_STEP = 0.2
"""A smaller change than this share of a source's range does not date a step."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A time of constant load.

    Attributes:
        load: `idle`, `processors`, or the UUID of a GPU.
        level: share of the load's full power; 0 for idle.
        start_ns: when it began; the previous phase ended then.
        end_ns: when it ended.
    """

    load: str
    level: float
    start_ns: int
    end_ns: int

    @property
    def plateau(self) -> tuple[int, int]:
        """The span over which power is taken as steady.

        A quarter after the beginning, for what settles or is shown late; and a tenth before the
        end, because an edge where power jumps is known no better than the time between readings.
        """
        length_ns = self.end_ns - self.start_ns
        return self.start_ns + length_ns // 4, self.end_ns - length_ns // 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One source over all phases.

    Attributes:
        series: its readings; its known accuracy and lag are put aside.
        phases: n of them.
        max_gap_ns: see `account`.
        powers_w: (n,) mean power on each plateau.
    """

    series: Series
    phases: Sequence[Phase]
    max_gap_ns: int
    powers_w: Floats

    @classmethod
    def of(cls, series: Series, phases: Sequence[Phase], max_gap_ns: int) -> Curve:
        """Derive the powers from readings.

        Raises:
            MeterError: a plateau's power is not known.
        """
        plain = dataclasses.replace(
            series.source, gain_pct=0.0, lag_ns=0, lag_error_ns=0, calibration=None
        )
        series = dataclasses.replace(series, source=plain)
        powers_w = np.array([_power_w(series, phase.plateau, max_gap_ns) for phase in phases])
        return cls(series=series, phases=phases, max_gap_ns=max_gap_ns, powers_w=powers_w)

    def refuse_unmoved(self) -> None:
        """Refuse a source whose power the loads do not change.

        Raises:
            MeterError: phases of equal load differ as much as those of different loads.
        """
        spread_w, range_w = _spread_w(self.powers_w, self.phases), float(np.ptp(self.powers_w))
        if spread_w > _UNSTEADY * range_w:
            raise MeterError(
                f"{self.series.source.id}: phases of equal load differ by {spread_w:.3g} W, and the"
                f" loads change its power by {range_w:.3g} W: they do not move it, or set a longer"
                " phase_s"
            )

    def steps_s(self) -> Floats:
        """When each change of the load was shown (n - 1,), s after it; NaN for small changes.

        Raises:
            MeterError: the loads do not move it, or it lags into the plateaus.
        """
        self.refuse_unmoved()
        least_w = _SMALL_STEP * float(np.ptp(self.powers_w))
        pairs = zip(pairwise(self.phases), pairwise(self.powers_w), strict=True)
        steps_s = np.array(
            [
                _step_s(self.series, phases, (before_w, after_w), self.max_gap_ns)
                if abs(after_w - before_w) >= least_w
                else np.nan
                for phases, (before_w, after_w) in pairs
            ]
        )
        wait_s = (self.phases[0].plateau[0] - self.phases[0].start_ns) / 1e9
        shown_s = float(np.nanmedian(steps_s))
        if shown_s > _LATEST * wait_s:
            raise MeterError(
                f"{self.series.source.id}: it shows a change of the load after {shown_s:.2g} s, and"
                f" a plateau begins after {wait_s:.2g} s: set a longer phase_s"
            )
        return steps_s

    @property
    def resolution_s(self) -> float:
        """How finely a publication is dated, s: an error may be the same at every step.

        A counter is known to have ticked between two readings. A power that is shown again may be
        a publication of its own or not.
        """
        source = self.series.source
        apart_ns = statistics.median(b - a for a, b in pairwise(self.series.before_ns))
        finest_ns = min(apart_ns, source.update_period_ns or apart_ns)
        return finest_ns / 1e9 if source.kind == "power" else finest_ns / 2e9


def _spread_w(powers_w: Floats, phases: Sequence[Phase]) -> float:
    """Pooled standard deviation between phases of equal load."""
    groups: dict[tuple[str, float], list[float]] = {}
    for power_w, phase in zip(powers_w, phases, strict=True):
        groups.setdefault((phase.load, phase.level), []).append(float(power_w))
    freedom = len(powers_w) - len(groups)
    squares = sum(float(np.var(group)) * len(group) for group in groups.values())
    return float(np.sqrt(squares / freedom))


def _power_w(series: Series, span: tuple[int, int], max_gap_ns: int) -> float:
    """Mean power on a plateau.

    Raises:
        MeterError: it is not known, or rests on too few values.
    """
    raws = [
        raw
        for at, raw in zip(series.before_ns, series.raw, strict=True)
        if span[0] <= at <= span[1] and raw is not None
    ]
    values = len(raws) if series.source.kind == "power" else len(set(raws))
    if values < _FEWEST_READINGS:
        raise MeterError(
            f"{series.source.id}: a phase has {values} values of it, and {_FEWEST_READINGS} are"
            " needed: set a longer phase_s"
        )
    return _joules(series, span, max_gap_ns) / ((span[1] - span[0]) / 1e9)


def _joules(series: Series, span: tuple[int, int], max_gap_ns: int) -> float:
    """Energy between two moments.

    Raises:
        MeterError: it is not known.
    """
    window = Window(name="calibration", start_ns=span[0], end_ns=span[1])
    figure = account(series, window, max_gap_ns=max_gap_ns)
    if figure.joules is None:
        raise MeterError(f"{series.source.id}: {figure.reasons[0]}: set a longer phase_s")
    return figure.joules


def _step_s(
    series: Series, phases: tuple[Phase, Phase], powers_w: tuple[float, float], max_gap_ns: int
) -> float:
    """When a sharp step would give the same energy between two plateaus, s after the load's."""
    before_w, after_w = powers_w
    start_ns, end_ns = phases[0].plateau[1], phases[1].plateau[0]
    joules = _joules(series, (start_ns, end_ns), max_gap_ns)
    after_s = (end_ns - phases[1].start_ns) / 1e9
    before_s = (phases[1].start_ns - start_ns) / 1e9
    return (after_w * after_s + before_w * before_s - joules) / (after_w - before_w)
