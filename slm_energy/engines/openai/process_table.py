"""Linux's table of processes in /proc: trees, processor time, open files.

Standard library only: a worker in another environment has no psutil.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process: its id, its parent's, its name (at most 15 characters), and its processor time.

    The time is that of its ended children too, in clock ticks.
    """

    pid: int
    parent: int
    name: str
    ticks: int


def read(proc: Path = PROC) -> dict[int, Process]:
    """All processes that are visible here, by id (Linux, proc_pid_stat(5))."""
    found = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        # The name in parentheses may contain anything.
        head, _, tail = stat.rpartition(")")
        fields = tail.split()
        found[int(folder.name)] = Process(
            pid=int(folder.name),
            parent=int(fields[1]),
            name=head.partition("(")[2],
            ticks=sum(map(int, fields[11:15])),
        )
    return found


def ancestors(pid: int, table: Mapping[int, Process]) -> Iterator[int]:
    """A process's parent, the parent's parent, and so on."""
    while pid in table and table[pid].parent in table:
        pid = table[pid].parent
        yield pid


def tree(roots: Iterable[int], table: Mapping[int, Process]) -> list[Process]:
    """The given processes and all that descend from them."""
    wanted = set(roots)
    return [
        process
        for process in table.values()
        if process.pid in wanted or not wanted.isdisjoint(ancestors(process.pid, table))
    ]


def cpu_s(processes: Iterable[Process]) -> float:
    """Processor seconds that these processes and their ended children had used."""
    return sum(process.ticks for process in processes) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int, proc: Path = PROC) -> set[str]:
    """The files and sockets that a process holds open; empty if it has ended.

    Raises:
        PermissionError: it is another user's, or protected.
    """
    paths = set[str]()
    try:
        for link in (proc / str(pid) / "fd").iterdir():
            try:
                paths.add(os.readlink(link))
            except FileNotFoundError:  # just closed
                continue
    except (FileNotFoundError, ProcessLookupError):
        pass
    return paths
