"""How much memory the control groups of this process allow, and which limits were reached.

Sources: Linux's Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat,
memory.events) and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from slm_energy import control_groups
from slm_energy.control_groups import ROOT, counts, text

SMALLER = "try a smaller workload.batch_size, engine.dtype or model"
RAISE = "raise that limit (docker --memory, the pod's memory limit, the job's --mem)"
_NO_LIMIT = 1 << 60
"""Version 1 writes the largest number of whole pages that a counter holds."""
_VERSIONS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of the limit and of the use, and the line of memory.stat about page cache that the kernel
takes back first: in version 2 and 1."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLimit:
    """The memory limit of one control group.

    Attributes:
        folder: of the control group that has it.
        limit_bytes: what its processes may use together.
        free_bytes: what they may still use; page cache that the kernel takes back first is free.
        refusals: how often an allocation hit this limit; in version 2 also that of a group inside.
    """

    folder: str
    limit_bytes: int
    free_bytes: int
    refusals: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLimits:
    """Every memory limit of this process.

    Attributes:
        groups: the limit of each group that has one, outermost first.
        unknown: why they are not known; empty if they are.
    """

    groups: tuple[MemoryLimit, ...] = ()
    unknown: str = ""

    @property
    def tightest(self) -> MemoryLimit | None:
        """The limit that leaves the least memory; None without a known one."""
        return min(self.groups, key=lambda limit: limit.free_bytes, default=None)

    def reached_since(self, earlier: MemoryLimits) -> MemoryLimit | None:
        """The innermost limit that an allocation has hit since then; None if none is known."""
        before = {limit.folder: limit.refusals for limit in earlier.groups}
        found = [g for g in self.groups if g.refusals > before.get(g.folder, g.refusals)]
        return found[-1] if found else None  # the groups around it count it too


def read(root: Path = ROOT) -> MemoryLimits:
    """Every memory limit of this process now.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    groups, why = control_groups.limits("memory", _limit, root)
    return MemoryLimits(groups=groups, unknown=why and f"the memory limit cannot be read: {why}")


def allowed(root: Path = ROOT) -> tuple[int, str] | None:
    """The most memory that processes here may use together, and what allows it; None if unknown.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    try:
        installed = int(text(root / "proc/meminfo").split()[1]) * 1024  # MemTotal, in kB
    except (OSError, IndexError, ValueError):
        return None
    groups = [(each.limit_bytes, f"the control group {each.folder}") for each in read(root).groups]
    return min([(installed, "this machine"), *groups])


def _limit(folder: Path, name: str) -> MemoryLimit | None:
    """The limit of one group; None if it has none, or no controller of memory."""
    for limit_file, use_file, cache in _VERSIONS:
        if not (folder / limit_file).is_file():
            continue
        limit = text(folder / limit_file)
        if limit == "max" or int(limit) >= _NO_LIMIT:
            return None
        used = int(text(folder / use_file)) - counts(folder / "memory.stat")[cache]
        return MemoryLimit(
            folder=name,
            limit_bytes=int(limit),
            free_bytes=max(0, int(limit) - used),
            refusals=counts(folder / "memory.events")["oom"]
            if limit_file == "memory.max"
            else int(text(folder / "memory.failcnt")),
        )
    return None
