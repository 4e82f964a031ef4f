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

Lag is the mean difference between the moments at which source and reference show a change of the
load (`calibration_curves.py`), with a t interval over changes, and with how finely both are dated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from slm_energy.doctor.calibration_curves import Curve, Floats, Phase
from slm_energy.errors import MeterError
from slm_energy.record import Fitted, Series

Relation = Literal["same", "part"]
"""What a reference covers: the same as a source, or more."""

_COVERAGE = 0.975
_POOR_FIT = 0.03
"""Largest residual deviation, as a share of the range that the load spans."""

_FEWEST_STEPS = 4


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
    ours = Curve.of(reference, phases, max_gap_ns)
    ours_s = ours.steps_s()
    fitted, left_out = list[FittedSource](), dict[str, str]()
    for series in same:
        try:
            curve = Curve.of(series, phases, max_gap_ns)
            gain, offset_w = line(curve.powers_w, ours.powers_w)
            fitted.append(_fitted(curve, "same", gain, offset_w, _lag(curve, ours, ours_s)))
        except MeterError as error:
            left_out[series.source.id] = str(error)
    if not parts:
        return Fit(sources=tuple(fitted), left_out=left_out, constant_w=None)
    several = [series for part in parts.values() for series in part]
    try:
        curves = {
            load: [Curve.of(series, phases, max_gap_ns) for series in part]
            for load, part in parts.items()
        }
        sums_w = [np.sum([curve.powers_w for curve in part], axis=0) for part in curves.values()]
        gains, constant_w = attribute(np.column_stack(sums_w), ours.powers_w)
    except MeterError as error:
        # A sum without one of its sources would be another sum.
        left_out |= {series.source.id: str(error) for series in several}
        return Fit(sources=tuple(fitted), left_out=left_out, constant_w=None)
    none = Fitted(low=0.0, best=0.0, high=0.0)
    for gain, part in zip(gains, curves.values(), strict=True):
        for curve in part:
            try:
                fitted.append(_fitted(curve, "part", gain, none, _lag(curve, ours, ours_s)))
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


def _fitted(
    curve: Curve, relation: Relation, gain: Fitted, offset_w: Fitted, lag_s: Fitted
) -> FittedSource:
    return FittedSource(
        source=curve.series.source.id,
        relation=relation,
        gain=gain,
        offset_w=offset_w,
        lag_s=lag_s,
    )


def _lag(curve: Curve, reference: Curve, reference_s: Floats) -> Fitted:
    """Mean difference of the steps, with a t interval, and how finely both dates are read.

    Raises:
        MeterError: too few steps are large enough in both, or see `Curve.steps_s`.
    """
    differences = curve.steps_s() - reference_s
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n < _FEWEST_STEPS:
        raise MeterError(
            f"{curve.series.source.id}: only {n} changes of the load show in it and in the"
            " reference: more rounds"
        )
    best = float(differences.mean())
    half = float(stats.t.ppf(_COVERAGE, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    half += curve.resolution_s + reference.resolution_s
    return Fitted(low=best - half, best=best, high=best + half)
