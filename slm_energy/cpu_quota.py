"""How much processor time the control groups of a process allow, and what they withheld.

A group may have a quota: so many microseconds of processor time in each period. When its threads
have used them they all wait for the next period. Neither the affinity mask nor /proc/stat shows
that. The group and all its ancestors each have a quota: the tightest says how many threads are
useful, and any of them may withhold time, as a larger one is shared with more processes.

Sources: Linux's Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.stat) and
Documentation/scheduler/sched-bwc.rst (version 1).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from slm_energy import control_groups
from slm_energy.control_groups import ROOT, counts, text


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CpuQuota:
    """The quota of one control group.

    Attributes:
        folder: of the control group that has it.
        quota_us: processor time in each period, in microseconds.
        period_us: length of a period in microseconds.
        periods: how many periods with work have passed since the group was made.
        throttled_periods: in how many of them its threads had to wait.
        throttled_us: how long they waited: microseconds, summed over the processors.
    """

    folder: str
    quota_us: int
    period_us: int
    periods: int
    throttled_periods: int
    throttled_us: int

    @property
    def processors(self) -> float:
        """How many processors the quota is worth."""
        return self.quota_us / self.period_us

    @property
    def throttled_pct(self) -> float | None:
        """Periods in which threads had to wait, in percent; None if no period has passed."""
        return 100 * self.throttled_periods / self.periods if self.periods else None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """Every quota that limits one or several processes.

    Attributes:
        groups: the quota of each group that has one, outermost first.
        unknown: why they are not known; empty if they are.
    """

    groups: tuple[CpuQuota, ...] = ()
    unknown: str = ""

    @property
    def tightest(self) -> CpuQuota | None:
        """The quota that allows the fewest processors; None without a known one."""
        return min(self.groups, key=lambda quota: quota.processors, default=None)

    @property
    def worst(self) -> CpuQuota | None:
        """The quota that made threads wait in the largest share of its periods; None as above."""
        return max(self.groups, key=lambda quota: quota.throttled_pct or 0.0, default=None)

    def since(self, earlier: Quotas) -> Quotas:
        """The counts since an earlier reading; unknown if a quota came, went or changed."""
        if self.unknown or earlier.unknown:
            return Quotas(unknown=earlier.unknown or self.unknown)
        if [_limit(quota) for quota in self.groups] != [_limit(quota) for quota in earlier.groups]:
            return Quotas(unknown="the control group or its quota changed meanwhile")
        pairs = zip(self.groups, earlier.groups, strict=True)
        return Quotas(groups=tuple(_difference(quota, before) for quota, before in pairs))


def read(root: Path = ROOT, pids: Sequence[int] = ()) -> Quotas:
    """Every quota of this process now, and of others that work for it.

    Args:
        root: the folder that holds `proc` and `sys`.
        pids: the other processes.
    """
    groups, why = control_groups.limits("cpu", _quota, root, pids)
    return Quotas(groups=groups, unknown=why and f"the CPU quota cannot be read: {why}")


def usable_processors(root: Path = ROOT) -> int:
    """How many processors this process can keep busy: by its affinity mask and its known quotas.

    A quota is rounded down: one thread more than it pays for makes all threads wait in each period.
    """
    allowed, quota = len(os.sched_getaffinity(0)), read(root).tightest
    return allowed if quota is None else max(1, min(allowed, int(quota.processors)))


def _limit(quota: CpuQuota) -> tuple[str, int, int]:
    return quota.folder, quota.quota_us, quota.period_us


def _difference(quota: CpuQuota, before: CpuQuota) -> CpuQuota:
    return dataclasses.replace(
        quota,
        periods=quota.periods - before.periods,
        throttled_periods=quota.throttled_periods - before.throttled_periods,
        throttled_us=quota.throttled_us - before.throttled_us,
    )


def _quota(folder: Path, name: str) -> CpuQuota | None:
    """The quota of one group; None if it has none, or no controller of processors."""
    if (file := folder / "cpu.max").is_file():
        quota, period = text(file).split()
    elif (file := folder / "cpu.cfs_quota_us").is_file():
        quota, period = text(file), text(folder / "cpu.cfs_period_us")
    else:
        return None
    if quota in ("max", "-1"):
        return None
    stat = counts(folder / "cpu.stat")
    return CpuQuota(
        folder=name,
        quota_us=int(quota),
        period_us=int(period),
        periods=stat["nr_periods"],
        throttled_periods=stat["nr_throttled"],
        throttled_us=stat["throttled_usec"]
        if "throttled_usec" in stat
        else stat["throttled_time"] // 1000,
    )
