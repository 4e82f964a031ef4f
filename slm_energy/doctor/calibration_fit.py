"""Gain, offset and lag of sources against a reference, from phases of idling and load. Pure.

Each phase has a plateau, over which the mean power of every source is known from `derive/energy`.
These means are the observations: what is correlated within a phase is absorbed by its mean (the
method of batch means, Schmeiser, Operations Research 30, 1982), and intervals are t intervals over
phases. Two models, by what the reference covers:

- *the same device*: shown = offset + gain * reference. Least squares, and its t intervals.
- *more than the source*, as a meter at the wall does: reference = constant + sum of b * part, where
  a part is the sum of all sources that one kind of load moves. Sources of one part move together,
  so that only their sum can be compared: they share gain = 1 / b. Gain is relative to the
  reference: it contains the losses of the power supply, and whatever else rises with that load and
  has no sensor. The constant (fans, board, disks) belongs to no source, so their offset is 0 by
  definition. Several parts are fitted together, and each needs a load of its own.

Both assume that errors of the regressor are small beside the range of the load; their bias is at
most the square of that ratio, and a poor fit is refused.

Lag is the difference between the moments at which source and reference show a change of the load.
The moment is that at which a sharp step would give the same energy between two plateaus: it does
not depend on how the step is smeared out by averaging.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from slm_energy.derive.energy.accounting import account
from slm_energy.errors import MeterError
from slm_energy.record import Fitted, Series, Window

Floats = NDArray[np.float64]
Relation = Literal["same", "part"]
"""What a reference covers: the same as a source, or more."""

_COVERAGE = 0.975
_POOR_FIT = 0.03
"""Largest residual deviation, as a share of the range that the load spans."""

_UNSTEADY = 0.1
"""Largest deviation between phases of equal load, as a share of the range of a source."""

_FEWEST_READINGS = 5
"""Values that a plateau's power must rest on; a counter's must differ."""

_LATEST = 0.6
"""Latest moment at which changes may usually show, as a share of the time before a plateau."""

_SMALL_STEP = 0.2
"""A smaller change than this share of a source's range does not date a step."""

_FEWEST_STEPS = 4


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
class FittedSource:
    """The comparison of one source with the reference.

    Attributes:
        source: its id.
        relation: what the reference covers.
        gain: shown power per power of the reference.
        offset_w: shown power at a power of zero; 0 by definition where the reference covers more.
        lag_s: how much later than the reference it shows a change; negative for earlier.
    """

    source: str
    relation: Relation
    gain: Fitted
    offset_w: Fitted
    lag_s: Fitted


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The comparison of all sources with one reference.

    Attributes:
        sources: those that could be fitted.
        left_out: id to reason, of the others.
        constant_w: power of the reference that belongs to no source; None without parts.
    """

    sources: tuple[FittedSource, ...]
    left_out: dict[str, str]
    constant_w: Fitted | None


def fit(
    reference: Series,
    same: Sequence[Series],
    parts: Mapping[str, Sequence[Series]],
    phases: Sequence[Phase],
    *,
    max_gap_ns: int,
) -> Fit:
    """Fit all sources.

    Args:
        reference: readings of the reference.
        same: those of sources that measure the same as the reference.
        parts: name of a load to the sources that it moves and that the reference covers.
        phases: in order, without pauses.
        max_gap_ns: see `account`.

    Raises:
        MeterError: the reference does not suffice: too few readings, no change of power, a lag
            longer than half the time before a plateau.
    """
    ours = _Curve.of(reference, phases, max_gap_ns)
    fitted, left_out = list[FittedSource](), dict[str, str]()
    for series in same:
        try:
            curve = _Curve.of(series, phases, max_gap_ns)
            gain, offset_w = line(curve.powers_w, ours.powers_w)
            fitted.append(_fitted(curve, ours, "same", gain, offset_w))
        except MeterError as error:
            left_out[series.source.id] = str(error)
    curves = dict[str, list[_Curve]]()
    for load, several in parts.items():
        for series in several:
            try:
                curves.setdefault(load, []).append(_Curve.of(series, phases, max_gap_ns))
            except MeterError as error:
                # A sum without one of its sources would be another sum.
                left_out |= {each.source.id: str(error) for each in several}
    curves = {load: some for load, some in curves.items() if len(some) == len(parts[load])}
    if not curves:
        return Fit(sources=tuple(fitted), left_out=left_out, constant_w=None)
    sums_w = np.column_stack([sum(c.powers_w for c in some) for some in curves.values()])
    try:
        gains, constant_w = attribute(sums_w, ours.powers_w)
    except MeterError as error:
        left_out |= {c.series.source.id: str(error) for some in curves.values() for c in some}
        return Fit(sources=tuple(fitted), left_out=left_out, constant_w=None)
    none = Fitted(low=0.0, best=0.0, high=0.0)
    for gain, some in zip(gains, curves.values(), strict=True):
        for curve in some:
            try:
                fitted.append(_fitted(curve, ours, "part", gain, none))
            except MeterError as error:
                left_out[curve.series.source.id] = str(error)
    return Fit(sources=tuple(fitted), left_out=left_out, constant_w=constant_w)


def line(shown_w: Floats, reference_w: Floats) -> tuple[Fitted, Fitted]:
    """Gain and offset of shown = offset + gain * reference.

    Args:
        shown_w: (n,) mean powers of the source.
        reference_w: (n,) those of the reference.

    Raises:
        MeterError: the source does not follow the reference.
    """
    offset_w, gain = _least_squares(reference_w[:, None], shown_w)
    return gain, offset_w


def attribute(parts_w: Floats, reference_w: Floats) -> tuple[tuple[Fitted, ...], Fitted]:
    """Gains of the parts of reference = constant + sum of part / gain, and the constant.

    Args:
        parts_w: (n, k) mean powers of the parts.
        reference_w: (n,) those of the reference.

    Raises:
        MeterError: the reference does not follow the parts, or does not rise with one of them.
    """
    constant_w, *slopes = _least_squares(parts_w, reference_w)
    if min(slope.low for slope in slopes) <= 0:
        raise MeterError(
            "the reference does not rise with every load: more rounds, or higher levels"
        )
    gains = (Fitted(low=1 / b.high, best=1 / b.best, high=1 / b.low) for b in slopes)
    return tuple(gains), constant_w


def _least_squares(x: Floats, y: Floats) -> list[Fitted]:
    """Intercept and slopes with t intervals; see any text on the linear model.

    Args:
        x: (n, k) regressors.
        y: (n,) what they explain.
    """
    n, k = x.shape
    design = np.column_stack([np.ones(n), x])
    if np.linalg.matrix_rank(design) <= k:
        raise MeterError("the loads do not change power, or move several parts in step")
    inverse = np.linalg.inv(design.T @ design)
    best = inverse @ design.T @ y
    freedom = n - k - 1
    sd = float(np.sqrt(np.sum((y - design @ best) ** 2) / freedom))
    if sd > _POOR_FIT * np.ptp(y):
        raise MeterError(
            f"the fit leaves {sd:.3g} W of the {np.ptp(y):.3g} W that the load spans unexplained:"
            " set a longer phase_s, and keep the machine idle"
        )
    half = stats.t.ppf(_COVERAGE, freedom) * sd * np.sqrt(np.diag(inverse))
    return [
        Fitted(low=float(b - h), best=float(b), high=float(b + h))
        for b, h in zip(best, half, strict=True)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """Mean power on each plateau (n,), and when each step was shown, s after its phase (n - 1,)."""

    series: Series
    powers_w: Floats
    steps_s: Floats

    @classmethod
    def of(cls, series: Series, phases: Sequence[Phase], max_gap_ns: int) -> _Curve:
        """Derive both from readings; the source's known accuracy and lag are put aside.

        Raises:
            MeterError: a plateau's power is not known well enough, or the load does not change it.
        """
        plain = dataclasses.replace(
            series.source, gain_pct=0.0, lag_ns=0, lag_error_ns=0, calibration=None
        )
        series = dataclasses.replace(series, source=plain)
        powers_w = np.array([_power_w(series, phase.plateau, max_gap_ns) for phase in phases])
        range_w = float(np.ptp(powers_w))
        unsteady_w = _spread_w(powers_w, phases)
        if unsteady_w > _UNSTEADY * range_w:
            raise MeterError(
                f"{series.source.id}: phases of equal load differ by {unsteady_w:.3g} W, and the"
                f" load changes its power by {range_w:.3g} W: it is not moved by this load, or set"
                " a longer phase_s"
            )
        steps_s = np.array(
            [
                _step_s(series, (one, other), (float(a), float(b)), range_w, max_gap_ns)
                for (one, other), (a, b) in zip(pairwise(phases), pairwise(powers_w), strict=True)
            ]
        )
        wait_s = (phases[0].plateau[0] - phases[0].start_ns) / 1e9
        shown_s = float(np.nanmedian(steps_s))
        if shown_s > _LATEST * wait_s:
            raise MeterError(
                f"{series.source.id}: it shows a change of the load after {shown_s:.2g} s, and a"
                f" plateau begins after {wait_s:.2g} s: set a longer phase_s"
            )
        return cls(series=series, powers_w=powers_w, steps_s=steps_s)


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
    series: Series,
    phases: tuple[Phase, Phase],
    powers_w: tuple[float, float],
    range_w: float,
    max_gap_ns: int,
) -> float:
    """When a sharp step would give the same energy, s after the phase; NaN for a small step."""
    before_w, after_w = powers_w
    if abs(after_w - before_w) < _SMALL_STEP * range_w:
        return float("nan")
    start_ns, end_ns = phases[0].plateau[1], phases[1].plateau[0]
    joules = _joules(series, (start_ns, end_ns), max_gap_ns)
    after_s = (end_ns - phases[1].start_ns) / 1e9
    before_s = (phases[1].start_ns - start_ns) / 1e9
    return (after_w * after_s + before_w * before_s - joules) / (after_w - before_w)


def _fitted(
    curve: _Curve, reference: _Curve, relation: Relation, gain: Fitted, offset_w: Fitted
) -> FittedSource:
    return FittedSource(
        source=curve.series.source.id,
        relation=relation,
        gain=gain,
        offset_w=offset_w,
        lag_s=_lag(curve, reference),
    )


def _lag(curve: _Curve, reference: _Curve) -> Fitted:
    """Mean difference of the steps, with a t interval, and how finely both dates are read.

    Raises:
        MeterError: too few steps are large enough in both.
    """
    differences = curve.steps_s - reference.steps_s
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n < _FEWEST_STEPS:
        raise MeterError(
            f"{curve.series.source.id}: only {n} changes of the load show in it and in the"
            " reference: more rounds"
        )
    best = float(differences.mean())
    half = float(stats.t.ppf(_COVERAGE, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    half += _resolution_s(curve.series) + _resolution_s(reference.series)
    return Fitted(low=best - half, best=best, high=best + half)


def _resolution_s(series: Series) -> float:
    """How finely a publication is dated, s: an error may be the same at every step.

    A counter is known to have ticked between two readings. A power that is shown again may be a
    publication of its own or not.
    """
    apart_ns = statistics.median(b - a for a, b in pairwise(series.before_ns))
    finest_ns = min(apart_ns, series.source.update_period_ns or apart_ns)
    return finest_ns / 1e9 if series.source.kind == "power" else finest_ns / 2e9
