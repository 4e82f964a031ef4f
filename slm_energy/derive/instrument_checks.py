"""Checks of the clocks, of the CPU quota, and of a meter at the wall: its steps and its unit. Pure.

Each gives what `checks.run` makes a `CheckResult` of: whether it passed (None if it does not apply)
and a detail.
"""

from __future__ import annotations

from collections.abc import Sequence

from slm_energy.cell import Trial
from slm_energy.derive.energy import coarse, wall_unit
from slm_energy.record import Capture, EnergyFigure

_CLOCK_ERROR_NS = 10_000_000
"""Clocks differ by less unless one was set or stopped: both are slewed by the same rate, and they
are read within microseconds."""


def quota_not_throttled(
    trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]
) -> tuple[bool | None, str]:
    """Threads that a CPU quota stops make times and powers those of the quota."""
    serve = capture.window("serve")
    if serve is None:
        return None, "there is no serve window"
    quota = serve.withheld.worst
    if quota is None or quota.throttled_pct is None:
        return None, serve.withheld.unknown or "there is no CPU quota"
    limit = trial.cell.settings.measurement.limits.throttled_pct
    detail = (
        f"the quota of {quota.processors:g} processors of {quota.folder} stopped threads in"
        f" {quota.throttled_periods:,} of {quota.periods:,} periods"
    )
    if quota.throttled_pct <= limit:
        return True, detail
    return False, (
        f"{detail}: measurement.limits.throttled_pct={limit:g} allows less; raise the quota"
        " (docker --cpus, the pod's CPU limit, the job's processors)"
    )


def not_suspended(
    trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]
) -> tuple[bool | None, str]:
    """Energy is used while a machine is suspended, and no time passes on the monotonic clock."""
    known = {w.name: w.suspended_ns for w in capture.windows if w.suspended_ns is not None}
    if not known:
        return None, "it is unknown whether the machine was suspended"
    window = max(known, key=known.__getitem__)
    if known[window] > _CLOCK_ERROR_NS:
        return False, (
            f"the machine was suspended for {known[window] / 1e9:,.2f} s within window {window}:"
            " run `systemd-inhibit --what=sleep slm-energy ...`"
        )
    return True, "the machine was not suspended within a window"


def wall_clock_steady(
    trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]
) -> tuple[bool | None, str]:
    """A wall clock that is set separates dates in the store from what happened."""
    if len(capture.parent_clocks) < 2:
        return None, "the wall clock was not compared with the monotonic clock"
    first, *_, last = capture.parent_clocks
    step_ns = last.wall_step_ns(first)
    if abs(step_ns) <= _CLOCK_ERROR_NS:
        return True, "the wall clock was not set during the trial"
    direction = "forward" if step_ns > 0 else "back"
    return False, (
        f"the wall clock was set {direction} by {abs(step_ns) / 1e9:,.2f} s during the trial:"
        " dates in the store are affected, durations are not"
    )


def fine_enough(
    trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]
) -> tuple[bool | None, str]:
    """Counters of the total may have steps that are too coarse for the window."""
    serve = capture.window("serve")
    if serve is None:
        return None, "there is no serve window"
    target = trial.cell.settings.measurement.target_error
    parts = [figure for figure in energy if figure.window == "serve" and figure.summed]
    texts = [coarse.too_coarse(figure, serve, target) for figure in parts]
    if found := [text for text in texts if text is not None]:
        return False, "; ".join(found)
    return True, "no counter of the total has steps that are too coarse"


def wall_unit_plausible(
    trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]
) -> tuple[bool | None, str]:
    """A meter at the wall sees at least what the sensors inside the machine see."""
    config = trial.cell.settings.measurement.wall_meter
    share = wall_unit.parts_to_wall([figure for figure in energy if figure.window == "serve"])
    if config is None or share is None:
        return None, "no meter at the wall is compared with sensors inside the machine"
    wrong = wall_unit.implausible(share, config.unit)
    if wrong is not None:
        return False, wrong
    return True, f"the sensors inside use {share.ratio:.3g} of what the wall meter shows"
