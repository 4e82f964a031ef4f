"""Warming up: requests that do not count, until they take a steady time.

Many programs never reach a steady state, or reach it late (Barrett et al., Virtual Machine Warmup
Blows Hot and Cold, OOPSLA 2017), so a fixed number of requests proves nothing. That a trial never
reached it is recorded, and does not invalidate it.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence

from slm_energy.engines.base import Batch, Completion, Engine
from slm_energy.record import WarmUp

_HALF = 4
_TOLERANCE = 0.05


def warm_up(
    engine: Engine,
    batches: Sequence[Batch],
    *,
    requests: int,
    at_most_s: float,
    progress: Callable[[float], None],
) -> WarmUp:
    """Serve the workload from its beginning, over and over, until it is steady.

    Args:
        engine: loaded.
        batches: the workload.
        requests: the least number that is served.
        at_most_s: after this time no further batch is started; the current one is finished.
        progress: called with the share of the time that has passed, before each batch.
    """
    start_ns, done = time.monotonic_ns(), 0
    paces_ns: list[int] = []
    for batch in itertools.cycle(batches):
        begun_ns = time.monotonic_ns()
        spent_s = (begun_ns - start_ns) / 1e9
        if done >= requests and (steady(paces_ns) or spent_s >= at_most_s):
            break
        progress(min(1.0, spent_s / at_most_s) if at_most_s else 0.0)
        paces_ns.append(_pace_ns(begun_ns, engine.generate(batch)))
        done += len(batch.prompts)
    return WarmUp(paces_ns=tuple(paces_ns), steady=steady(paces_ns))


def steady(paces_ns: Sequence[int]) -> bool:
    """Whether a series has settled: its last four values against the four before them.

    The two medians differ by less than 5 %. A cycle that is longer than eight values passes
    where its halves agree; within a warm-up it cannot be told from noise.
    """
    if len(paces_ns) < 2 * _HALF:
        return False
    before = statistics.median(paces_ns[-2 * _HALF : -_HALF])
    now = statistics.median(paces_ns[-_HALF:])
    return abs(math.log(now / before)) <= _TOLERANCE


def _pace_ns(begun_ns: int, answers: Sequence[Completion]) -> int:
    """Time of one decoding step: prompts differ in length, their steps hardly differ.

    The median of the times between tokens; with a single token, the time to it.
    """
    stamps = max((answer.token_ns for answer in answers), key=len)
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    return max(1, round(statistics.median(gaps or [stamps[0] - begun_ns])))
