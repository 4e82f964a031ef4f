"""From readings to joules: pure arithmetic, no clock, no I/O.

What is known is a figure with an interval; what cannot be known is a figure without joules and with
the reason. Integers and fractions are exact until the last step, the division to joules.

Two paths. A cumulative source (a counter, an estimate) is read off at the window's two edges. A
power source is integrated by the trapezoidal rule. The intervals cover sampling: update period,
edges and gaps. The gain of the sensor is in the interval of integrated power only; it cancels when
two cells are compared on one machine.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from slm_energy.meters.readings import (
    Reading,
    UnknownJoules,
    bracket,
    describe,
    failures,
    refuse_stall,
    stale_ns,
    successful,
    usable,
    value_at,
)
from slm_energy.plain import Json
from slm_energy.record import EnergyFigure, Series, Source, Window

POWER_GAIN = Fraction(5, 100)
"""Accuracy of a GPU's power reading, as NVIDIA documents it for nvmlDeviceGetPowerUsage: 5 %."""

_FROZEN_NS = 1_000_000_000
_UNITS_PER_JOULE = {"uJ": 10**6, "mJ": 10**3, "mW": 10**3}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Energy:
    """Best figure and interval, in the source's unit (mW s for power)."""

    low: Fraction
    best: Fraction
    high: Fraction
    wraps: int = 0


def account(series: Series, window: Window, *, max_gap_ns: int) -> EnergyFigure:
    """Joules of one source over one window.

    Args:
        series: readings of a counter, power or estimate source.
        window: the span to account.
        max_gap_ns: a longer pause between two tries to read means that the sampler was stopped,
            and a power source may not miss readings for longer. A counter goes on counting while
            readings fail, so failures are bridged as long as they cannot hide a wrap.

    Returns:
        A figure whose joules are None, with reasons, when they cannot be known.

    Raises:
        ValueError: the source is a gauge.
    """
    source = series.source
    if source.kind == "gauge":
        raise ValueError(f"{source.id} is a gauge: it has no joules")
    limit_ns = max(max_gap_ns, 3 * (source.update_period_ns or 0))
    readings = usable(series)
    failed = failures(series, readings, window)
    pedigree: dict[str, Json] = {
        "failed": len(failed),
        "update_period_s": source.update_period_ns and source.update_period_ns / 1e9,
        "device": source.device,
        "path": source.path,
    }
    energy: _Energy | None = None
    reasons: tuple[str, ...] = ()
    try:
        span = bracket(series, readings, window)
        pedigree |= describe(span, window, limit_ns)
        refuse_stall(series, span, limit_ns)
        measure = _integrate if source.kind == "power" else _count
        energy = measure(source, span, window, limit_ns)
        pedigree["wraps"] = energy.wraps
    except UnknownJoules as unknown:
        reasons = (str(unknown),)
    scale = _UNITS_PER_JOULE[source.unit]
    return EnergyFigure(
        source_id=source.id,
        domain=source.domain,
        kind=source.kind,
        window=window.name,
        joules=float(energy.best / scale) if energy else None,
        low_j=float(energy.low / scale) if energy else None,
        high_j=float(energy.high / scale) if energy else None,
        summed=source.summed,
        reasons=reasons,
        flags=_flags(source, failed) if energy else (),
        pedigree=pedigree,
    )


def total(figures: Sequence[EnergyFigure]) -> EnergyFigure | None:
    """The sum over the disjoint cut of measured sources of one window; estimates never count.

    Intervals add linearly: the errors of two sources of one machine need not be independent.

    Returns:
        None when no measured source belongs to the cut. One member without joules leaves the total
        without joules, with that member's reasons.

    Raises:
        ValueError: the figures belong to different windows.
    """
    parts = [f for f in figures if f.summed and f.kind in ("counter", "power")]
    if not parts:
        return None
    if len({part.window for part in parts}) > 1:
        raise ValueError("a total is over one window")
    known = all(part.joules is not None for part in parts)
    return EnergyFigure(
        source_id="total",
        domain="total",
        kind="power" if any(part.kind == "power" for part in parts) else "counter",
        window=parts[0].window,
        joules=math.fsum(part.joules or 0 for part in parts) if known else None,
        low_j=math.fsum(part.low_j or 0 for part in parts) if known else None,
        high_j=math.fsum(part.high_j or 0 for part in parts) if known else None,
        summed=False,
        reasons=tuple(f"{part.source_id}: {text}" for part in parts for text in part.reasons),
        flags=tuple(f"{part.source_id}: {text}" for part in parts for text in part.flags),
        pedigree={
            "sources": [part.source_id for part in parts],
            "domains": sorted({part.domain for part in parts}),
        },
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GaugeFigure:
    """A gauge over a window, in the gauge's unit; `readings` is how many made it."""

    mean: float
    minimum: float
    maximum: float
    readings: int


def summarise(series: Series, window: Window) -> GaugeFigure | None:
    """Plain mean and extremes of the readings inside a window; None when there is none."""
    inside = [
        float(reading.raw)
        for reading in successful(series)
        if window.start_ns <= reading.before_ns and reading.after_ns <= window.end_ns
    ]
    if not inside:
        return None
    return GaugeFigure(
        mean=statistics.fmean(inside),
        minimum=min(inside),
        maximum=max(inside),
        readings=len(inside),
    )


def _flags(source: Source, failed: Sequence[str]) -> tuple[str, ...]:
    flags = []
    if failed:
        flags.append(f"failed readings, bridged: {len(failed)}; the first: {failed[0]}")
    if source.kind == "estimate":
        flags.append("a model's estimate: the interval covers sampling, not the model's own error")
    return tuple(flags)


def _count(source: Source, span: Sequence[Reading], window: Window, limit_ns: int) -> _Energy:
    """Read a cumulative source off at both edges.

    The best figure interpolates linearly at each edge. The interval follows from monotonicity
    alone: what was counted between readings inside the window is a lower bound, between readings
    around it an upper one.
    """
    counted, wraps = _unwrapped(source, span, limit_ns)
    _refuse_frozen(source, span, counted)
    stale = stale_ns(source)
    best = value_at(span, counted, window.end_ns) - value_at(span, counted, window.start_ns)
    if best <= 0:
        raise UnknownJoules("the counter did not move: frozen, or too slow for so short a window")
    inside_from = bisect.bisect_left(span, window.start_ns + stale, key=lambda r: r.before_ns)
    inside_to = bisect.bisect_right(span, window.end_ns, key=lambda r: r.after_ns) - 1
    low = max(Fraction(0), counted[inside_to] - counted[inside_from])
    return _Energy(low=low, best=best, high=counted[-1], wraps=wraps)


def _unwrapped(
    source: Source, span: Sequence[Reading], limit_ns: int
) -> tuple[list[Fraction], int]:
    """Energy counted since the first reading, at each reading; and how often it wrapped."""
    counted, wraps = [Fraction(0)], 0
    for one, other in pairwise(span):
        counted.append(counted[-1] + _step(source, one, other, limit_ns))
        wraps += other.raw < one.raw
    return counted, wraps


def _step(source: Source, one: Reading, other: Reading, limit_ns: int) -> Fraction:
    """What a counter counted between two readings.

    Raises:
        UnknownJoules: several answers are possible, or the only one is physically impossible.
    """
    elapsed_ns = other.after_ns - one.before_ns
    most = None
    if source.max_power_w is not None:
        joules = Fraction(source.max_power_w) * (elapsed_ns + stale_ns(source)) / 10**9
        most = joules * _UNITS_PER_JOULE[source.unit]
    step = Fraction(other.raw) - Fraction(one.raw)
    if source.modulus is not None:
        hides_wrap = elapsed_ns > limit_ns if most is None else 2 * most >= source.modulus
        if hides_wrap:
            raise UnknownJoules(f"a gap of {elapsed_ns / 1e9:.3g} s may hide a wrap of the counter")
        step %= source.modulus
        most = Fraction(source.modulus, 2) if most is None else most
    if step < 0 or (most is not None and step > most):
        how = "went back" if other.raw < one.raw else "jumped"
        raise UnknownJoules(
            f"the counter {how} from {one.raw} to {other.raw} {source.unit} within"
            f" {elapsed_ns / 1e9:.3g} s: it was reset or misread"
        )
    return step


def _refuse_frozen(source: Source, span: Sequence[Reading], counted: Sequence[Fraction]) -> None:
    longest_ns = max(_FROZEN_NS, 10 * (source.update_period_ns or 0))
    since = span[0]
    for reading, (before, now) in zip(span[1:], pairwise(counted), strict=True):
        if now != before:
            since = reading
        elif reading.before_ns - since.after_ns >= longest_ns:
            raise UnknownJoules(f"the counter stood still for {longest_ns / 1e9:.3g} s: frozen")


def _integrate(source: Source, span: Sequence[Reading], window: Window, limit_ns: int) -> _Energy:
    """Integrate power with the trapezoidal rule, edges interpolated.

    Half the interval is the larger of two uncertainties, plus lag and gain. The first is the edges:
    the difference to holding the outermost readings inside the window. The second is what happened
    between readings: two standard errors of the jittered samples' mean. Lag: a value that describes
    the last update period is late by half of it.
    """
    for one, other in pairwise(span):
        if other.before_ns - one.after_ns > limit_ns:
            gap_s = (other.before_ns - one.after_ns) / 1e9
            raise UnknownJoules(
                f"no power is known for {gap_s:.3g} s: measurement.max_gap_s allows less"
            )
    start, end = Fraction(window.start_ns), Fraction(window.end_ns)
    inner = [(r.middle_ns, Fraction(r.raw)) for r in span if start <= r.middle_ns <= end]
    if len(inner) < 2:
        raise UnknownJoules("fewer than two power readings inside the window")
    powers = [Fraction(reading.raw) for reading in span]
    first = (start, value_at(span, powers, window.start_ns))
    last = (end, value_at(span, powers, window.end_ns))
    best = _trapezoid([first, *inner, last])
    held = _trapezoid([(start, inner[0][1]), *inner, (end, inner[-1][1])])
    if best <= 0:
        raise UnknownJoules("the sensor read 0 W throughout")
    inside = [power for _, power in inner]
    error_of_mean = statistics.stdev(inside) / math.sqrt(len(inside))
    noise = 2 * Fraction(error_of_mean) * (end - start) / 10**9
    lag = Fraction(source.update_period_ns or 0, 2 * 10**9) * (max(powers) - min(powers))
    half = max(abs(best - held), noise) + lag + POWER_GAIN * best
    return _Energy(low=max(Fraction(0), best - half), best=best, high=best + half)


def _trapezoid(points: Sequence[tuple[Fraction, Fraction]]) -> Fraction:
    """Integral over (ns, value) points, in value seconds."""
    areas = ((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairwise(points))
    return sum(areas, Fraction(0)) / 10**9
