"""Checks for other users of the machine: foreign load, steal time, another sweep."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

from slm_energy.doctor.finding import ROOT, Finding, text
from slm_energy.errors import SlmEnergyError
from slm_energy.machine import lock_paths, measuring, sees_other_namespaces

_NAMED = 3
_STEAL = 7
_COUNTED = 8
"""Columns of `/proc/stat` that are used: the guest time after them is included in user time."""
_IDLE = (3, 4)
_LEAST_PCT = 1.0
"""Processes below this share are not listed: processor time is counted in ticks of 10 ms."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Processor time used since the machine started, in ticks.

    Attributes:
        columns: sums over all processors: user, nice, system, idle, iowait, irq, softirq, steal.
        processes: name, parent, and sum of user and system time, by process id.
        cpus: number of processors.
        load: load average over one minute; None if the kernel does not report it.
    """

    columns: tuple[int, ...]
    processes: dict[int, tuple[str, int, int]]
    cpus: int
    load: str | None


def usage(root: Path = ROOT) -> Usage:
    """Read `/proc`; processes that end during the read are left out."""
    lines = (text(root / "proc/stat") or "").splitlines()
    rows = [line.split() for line in lines if line.startswith("cpu")]
    processes = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        # The name is in parentheses and may itself contain spaces and parentheses.
        head, _, tail = (text(path) or "").rpartition(")")
        if tail:
            fields = tail.split()
            name, ticks = head.partition("(")[2], int(fields[11]) + int(fields[12])
            processes[int(path.parent.name)] = (name, int(fields[1]), ticks)
    return Usage(
        columns=tuple(int(ticks) for ticks in rows[0][1 : _COUNTED + 1]) if rows else (),
        processes=processes,
        cpus=max(1, len(rows) - 1),
        load=(text(root / "proc/loadavg") or "").partition(" ")[0] or None,
    )


def foreign_load(before: Usage, after: Usage, limit_pct: float) -> Finding:
    """Check the processor time that other processes used, in percent of all processors.

    Args:
        before: the earlier snapshot.
        after: the later snapshot; this process is not counted.
        limit_pct: `measurement.limits.foreign_cpu_pct`.
    """
    name = "other load"
    spent = _spent(before, after)
    if not sum(spent):
        return Finding(name=name, verdict="unknown", detail="not available in /proc/stat")
    idle = sum(spent[column] for column in _IDLE)
    busy = sum(spent) - idle - spent[_STEAL] - _used(before, after).get(os.getpid(), 0)
    share_pct = max(0.0, 100 * busy / sum(spent))
    named = busiest(before, after, own=[os.getpid()])
    detail = f"{share_pct:.1f} % of all processors, load average {after.load or 'unknown'}"
    detail += f"; busiest: {', '.join(named)}" if named else ""
    if share_pct <= limit_pct:
        return Finding(name=name, verdict="ok", detail=detail)
    return Finding(
        name=name,
        verdict="warn",
        detail=detail,
        remedy="end or wait for them: beyond"
        f" measurement.limits.foreign_cpu_pct={limit_pct:g} a trial is invalid",
    )


def busiest(before: Usage, after: Usage, own: Collection[int]) -> tuple[str, ...]:
    """The processes that used most processor time, and how much: `name (id) 80 % of one`.

    Args:
        before: the earlier snapshot.
        after: the later snapshot; a process that ended before it is not known.
        own: ids of processes that are left out with their descendants.
    """
    spent, used = _spent(before, after), _used(before, after)
    foreign = [pid for pid in used if not _descends(pid, own, after)]
    shares_pct = {pid: 100 * used[pid] * after.cpus / max(1, sum(spent)) for pid in foreign}
    most = sorted(foreign, key=lambda pid: used[pid], reverse=True)[:_NAMED]
    return tuple(
        f"{after.processes[pid][0]} ({pid}) {shares_pct[pid]:.0f} % of one"
        for pid in most
        if shares_pct[pid] >= _LEAST_PCT
    )


def _used(before: Usage, after: Usage) -> dict[int, int]:
    """Ticks by process id between two snapshots."""
    nothing = ("", 0, 0)
    return {
        pid: ticks - before.processes.get(pid, nothing)[2]
        for pid, (_, _, ticks) in after.processes.items()
    }


def _descends(pid: int, roots: Collection[int], now: Usage) -> bool:
    while pid not in roots:
        if pid not in now.processes:
            return False
        pid = now.processes[pid][1]
    return True


def steal(before: Usage, after: Usage, limit_pct: float) -> Finding:
    """Check the processor time that the hypervisor gave to other guests, in percent."""
    name = "steal"
    spent = _spent(before, after)
    if not sum(spent):
        return Finding(name=name, verdict="unknown", detail="not available in /proc/stat")
    share_pct = 100 * spent[_STEAL] / sum(spent)
    detail = f"{share_pct:.1f} % of all processor time"
    if share_pct <= limit_pct:
        return Finding(name=name, verdict="ok", detail=detail)
    return Finding(
        name=name,
        verdict="warn",
        detail=detail,
        remedy="take a dedicated host: beyond"
        f" measurement.limits.steal_pct={limit_pct:g} a trial is invalid",
    )


def _spent(before: Usage, after: Usage) -> list[int]:
    """Ticks per column between two snapshots."""
    if not before.columns or not after.columns:
        return []
    return [max(0, b - a) for a, b in zip(before.columns, after.columns, strict=True)]


class _Locked(Exception):
    """Another sweep holds the machine's lock; raised instead of waiting for it."""


def another_sweep() -> Finding:
    """Check whether a sweep is measuring on this machine."""
    name = "other sweep"

    def give_up(path: Path) -> None:
        raise _Locked(path)

    try:
        with measuring(give_up):
            return Finding(name=name, verdict="ok", detail="none measures now")
    except _Locked as lock:
        return Finding(
            name=name,
            verdict="warn",
            detail=f"one measures now (it holds {lock}), and this look disturbed it",
            remedy="a sweep that is started now waits for it",
        )
    except SlmEnergyError as error:
        return Finding(name=name, verdict="fail", detail=str(error))


def machine_lock(root: Path = ROOT) -> Finding:
    """Check that the lock of a measurement excludes every other one on this machine."""
    name, places = "machine lock", ", ".join(map(str, lock_paths()))
    if not places:
        return Finding(name=name, verdict="fail", detail="there is no place for it")
    if sees_other_namespaces(root):
        return Finding(name=name, verdict="ok", detail=places)
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{places}: sweeps outside this network namespace (container) are not excluded",
        remedy="share the host's /run/lock, such as docker run -v /run/lock:/run/lock",
    )
