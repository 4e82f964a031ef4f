"""Energy of a power source: the integral of its samples. Pure.

Integers throughout: microwatts, and half nanoseconds for the middle of two time stamps. Their
product is half a femtojoule, and the trapezoidal rule's own half makes it a quarter.

Power between samples is less certain than a counter's energy, so the interval is a practical one.
Its half-width is the sum of

- noise: two standard errors of the integral, from the differences between neighbouring samples,
  which are small for a slow load and large for an aliased one. A publication counts once, however
  often it was read. A sensor that samples part of the time (`averaging_ns` less than the update
  period) is blind to loads in step with it, so the spread between batches is a lower limit;
- the edges: power may have changed anywhere between the samples around an edge; the figure itself
  holds the first and the last sample inside, because interpolation would bias a window between two
  idle times towards idle;
- averaging over w: samples are placed w/2 earlier, and a change of power at an edge is smeared out;
- half a step of the sensor's resolution, or half a milliwatt.

A load in exact step with the sensor shows only one of its phases and defeats all of this: shift the
repetitions, or use a counter.
"""

from __future__ import annotations

import bisect
import dataclasses
import operator
from collections.abc import Sequence

from slm_energy.derive.energy.spread import batches, noise
from slm_energy.derive.energy.usable_readings import (
    RAW_PER_WATT,
    SECOND_NS,
    Energy,
    Fault,
    Readings,
    UnknownJoules,
    part_time,
    seconds,
)
from slm_energy.record import Window

_FEMTOJOULES = 10**15
_QUARTER_FEMTOJOULES = 4 * _FEMTOJOULES
_MICROWATTS = 10**6
_HIDDEN = 1 / 10
_STUCK = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Samples:
    """One sample per publication; `twice_ns` is twice the middle of the time that it covers."""

    twice_ns: list[int]
    microwatts: list[int]


def integrate(readings: Readings, first: int, last: int, window: Window, limit_ns: int) -> Energy:
    """Integrate power over a window.

    Args:
        readings: of a power source.
        first: index of the last reading before the window.
        last: index of the first reading after it.
        window: the span to account.
        limit_ns: the longest pause over which power may be interpolated.

    Raises:
        UnknownJoules: a gap, too few samples, or a zero.
    """
    _refuse_gap(readings, first, last, limit_ns)
    source = readings.source
    reach_ns = 2 * source.averaging_ns + readings.stale_ns
    begin = max(0, bisect.bisect_right(readings.after_ns, window.start_ns - reach_ns) - 1)
    end = bisect.bisect_left(readings.before_ns, window.end_ns + reach_ns) + 1
    samples = _samples(readings, begin, end)
    start2, end2 = 2 * window.start_ns, 2 * window.end_ns
    left = bisect.bisect_left(samples.twice_ns, start2)
    right = bisect.bisect_right(samples.twice_ns, end2)
    times, powers = samples.twice_ns[left:right], samples.microwatts[left:right]
    if len(times) < 2:
        raise UnknownJoules(Fault.SHORT, "fewer than two power samples inside the window")
    if 0 in powers:
        raise UnknownJoules(Fault.ZERO, "the sensor read 0 W, which no device that is on draws")
    lengths = list(map(operator.sub, times[1:], times))
    areas = map(operator.mul, lengths, map(operator.add, powers[1:], powers))
    held = 2 * (powers[0] * (times[0] - start2) + powers[-1] * (end2 - times[-1]))
    best_j = (sum(areas) + held) / _QUARTER_FEMTOJOULES
    start_j = _edge_j(samples, left, start2, times[0] - start2, source.averaging_ns)
    end_j = _edge_j(samples, right, end2, end2 - times[-1], source.averaging_ns)
    noise_j = noise(lengths, powers) / 2 / _FEMTOJOULES  # lengths are in half nanoseconds
    if part_time(source):
        noise_j = max(noise_j, batches(powers, window.duration_s) / _MICROWATTS)
    resolution_w = (source.resolution or 0) / RAW_PER_WATT[source.unit]
    rounding_j = max(resolution_w, 0.001) / 2 * window.duration_s
    half_j = noise_j + start_j + end_j + rounding_j
    return Energy(
        low_j=max(0.0, best_j - half_j),
        best_j=best_j,
        high_j=best_j + half_j,
        start_j=2 * start_j,
        end_j=2 * end_j,
        estimator="power, trapezoidal, first and last sample held to the edges",
        details={
            "samples": len(times),
            "averaging_s": source.averaging_ns / SECOND_NS,
            "noise_j": noise_j,
        },
        flags=_flags(powers),
    )


def _refuse_gap(readings: Readings, first: int, last: int, limit_ns: int) -> None:
    ends = readings.after_ns[first : last + 1]
    longest_ns = max(map(operator.sub, ends[1:], ends))
    if longest_ns > limit_ns:
        raise UnknownJoules(
            Fault.GAP,
            f"no power is known for {seconds(longest_ns)}: measurement.max_gap_s allows less",
        )


def _samples(readings: Readings, begin: int, end: int) -> _Samples:
    """One sample per publication. An equal value is new if the last would be too old by then."""
    stale_ns, averaging_ns = readings.stale_ns, readings.source.averaging_ns
    times, powers = list[int](), list[int]()
    columns = zip(
        readings.before_ns[begin:end],
        readings.raw[begin:end],
        readings.after_ns[begin:end],
        strict=True,
    )
    shown, published_ns = None, 0
    last_ns = readings.before_ns[begin] - stale_ns
    for before_ns, power, after_ns in columns:
        earliest_ns = before_ns - stale_ns
        if power != shown:
            earliest_ns = max(earliest_ns, last_ns)
        elif earliest_ns <= published_ns:
            last_ns = before_ns
            continue
        times.append(earliest_ns + after_ns - averaging_ns)
        powers.append(power)
        last_ns, shown, published_ns = before_ns, power, after_ns
    return _Samples(twice_ns=times, microwatts=powers)


def _edge_j(samples: _Samples, inside: int, edge2: int, held2: int, averaging_ns: int) -> float:
    """Half-width of the uncertainty at an edge.

    A change of power between the samples around the edge may be on either side of it. Averaging
    smears a change of D watts over w seconds; centred on the edge, it misplaces D w/8. Twice that
    is allowed, for more than one change. Swings faster than w are not seen at all, and the edge may
    cut one short: a share of the mean power over w is allowed for that.

    Args:
        samples: all samples.
        inside: index of the first sample later than the edge.
        edge2: twice the time of the edge.
        held2: twice the time over which a sample is held to the edge.
        averaging_ns: w.
    """
    near = slice(max(0, inside - 1), inside + 1)
    begin = bisect.bisect_left(samples.twice_ns, edge2 - 2 * averaging_ns, hi=near.start)
    end = bisect.bisect_right(samples.twice_ns, edge2 + 2 * averaging_ns, lo=near.stop)
    jump, smeared = (_range(samples.microwatts[part]) for part in (near, slice(begin, end)))
    hidden = samples.microwatts[near.start] * _HIDDEN
    return (jump * held2 / 2 + (smeared / 4 + hidden) * averaging_ns) / _FEMTOJOULES


def _range(powers: Sequence[int]) -> int:
    return max(powers) - min(powers)


def _flags(powers: Sequence[int]) -> tuple[str, ...]:
    if len(powers) >= _STUCK and _range(powers) == 0:
        watts = powers[0] / _MICROWATTS
        return (f"every sample was {watts:g} W: steady power, or a sensor that hangs",)
    return ()
