"""Checks of the counters that make up the total: do they move, and is it known when they wrap."""

from __future__ import annotations

from collections.abc import Sequence

from slm_energy.doctor.finding import Finding
from slm_energy.record import Source

_SLOW_DOMAINS = ("wall", "machine")
"""Their meters are read over a network, and not while the sampler measures update periods."""


def counters(sources: Sequence[Source]) -> Finding:
    """Check that every summed counter moved when it was opened, and has a known range.

    Args:
        sources: all sources, as the sampler calibrated them.
    """
    name = "counters"
    summed = [s for s in sources if s.summed and s.kind == "counter"]
    quick = [source for source in summed if source.domain not in _SLOW_DOMAINS]
    if not quick:
        return Finding(name=name, verdict="not applicable", detail="no quick counter is summed")
    if still := [s.id for s in quick if s.resolution is None and not s.update_period_measured]:
        return Finding(
            name=name,
            verdict="fail",
            detail=f"{', '.join(still)} did not move: a window in which it does not is invalid",
            remedy=f"measurement.leave_out=[{','.join(still)}] leaves it out of the total",
        )
    if endless := [s.id for s in quick if s.id.startswith("rapl/") and s.modulus is None]:
        return Finding(
            name=name,
            verdict="warn",
            detail=f"{', '.join(endless)} may wrap at an unknown value (max_energy_range_uj): a"
            " window in which it wraps is invalid",
            remedy="update the kernel, or run a container with its whole /sys/class/powercap",
        )
    return Finding(name=name, verdict="ok", detail="all of the total moved")
