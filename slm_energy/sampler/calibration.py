"""How often each source is renewed on this device, and in which steps: measured, not believed.

All counters and power sources are read in turns, as fast as is reasonable, and their changes timed.
A documented update period is kept where nothing changed. Slow meters are not read like that: what
their maker or the configuration says is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from slm_energy.meters.base import Meter, ReadFailed
from slm_energy.meters.domains import clones
from slm_energy.record import Source

Channel = tuple[Meter, int, Source]
Point = tuple[int, int | float]
"""When a value was read (monotonic ns), and the value."""

Round = dict[int, Point]
"""One reading of each source, by the source's number."""

_ENOUGH_CHANGES = 20
_FEWEST_CHANGES = {"counter": 3, "power": 8}
_QUANTILE = {"counter": 0.5, "power": 0.25}
"""A counter shows each publication. Power may be the same in two, or for long: fewer changes than
these tell of the load and not of the sensor, and among more the shorter pauses are the sensor's."""

_LONGEST_NS = 2_500_000_000
_HOPELESS_NS = 1_000_000_000
"""A source that has not changed for so long is constant (idle power), or stands still."""

_FINEST_NS = 200_000
_COARSEST_NS = 1_000_000
_STEPS = 100
"""The pause between readings is this part of the time spent so far, between finest and coarsest:
a period of 1 ms is timed within 0.2 ms, and a longer one is not paid for with a busy processor."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rhythm:
    """What a series of readings says about a source.

    Attributes:
        changes: how often the value changed.
        period_ns: usual time between two publications; None when there were too few changes.
        resolution: smallest step between two values; None when there was no change.
    """

    changes: int
    period_ns: int | None
    resolution: int | float | None


def rhythm(points: Sequence[Point], kind: Literal["counter", "power"]) -> Rhythm:
    """Time the changes of a source.

    The median is not moved by a few publications that come late or that the reader missed. Reading
    more rarely than the source publishes gives the time between readings: a bound, on the safe
    side.

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
    """Measure every counter and power source that is quick to read; takes up to 2.5 s.

    Returns:
        All sources in their order, with what was measured; the ids of summed counters that show
        another one's values, each with that one's; and notes on counters that stood still.
    """
    timed = [n for n, (meter, _, source) in enumerate(channels) if _timed(meter, source)]
    rounds = _watch(channels, timed)
    sources, notes = [source for _, _, source in channels], list[str]()
    for number in timed:
        source = sources[number]
        points = [seen[number] for seen in rounds if number in seen]
        found = rhythm(points, "counter" if source.kind == "counter" else "power")
        if found.changes == 0 and source.kind == "counter":
            notes.append(
                f"{source.id} stood still while its update period was measured: the documented one"
                " is taken"
            )
        if found.period_ns is not None:
            source = dataclasses.replace(
                source, update_period_ns=found.period_ns, update_period_measured=True
            )
        if found.resolution is not None:
            source = dataclasses.replace(source, resolution=found.resolution)
        sources[number] = source
    return tuple(sources), _mirrors(channels, rounds), tuple(notes)


def _timed(meter: Meter, source: Source) -> bool:
    return source.kind in ("counter", "power") and not meter.slow


def _watch(channels: Sequence[Channel], timed: Sequence[int]) -> list[Round]:
    """Read until all have changed often enough or are given up; a failed reading is left out."""
    rounds, last = list[Round](), Round()
    changes = dict.fromkeys(timed, 0)
    began_ns = time.monotonic_ns()
    while changes:
        spent_ns = time.monotonic_ns() - began_ns
        now = _read(channels, changes)
        for number, (_, value) in now.items():
            changes[number] += number in last and last[number][1] != value
        rounds.append(now)
        last |= now
        for number, count in list(changes.items()):
            hopeless = count == 0 and spent_ns > _HOPELESS_NS
            if count >= _ENOUGH_CHANGES or hopeless or spent_ns > _LONGEST_NS:
                del changes[number]
        time.sleep(min(_COARSEST_NS, max(_FINEST_NS, spent_ns // _STEPS)) / 1e9)
    return rounds


def _read(channels: Sequence[Channel], numbers: Iterable[int]) -> Round:
    now = Round()
    for number in numbers:
        meter, place, _ = channels[number]
        with contextlib.suppress(ReadFailed):
            value = meter.read(place)
            now[number] = (time.monotonic_ns(), value)
    return now


def _mirrors(channels: Sequence[Channel], rounds: Sequence[Round]) -> dict[str, str]:
    """Counters of one domain that show the same values, from the rounds that read all of them.

    Only those that would be summed: of the others nobody is told twice.
    """
    counters = [n for n, (_, _, s) in enumerate(channels) if s.kind == "counter" and s.summed]
    found = dict[str, str]()
    for domain in {channels[n][2].domain for n in counters}:
        group = [n for n in counters if channels[n][2].domain == domain]
        whole = [seen for seen in rounds if seen.keys() >= set(group)]
        found |= clones({channels[n][2].id: [int(seen[n][1]) for seen in whole] for n in group})
    return found
