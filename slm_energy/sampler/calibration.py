"""How often each source is updated on this device, and in which steps: measured, not assumed.

All counters and power sources are read in turn, as fast as is reasonable, and their changes timed.
A documented update period is kept where nothing changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from slm_energy.meters.base import Channel, ReadFailed
from slm_energy.meters.domains import clones
from slm_energy.record import Source

Point = tuple[int, int | float]
"""When a value was read (monotonic ns), and the value."""

Round = dict[str, Point]
"""One reading of each source, by the source's id."""

_ENOUGH_CHANGES = 20
_FEWEST_CHANGES = {"counter": 3, "power": 8}
_QUANTILE = {"counter": 0.5, "power": 0.25}
"""A counter shows each update. Power may be the same in two, or for long: fewer changes than these
reflect the load and not the sensor, and among more the shorter pauses are the sensor's."""

_LONGEST_NS = 2_500_000_000
_HOPELESS_NS = 1_000_000_000
"""A source that has not changed for this long is constant (idle power), or stuck."""

_FINEST_NS = 200_000
_COARSEST_NS = 1_000_000
_STEPS = 100
"""The pause between readings is this part of the time spent so far, between finest and coarsest:
a period of 1 ms is timed within 0.2 ms, and a longer one does not keep the processor busy."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rhythm:
    """The update behaviour of a source, from a series of readings.

    Attributes:
        changes: how often the value changed.
        period_ns: usual time between two updates; None when there were too few changes.
        resolution: smallest step between two values; None when there was no change.
    """

    changes: int
    period_ns: int | None
    resolution: int | float | None


def rhythm(points: Sequence[Point], kind: Literal["counter", "power"]) -> Rhythm:
    """Time the changes of a source.

    The median is not affected by a few updates that are late or missed. Reading more rarely than
    the source is updated gives the time between readings: a bound on the safe side.

    Args:
        points: readings in order of time.
        kind: of the source.
    """
    changes = [(two[0], two[1] - one[1]) for one, two in pairwise(points) if two[1] != one[1]]
    pauses = sorted(later - earlier for (earlier, _), (later, _) in pairwise(changes))
    enough = len(changes) >= _FEWEST_CHANGES[kind]
    return Rhythm(
        changes=len(changes),
        period_ns=pauses[int(_QUANTILE[kind] * len(pauses))] if enough else None,
        resolution=min((abs(step) for _, step in changes), default=None),
    )


def calibrate(
    channels: Sequence[Channel],
) -> tuple[tuple[Source, ...], dict[str, str], tuple[str, ...]]:
    """Measure every counter and power source; takes up to 2.5 s.

    Args:
        channels: of all meters that are quick to read.

    Returns:
        All sources in their order, with what was measured; the ids of summed counters that show
        another one's values, each with that one's; and notes on counters that did not change.
    """
    timed = [channel for channel in channels if channel.source.kind in ("counter", "power")]
    rounds = _read_in_turn(timed)
    measured, notes = dict[str, Source](), list[str]()
    for source in (channel.source for channel in timed):
        points = [readings[source.id] for readings in rounds if source.id in readings]
        seen = rhythm(points, "counter" if source.kind == "counter" else "power")
        if seen.changes == 0 and source.kind == "counter":
            notes.append(_still(source, points))
        measured[source.id] = _with_rhythm(source, seen)
    sources = tuple(measured.get(channel.source.id, channel.source) for channel in channels)
    return sources, _mirrors(sources, rounds), tuple(notes)


def _still(source: Source, points: Sequence[Point]) -> str:
    """Why a counter showed no change."""
    if not points:
        return f"{source.id} could not be read while update periods were being measured"
    (first_ns, value), (last_ns, _) = points[0], points[-1]
    return (
        f"{source.id} stayed at {value} {source.unit} for {(last_ns - first_ns) / 1e9:.2g} s:"
        " either it is not counted on this machine, or it is updated less often"
        + (
            f"; windows in which it does not move are invalid; measurement.leave_out=[{source.id}]"
            " leaves it out of the sum"
            if source.summed
            else ""
        )
    )


def _with_rhythm(source: Source, seen: Rhythm) -> Source:
    if seen.period_ns is not None:
        source = dataclasses.replace(
            source, update_period_ns=seen.period_ns, update_period_measured=True
        )
    if seen.resolution is not None:
        source = dataclasses.replace(source, resolution=seen.resolution)
    return source


def _read_in_turn(timed: Sequence[Channel]) -> list[Round]:
    """Read until all have changed often enough or are given up; a failed reading is left out."""
    rounds, last = list[Round](), Round()
    channels, changes = list(timed), {channel.source.id: 0 for channel in timed}
    began_ns = time.monotonic_ns()
    while channels:
        spent_ns = time.monotonic_ns() - began_ns
        now = _read(channels)
        for name, (_, value) in now.items():
            changes[name] += name in last and last[name][1] != value
        rounds.append(now)
        last |= now
        channels = [c for c in channels if not _is_done(changes[c.source.id], spent_ns)]
        time.sleep(min(_COARSEST_NS, max(_FINEST_NS, spent_ns // _STEPS)) / 1e9)
    return rounds


def _is_done(changes: int, spent_ns: int) -> bool:
    hopeless = changes == 0 and spent_ns > _HOPELESS_NS
    return changes >= _ENOUGH_CHANGES or hopeless or spent_ns > _LONGEST_NS


def _read(channels: Sequence[Channel]) -> Round:
    now = Round()
    for channel in channels:
        with contextlib.suppress(ReadFailed):
            value = channel.read()
            now[channel.source.id] = (time.monotonic_ns(), value)
    return now


def _mirrors(sources: Sequence[Source], rounds: Sequence[Round]) -> dict[str, str]:
    """Counters of one domain that show the same values, from the rounds that read all of them.

    Only those that would be summed: a note on any other would be of no use. Not perf's events: they
    count from zero since they were opened a moment ago, and the kernel names one CPU per register.
    """
    counters = [
        source
        for source in sources
        if source.kind == "counter" and source.summed and source.unit != "J/2^32"
    ]
    mirrors = dict[str, str]()
    for domain in {counter.domain for counter in counters}:
        ids = [counter.id for counter in counters if counter.domain == domain]
        complete = [readings for readings in rounds if readings.keys() >= set(ids)]
        mirrors |= clones({name: [int(r[name][1]) for r in complete] for name in ids})
    return mirrors
