"""How far a baseline's mean power may be from what it would be in the long run. Pure.

An idle machine is not steady: timers and daemons wake it up. Over the ten seconds of a baseline its
mean differs from that of the minutes for which it is subtracted. The method of batch means (Law and
Kelton, Simulation Modeling and Analysis, ch. 9) takes the baseline in equal blocks, and the spread
of their means as that of the whole; neighbouring blocks are merged as a second view, because power
that stays high or low for longer than a block makes blocks look too much alike. Bursts make idle
power skew: a baseline has too few of them more often than too many, so the upper end allows for two
more of the largest.

`benchmarks/coverage.py --baseline` measures how often the long run is inside. What happens less
than about five times in a baseline cannot be known from it.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from scipy.special import stdtrit

from slm_energy.derive.energy.accounting import account
from slm_energy.derive.energy.latency import longest_latency_ns
from slm_energy.record import Series, Window

_BLOCKS = 10
_FEWEST = 4
_READINGS_PER_BLOCK = 2
_MORE_BURSTS = 2
_AROUND_NS = 2_000_000_000


def unsteadiness_j(
    series: Sequence[Series], window: Window, *, max_gap_ns: int
) -> tuple[float, float] | None:
    """How far below and above a window's energy that of the long run may be, at 95 %.

    Args:
        series: the sources whose sum is wanted; their blocks are added before they are compared.
        window: the baseline.
        max_gap_ns: as for `account`.

    Returns:
        Joules; None if the window has fewer than four blocks that the sensors can tell apart.
    """
    blocks = min((_most_blocks(each, window) for each in series), default=0)
    if blocks < _FEWEST:
        return None
    spans = _equal(window, blocks - blocks % 2)
    energies = list[float]()
    narrowed = [_around(each, window) for each in series]
    for span in spans:
        figures = [account(each, span, max_gap_ns=max_gap_ns).joules for each in narrowed]
        known = [joules for joules in figures if joules is not None]
        if len(known) < len(figures):
            return None
        energies.append(math.fsum(known))
    merged = [one + other for one, other in zip(energies[::2], energies[1::2], strict=True)]
    half_j = max(_half_width(each) for each in (energies, merged) if len(each) >= _FEWEST)
    return half_j, half_j + _MORE_BURSTS * (max(energies) - min(energies))


def _half_width(energies: Sequence[float]) -> float:
    """Of the sum of blocks, from their spread."""
    quantile = float(stdtrit(len(energies) - 1, 0.975))
    return quantile * statistics.stdev(energies) * math.sqrt(len(energies))


def _most_blocks(series: Series, window: Window) -> int:
    """As many as have two readings and two updates each, at most ten."""
    inside = [t for t in series.before_ns if window.start_ns <= t <= window.end_ns]
    if len(inside) < _FEWEST:
        return 0
    apart_ns = max(
        statistics.median(later - earlier for earlier, later in pairwise(inside)),
        series.source.update_period_ns or 0,
        series.source.averaging_ns,
    )
    length_ns = window.end_ns - window.start_ns
    return min(_BLOCKS, int(length_ns / (_READINGS_PER_BLOCK * max(apart_ns, 1))))


def _equal(window: Window, blocks: int) -> list[Window]:
    length_ns = window.end_ns - window.start_ns
    edges = [window.start_ns + length_ns * number // blocks for number in range(blocks + 1)]
    return [
        dataclasses.replace(window, start_ns=start, end_ns=end) for start, end in pairwise(edges)
    ]


def _around(series: Series, window: Window) -> Series:
    """The readings around a window; of a block only the best figure is wanted, not its interval."""
    source, late_ns = series.source, longest_latency_ns(series.source)
    averaging_ns = source.averaging_ns if source.kind == "power" else 0
    begin = bisect.bisect_left(series.before_ns, window.start_ns - _AROUND_NS)
    end = bisect.bisect_right(series.before_ns, window.end_ns + late_ns + _AROUND_NS)
    return Series(
        source=dataclasses.replace(source, lag_error_ns=0, averaging_ns=averaging_ns),
        before_ns=series.before_ns[begin:end],
        raw=series.raw[begin:end],
        after_ns=series.after_ns[begin:end],
    )
