"""What a counter does not show: the time in which its sensor is blind, and added noise. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slm_energy.derive.energy.spread import batches, distorted, noise
from slm_energy.derive.energy.usable_readings import Energy, Fault, UnknownJoules, seconds
from slm_energy.derive.energy.window_edges import NEAR
from slm_energy.record import UNITS_PER_JOULE, Source, Window
from slm_energy.serialization import Json

Increment = tuple[int, int]
"""The end of an update period, and what was counted in it."""

_FEWEST = 4


def observed_in_part(
    energy: Energy, source: Source, increments: Sequence[Increment], window: Window
) -> Energy:
    """Widen by the spread of what the sensor saw: in the rest of each period it was blind.

    An edge of the window may cut a period whose observed part is all before or all after it. A load
    in exact step with the sensor shows one of its phases only, and defeats this.

    Args:
        energy: as if the sensor saw everything.
        source: a part-time counter.
        increments: in order of time; some before and after the window.
        window: the span that is accounted.

    Raises:
        UnknownJoules: too few update periods are inside.
    """
    unit, period_ns = UNITS_PER_JOULE[source.unit], source.update_period_ns or 0
    inside = [
        count / unit
        for time_ns, count in increments
        if window.start_ns + period_ns <= time_ns <= window.end_ns
    ]
    if len(inside) < _FEWEST:
        raise UnknownJoules(
            Fault.SHORT,
            f"the sensor observes {seconds(source.averaging_ns)} of each {seconds(period_ns)}, and"
            f" {len(inside)} of these are not enough: raise measurement.serve_s",
        )
    blind = 1 - source.averaging_ns / period_ns
    edges_j = 0.0
    for edge_ns in (window.start_ns, window.end_ns):
        near = [count / unit for at, count in increments if abs(at - edge_ns) <= NEAR * period_ns]
        edges_j += blind * (max(near) - min(near))
    noise_j = max(noise([1.0] * (len(inside) - 1), inside), batches(inside, len(inside)))
    observed = source.averaging_ns / period_ns
    flag = (
        f"the sensor observes {100 * observed:.0f} % of the time; the interval follows from the"
        " spread of what it saw, and a load in exact step with it does not show"
    )
    return dataclasses.replace(
        _widened(
            energy,
            noise_j + edges_j,
            observed_share=observed,
            part_time_j=noise_j + edges_j,
        ),
        flags=(*energy.flags, flag),
    )


def filtered(energy: Energy, source: Source, window: Window) -> Energy:
    """Widen by the noise that a filter adds to each step."""
    periods = (window.end_ns - window.start_ns) / (source.update_period_ns or 1)
    noise_j = distorted(energy.best_j, source.step_noise_pct / 100, periods)
    return _widened(energy, noise_j, filter_j=noise_j)


def _widened(energy: Energy, half_j: float, **details: Json) -> Energy:
    """A wider interval. What is certain of a counter that sees everything is not certain here."""
    kept = {key: value for key, value in energy.details.items() if not key.startswith("certain_")}
    return dataclasses.replace(
        energy,
        low_j=max(0.0, energy.low_j - half_j),
        high_j=energy.high_j + half_j,
        details=kept | details,
    )
