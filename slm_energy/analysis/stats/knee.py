"""The knee of a curve of latency against load: where Kleinrock's power is largest.

Power is throughput over mean latency (Kleinrock 1979, Power and deterministic rules of thumb for
probabilistic problems in computer communications, ICC 43.1; Jain 1991, The Art of Computer Systems
Performance Analysis, section 3.3, calls its maximum the knee). It has no threshold to choose and
needs no unloaded latency to compare with. For one server with a queue (M/G/1) it is largest where
one request is in the system on average: at half the capacity for M/M/1, where latency is twice
that without load.
"""

from __future__ import annotations

import numpy as np

from slm_energy.analysis.stats.effect_size import Floats

FEWEST = 3


def knee(throughput: Floats, latency: Floats) -> tuple[int, list[int]] | None:
    """The load with the largest power.

    Args:
        throughput: rounds x loads, in requests per second; NaN where there is no value.
        latency: mean latency in s, same shape.

    Returns:
        The column of the largest geometric mean over complete rounds, and the column that is the
        largest in each of them; None with fewer than three loads, or without a complete round.
    """
    if throughput.shape[1] < FEWEST:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.log(throughput / latency)
    power = power[np.isfinite(power).all(axis=1)]
    if not len(power):
        return None
    return int(power.mean(axis=0).argmax()), [int(best) for best in power.argmax(axis=1)]
