"""Convert readings to joules: pure arithmetic, no clock, no I/O.

A known energy is a figure with an interval and its pedigree; an unknown one is a figure without
joules and with the reason, which starts with a `Fault`.

A cumulative source (a counter, an estimate) is evaluated at the window's two edges (`counters.py`,
`window_edges.py`). A power source is integrated (`power.py`). `usable_readings.py` selects the
readings that count for a window.

Intervals are practical ones: they contain the truth in at least 95 % of windows of each kind of
load in `benchmarks/coverage.py`. They cover sampling (update period, edges, gaps, averaging), the
latency of the sensor (`latency.py`), and what a part-time or filtered sensor does not show
(`unobserved.py`). The gain of the sensor is in a second interval (`gain.py`). A counter's pedigree
also has certain bounds, derived only from energy that never falls and the maximum power.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from slm_energy import scope
from slm_energy.derive.energy import coarse
from slm_energy.derive.energy.counters import count
from slm_energy.derive.energy.gain import with_gain
from slm_energy.derive.energy.latency import latency_ns, shifted, united
from slm_energy.derive.energy.power import integrate
from slm_energy.derive.energy.usable_readings import (
    Energy,
    UnknownJoules,
    bracket,
    describe,
    failures,
    refuse_clock_step,
    refuse_stall,
    usable,
)
from slm_energy.record import UNITS_PER_JOULE, EnergyFigure, Series, Source, Window
from slm_energy.serialization import Json


def account(series: Series, window: Window, *, max_gap_ns: int) -> EnergyFigure:
    """Joules of one source over one window.

    Args:
        series: readings of a counter, power or estimate source.
        window: the span to account.
        max_gap_ns: a longer pause between two read attempts means that the sampler was stopped;
            also the longest gap between readings of a power source. A counter continues to count
            while readings fail, so failures are bridged as long as they cannot hide a wrap.

    Returns:
        The figure; its joules are None, with reasons, if they cannot be known.

    Raises:
        ValueError: the source is a gauge.
    """
    series = coarse.with_step(series)
    source = series.source
    if source.kind == "gauge":
        raise ValueError(f"{source.id} is a gauge: it has no joules")
    limit_ns = max(max_gap_ns, 3 * (source.update_period_ns or 0))
    readings = usable(series)
    failed = failures(series, readings, window)
    pedigree: dict[str, Json] = {
        "kind": source.kind,
        "failed": len(failed),
        "update_period_s": source.update_period_ns and source.update_period_ns / 1e9,
        "update_period_measured": source.update_period_measured,
        "gain_pct": source.gain_pct,
        "device": source.device,
        "path": source.path,
    }
    if source.kind == "counter" and source.quantum > 1:
        pedigree["step_j"] = source.quantum / UNITS_PER_JOULE[source.unit]
    energy: Energy | None = None
    low_with_gain_j: float | None = None
    high_with_gain_j: float | None = None
    reasons: tuple[str, ...] = ()
    try:
        measure = integrate if source.kind == "power" else count
        energies = list[Energy]()
        for span in shifted(source, window):
            refuse_clock_step(series, span)
            first, last = bracket(series, readings, span)
            if not energies:
                pedigree |= describe(readings, first, last, span, limit_ns)
            refuse_stall(series, readings.row[first : last + 1], limit_ns)
            energies.append(measure(readings, first, last, span, limit_ns))
        energy = united(source, energies)
        low_with_gain_j, high_with_gain_j, calibrated = with_gain(source, energy, window.duration_s)
        pedigree |= {
            "interval": "practical",
            "estimator": energy.estimator,
            "edge_start_j": energy.start_j,
            "edge_end_j": energy.end_j,
            **energy.details,
            **calibrated,
        }
    except UnknownJoules as unknown:
        reasons = (f"{unknown}{coarse.why_unknown(series)}",)
    return EnergyFigure(
        source_id=source.id,
        domain=source.domain,
        kind=source.kind,
        window=window.name,
        joules=energy.best_j if energy else None,
        low_j=energy.low_j if energy else None,
        high_j=energy.high_j if energy else None,
        summed=source.summed,
        reasons=reasons,
        flags=(*_flags(source, failed), *energy.flags) if energy else (),
        pedigree=pedigree,
        low_with_gain_j=low_with_gain_j,
        high_with_gain_j=high_with_gain_j,
    )


def total(figures: Sequence[EnergyFigure]) -> EnergyFigure | None:
    """Sum the disjoint set of measured sources of one window; estimates never count.

    Intervals add linearly: the errors of two sources of one machine need not be independent. The
    figure's domain is `total`, or `sum` if no source contains the processors.

    Returns:
        None if no measured source is in the set. If one source has no joules, the total has none
        either, and carries that source's reasons.

    Raises:
        ValueError: the figures belong to different windows.
    """
    parts = [f for f in figures if f.summed and f.kind in ("counter", "power")]
    if not parts:
        return None
    if len({part.window for part in parts}) > 1:
        raise ValueError("a total is over one window")
    known = all(part.joules is not None for part in parts)
    domains = {part.domain for part in parts}
    name = scope.TOTAL if scope.has_processor(domains) else scope.DEVICES_SUM
    return EnergyFigure(
        source_id=name,
        domain=name,
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
            "domains": sorted(domains),
        },
        low_with_gain_j=_sum([part.low_with_gain_j for part in parts]),
        high_with_gain_j=_sum([part.high_with_gain_j for part in parts]),
    )


def _sum(each: Sequence[float | None]) -> float | None:
    """The sum; None if one is unknown."""
    known = [value for value in each if value is not None]
    return math.fsum(known) if len(known) == len(each) else None


def shortest_window_s(source: Source, target_error: float) -> float | None:
    """Shortest window of this source that meets the target relative error.

    A counter is stale by at most its update period u at either end, so the error is at most u over
    the window's length; averaged power is stale by its averaging time. A counter with coarse steps
    is stale by the time that a step takes at the least power, that of the idle machine. What is not
    known of the sensor's latency comes on top.

    Returns:
        Seconds; None for a gauge or an estimate, or if the update period is unknown, or the idle
        power that a coarse step requires.
    """
    stale_ns = max(source.update_period_ns or 0, source.averaging_ns)
    if source.kind not in ("counter", "power") or not stale_ns:
        return None
    shortest_ns, _, longest_ns = latency_ns(source)
    unknown_s = (longest_ns - shortest_ns) / 2e9 / target_error
    if source.kind == "counter" and source.quantum > 1:
        own_s = coarse.shortest_window_s(source, target_error)
        return None if own_s is None else own_s + unknown_s
    return stale_ns / 1e9 / target_error + unknown_s


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GaugeFigure:
    """A gauge over a window, in the gauge's unit; `readings` is their number."""

    mean: float
    minimum: float
    maximum: float
    readings: int


def summarise(series: Series, window: Window) -> GaugeFigure | None:
    """Plain mean and extremes of the readings inside a window; None if there are none."""
    inside = [
        float(raw)
        for before, raw, after in zip(series.before_ns, series.raw, series.after_ns, strict=True)
        if raw is not None and window.start_ns <= before and after <= window.end_ns
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
