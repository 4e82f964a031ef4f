"""The control groups (cgroups) of a process, whose limits a container, a pod or a job sets.

A group's limits hold together with those of all groups above it.

Sources: Linux's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/; mounts as in
proc_pid_mountinfo(5), names as in cgroup_namespaces(7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from slm_energy.errors import one_line

ROOT = Path("/")
T = TypeVar("T")


def limits(
    controller: str, read: Callable[[Path, str], T | None], root: Path, pids: Sequence[int] = ()
) -> tuple[tuple[T, ...], str]:
    """The limits of this process's groups, and of those of others that work for it.

    Args:
        controller: `cpu` or `memory`.
        read: the limit of a group, by its folder and its name; None if it has none.
        root: the folder that holds `proc` and `sys`.
        pids: the other processes.

    Returns:
        The limits, outermost first; and why they are not known, empty if they are.
    """
    try:
        found = [folder for pid in (None, *pids) for folder in folders(controller, root, pid)]
        each = (read(group, f"/{group.relative_to(root)}") for group in dict.fromkeys(found))
        return tuple(limit for limit in each if limit is not None), ""
    except (OSError, ValueError, KeyError) as error:
        return (), one_line(error)


def text(file: Path) -> str:
    """What a file of a group has."""
    return file.read_text(encoding="utf-8").strip()


def counts(file: Path) -> dict[str, int]:
    """The counters of a file of a group, one on a line."""
    return {key: int(value) for key, value in map(str.split, text(file).splitlines())}


def folders(controller: str, root: Path = ROOT, pid: int | None = None) -> list[Path]:
    """The folders of a process's groups that may have limits of a controller, outermost first.

    Args:
        controller: `cpu` or `memory`.
        root: the folder that holds `proc` and `sys`.
        pid: the process; None is this one.

    Returns:
        Empty if this system has no control groups.

    Raises:
        OSError: a file of the kernel's cannot be read, or the process has ended.
        ValueError: a file is not in the kernel's format, or the groups of the other process are not
            mounted here.
    """
    file = root / "proc" / ("self" if pid is None else str(pid)) / "cgroup"
    if pid is None and not file.is_file():
        return []
    found: list[Path] = []
    mounts = list(_mounts(root))
    for line in file.read_text(encoding="utf-8").splitlines():
        number, controllers, name = line.split(":", 2)
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind == "cgroup" and controller not in controllers.split(","):
            continue
        for its_kind, top, place, options in mounts:
            if its_kind == kind and (kind == "cgroup2" or controller in options):
                group = root / place.lstrip("/")
                below = _below(name, top, pid)
                found += [group, *(group.joinpath(*below[: n + 1]) for n in range(len(below)))]
                break
    return found


def _below(name: str, top: str, pid: int | None) -> tuple[str, ...]:
    """The parts of a group's name below the mounted group.

    A container without a namespace of its own sees the host's name of a group that is mounted as
    the root: then this process's own group is the mounted one. Another process may be elsewhere.
    """
    if Path(name).is_relative_to(top) and ".." not in Path(name).parts:
        return Path(name).relative_to(top).parts
    if pid is None:
        return ()
    raise ValueError(f"the control group {name} of process {pid} cannot be seen from here")


def _mounts(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Type, mounted group, mount point and options of each mounted tree of control groups."""
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        place, _, tree = line.partition(" - ")
        kind, _, options = tree.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield kind, place.split(" ")[3], place.split(" ")[4], options.split(",")
