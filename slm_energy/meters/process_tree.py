"""The processes of a trial: its worker, a running server that it uses, and their descendants.

`ProcessTree` sums over them; `TrialProcesses` tells which processes on a GPU are among them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from slm_energy.meters.base import ReadFailed

_LIST_S = 1.0
"""Looking for new children costs 12 us per thread of the tree: not done at each reading."""

_KERNEL_LISTS = Path("/proc/thread-self/children").exists()


class ProcessTree:
    """The trees below some processes.

    Args:
        pids: their roots; one that descends from another adds nothing.

    Raises:
        psutil.NoSuchProcess: there is no such process.
    """

    def __init__(self, *pids: int) -> None:
        self._roots = {pid: psutil.Process(pid) for pid in pids}
        self._below: dict[int, psutil.Process] = {}
        self._listed_s = -_LIST_S

    def cpu_s(self) -> float:
        """Processor seconds of the tree, with those of ended children that were waited for.

        Falls when a process ends that is not waited for.

        Raises:
            psutil.Error: a root has exited.
        """
        # The kernel counts ticks: the same ticks, added in another order, are the same number.
        return round(self._sum(lambda process: sum(process.cpu_times()[:4])), 6)

    def resident_mb(self) -> float:
        """Resident memory of the tree, in 10^6 bytes.

        Raises:
            psutil.Error: a root has exited.
        """
        return self._sum(lambda process: process.memory_info().rss) / 1e6

    def _sum(self, measure: Callable[[psutil.Process], float]) -> float:
        if time.monotonic() - self._listed_s >= _LIST_S:
            self._list()
        while True:
            # Parents come before their children: one that ends meanwhile is in neither of the two,
            # so all is measured again, and its time is then its parent's, which waited for it.
            total = sum(measure(root) for root in self._roots.values())
            try:
                return total + sum(measure(process) for process in self._below.values())
            except psutil.NoSuchProcess as ended:
                del self._below[ended.pid]

    def _list(self) -> None:
        """Look for new processes; a known one stays, also when its parent has ended."""
        self._below = {pid: known for pid, known in self._below.items() if known.is_running()}
        unseen = [*self._roots.values(), *self._below.values()]
        while unseen:
            for pid in _children(unseen.pop()):
                if pid not in self._below and pid not in self._roots:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self._below[pid] = psutil.Process(pid)
                        unseen.append(self._below[pid])
        self._listed_s = time.monotonic()


def _children(process: psutil.Process) -> list[int]:
    """One level down. The kernel's lists, one per thread, save a walk through all of /proc."""
    if not _KERNEL_LISTS:
        return [child.pid for child in process.children()]
    pids = list[int]()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for task in os.listdir(f"/proc/{process.pid}/task"):
            children = Path(f"/proc/{process.pid}/task/{task}/children")
            pids += map(int, children.read_bytes().split())
    return pids


@dataclasses.dataclass(kw_only=True, slots=True)
class TrialProcesses:
    """The processes whose trial is measured, by the roots of their trees; none between trials."""

    roots: set[int] = dataclasses.field(default_factory=set)

    def foreign(self, pids: Iterable[int]) -> int:
        """How many of these processes do not belong to the trial.

        Raises:
            ReadFailed: there is no such process here. Drivers may report process ids of the host,
                and in a container these cannot be resolved.
        """
        return sum(not self._owns(pid) for pid in pids)

    def own(self, pids: Iterable[int]) -> int:
        """How many of these processes belong to the trial.

        Raises:
            ReadFailed: none of those that are visible here does, and one is not visible.
        """
        count, unseen = 0, None
        for pid in pids:
            try:
                count += self._owns(pid)
            except ReadFailed as failure:
                unseen = failure
        if unseen is not None and not count:
            raise unseen
        return count

    def _owns(self, pid: int) -> bool:
        if pid in self.roots:
            return True
        try:
            return any(parent.pid in self.roots for parent in psutil.Process(pid).parents())
        except psutil.Error as error:
            raise ReadFailed(
                f"process {pid} on the GPU is not visible here ({type(error).__name__}): it has"
                " just ended, or this container needs the process ids of its host (--pid=host)"
            ) from error
