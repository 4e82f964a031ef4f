"""How much processor time the control groups (cgroups) of a process allow, and what they withheld.

A container, a Kubernetes pod or a Slurm job may have a quota: so many microseconds of processor
time in each period. When its threads have used them they all wait for the next period. Neither the
affinity mask nor /proc/stat shows that. The group and all its ancestors each have a quota; the
tightest counts.

Sources: Linux's Documentation/admin-guide/cgroup-v2.rst (cpu.max, cpu.stat) and
Documentation/scheduler/sched-bwc.rst (version 1); mounts as in proc_pid_mountinfo(5).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CpuQuota:
    """The tightest quota of a process.

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

    def since(self, earlier: CpuQuota | None) -> CpuQuota | None:
        """The counts since an earlier reading; None if another group had the tightest quota."""
        if earlier is None or earlier.folder != self.folder:
            return None
        return dataclasses.replace(
            self,
            periods=self.periods - earlier.periods,
            throttled_periods=self.throttled_periods - earlier.throttled_periods,
            throttled_us=self.throttled_us - earlier.throttled_us,
        )


def read(root: Path = _ROOT) -> CpuQuota | None:
    """The tightest quota of this process; None if it has none, or this system no control groups.

    Args:
        root: the folder that holds `proc` and `sys`.

    Raises:
        OSError: a file of a control group cannot be read.
        ValueError: a file of a control group is not in the kernel's format.
    """
    quotas = (_quota(folder, root) for folder in _groups(root))
    known = [quota for quota in quotas if quota is not None]
    return min(known, key=lambda quota: quota.processors, default=None)


def usable_processors(root: Path = _ROOT) -> int:
    """How many processors this process can keep busy: by its affinity mask and its quota.

    A quota is rounded down: one thread more than it pays for makes all threads wait in each period.
    """
    allowed, quota = len(os.sched_getaffinity(0)), read(root)
    return allowed if quota is None else max(1, min(allowed, int(quota.processors)))


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's groups that may have a quota, with those of their ancestors."""
    if not (root / "proc/self/cgroup").is_file():
        return
    mounts = list(_mounts(root))
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        number, controllers, name = line.split(":", 2)
        kind = "cgroup2" if number == "0" else "cgroup"
        for its_kind, top, place, options in mounts:
            if its_kind != kind or (kind == "cgroup" and "cpu" not in options):
                continue
            if kind == "cgroup" and "cpu" not in controllers.split(","):
                continue
            # A container without a namespace of its own sees the host's name of a group that is
            # mounted as the root; and a group outside the mounted ones cannot be seen.
            inside = Path(name).relative_to(top) if Path(name).is_relative_to(top) else Path()
            group = root / place.lstrip("/")
            yield group
            for part in inside.parts:
                group = group / part
                yield group
            break


def _mounts(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Type, mounted group, mount point and options of each mounted tree of control groups."""
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        place, _, tree = line.partition(" - ")
        kind, _, options = tree.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield kind, place.split(" ")[3], place.split(" ")[4], options.split(",")


def _quota(folder: Path, root: Path) -> CpuQuota | None:
    """The quota of one group; None if it has none, or no controller of processors."""
    if (file := folder / "cpu.max").is_file():
        quota, period = file.read_text(encoding="utf-8").split()
    elif (file := folder / "cpu.cfs_quota_us").is_file():
        quota = file.read_text(encoding="utf-8").strip()
        period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
    else:
        return None
    if quota in ("max", "-1"):
        return None
    lines = (folder / "cpu.stat").read_text(encoding="utf-8").splitlines()
    stat = {key: int(value) for key, value in map(str.split, lines)}
    return CpuQuota(
        folder=f"/{folder.relative_to(root)}",
        quota_us=int(quota),
        period_us=int(period),
        periods=stat["nr_periods"],
        throttled_periods=stat["nr_throttled"],
        throttled_us=stat["throttled_usec"]
        if "throttled_usec" in stat
        else stat["throttled_time"] // 1000,
    )
