"""RAPL energy counters through Linux perf events, for where powercap is not readable.

The kernel shows them as event sources `power` (one CPU per socket or die answers for it) and, on
newer AMD processors, `power_core` (one CPU per core). It counts 64 bits from zero in steps of
2^-32 J and handles the registers' wraps itself, so these counters do not wrap.

No package on PyPI opens such events: the kernel's own binding comes with the distribution's `perf`,
for the distribution's Python. So this is the system call through ctypes; see man 2 perf_event_open.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import struct
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from slm_energy.meters.base import ReadFailed
from slm_energy.record import Source

UPDATE_PERIOD_NS = 1_000_000
"""RAPL counters are updated about once a millisecond (Khan et al., RAPL in Action, 2018)."""

MAX_POWER_W = 2000.0
"""More than any socket or board draws; only distinguishes a counter's wrap from its reset."""

PERMISSION = (
    "sudo sysctl kernel.perf_event_paranoid=0, or run with the capability CAP_PERFMON (in a"
    " container: --cap-add PERFMON)"
)
"""What counting on a whole CPU requires: docs.kernel.org/admin-guide/sysctl/kernel.html."""

_DOMAINS = {
    "energy-pkg": "cpu_package",
    "energy-cores": "cpu_core",
    "energy-core": "cpu_core",
    "energy-gpu": "cpu_uncore",
    "energy-ram": "dram",
    "energy-psys": "psys",
}
_AMD_EVENTS = ("energy-pkg", "energy-core")
"""AMD has no others, though kernels before 5.17 list them (Linux commit 0036fb00a756)."""

_STILL_S = 0.5
"""In that time a platform of 2 W counts, even in the steps of 1 J of Sapphire Rapids."""

_SYSCALL = 298
"""perf_event_open on x86-64; no other processor has RAPL."""

_CLOSE_ON_EXEC = 8
_WITH_TIMES = 0b11
_ATTR = struct.Struct("=IIQQQQQIIQ")
_COUNT = struct.Struct("=QQQ")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Event:
    """What the kernel's tree says of one counter; `cpus` are the CPUs whose counts make it."""

    source: Source
    kind: int
    config: int
    cpus: tuple[int, ...]


class EventCounter:
    """One open counter: the sum of an event's counts on one or more CPUs.

    Args:
        source: what it is.
        files: descriptors from `perf_event_open`; closed with the counter.
    """

    def __init__(self, source: Source, files: Sequence[int]) -> None:
        self.source = source
        self._files = tuple(files)

    def read(self) -> int:
        """The count since it was opened, in 2^-32 J.

        Raises:
            ReadFailed: the kernel returned no count, or counted only part of the time.
        """
        return sum(map(_count, self._files))

    def close(self) -> None:
        """Stop counting."""
        for file in self._files:
            os.close(file)


def _count(file: int) -> int:
    try:
        data = os.read(file, _COUNT.size)
    except OSError as error:
        raise ReadFailed(error_name(error)) from error
    if len(data) < _COUNT.size:
        raise ReadFailed("the kernel has stopped the event")
    count, enabled_ns, running_ns = _COUNT.unpack(data)
    if running_ns < enabled_ns:
        raise ReadFailed(f"counted during {running_ns} of {enabled_ns} ns only")
    return int(count)


def perf_event_open(kind: int, config: int, cpu: int) -> int:
    """Count an event of a whole CPU, whichever process runs there.

    Args:
        kind: the event source's number, from its file `type`.
        config: which of its events.
        cpu: on which CPU.

    Returns:
        A file descriptor. A read gives the count and the ns for which it was enabled and running.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attr = _ATTR.pack(kind, _ATTR.size, config, 0, 0, _WITH_TIMES, 0, 0, 0, 0)
    every_process, no_group = -1, -1
    numbers = map(ctypes.c_long, (every_process, cpu, no_group, _CLOSE_ON_EXEC))
    file = libc.syscall(ctypes.c_long(_SYSCALL), attr, *numbers)
    if file < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(file)


def open_events(
    sysfs: Path, covered: Collection[tuple[str, str]], *, amd: bool = False
) -> tuple[list[EventCounter], list[str]]:
    """Open RAPL's events.

    Args:
        sysfs: where the kernel's tree is; `/sys` on a real machine.
        covered: what is metered already and left out (see `domain_and_package`).
        amd: the processor is AMD's: a package has one register, however many dies report it
            (Linux commit 626c5acf39ba).

    Returns:
        The counters, and notes on what could not be opened, with the remedy.
    """
    events, notes = _events(sysfs, amd=amd)
    counters = []
    refused: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if domain_and_package(event.source) in covered:
            continue
        try:
            counter = EventCounter(event.source, _open_all(event))
        except OSError as error:
            refused[error_name(error)].append(event.source.id)
            continue
        if event.source.domain == "psys" and _stands_still(counter):
            counter.close()
            notes.append(
                f"rapl: {event.source.id} is left out: it counted nothing for {_STILL_S} s; newer"
                " kernels list it on machines that have no sensor of the platform"
            )
            continue
        counters.append(counter)
    for why, ids in refused.items():
        remedy = f": {PERMISSION}" if why in ("EACCES", "EPERM") else ""
        notes.append(f"rapl: the kernel refuses {', '.join(ids)} ({why}){remedy}")
    return counters, notes


def _stands_still(counter: EventCounter) -> bool:
    """Whether nothing is counted.

    From Sapphire Rapids on, the kernel lists psys without looking at its register, which is 0 in
    virtual machines and on the second socket; it looks at all others (Linux,
    arch/x86/events/rapl.c, `no_check`).
    """
    end_s = time.monotonic() + _STILL_S
    try:
        while counter.read() == 0:
            if time.monotonic() >= end_s:
                return True
            time.sleep(_STILL_S / 50)
    except ReadFailed:
        return False  # it belongs to the machine, and fails at each reading
    return False


def domain_and_package(source: Source) -> tuple[str, str]:
    """Domain and package of a RAPL source, without the die: the same for powercap and perf.

    The two may divide a package into dies differently; one must not be added to the other.
    """
    return source.domain, str(source.device).split("/")[0].split("-die-")[0]


def error_name(error: OSError) -> str:
    """`EACCES` and the like."""
    return errno.errorcode.get(error.errno or 0, str(error))


def text_of(file: Path) -> str:
    """The content of a file of the kernel's tree, without the line break.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no text.
    """
    return file.read_text(encoding="ascii").strip()


def _open_all(event: _Event) -> list[int]:
    files: list[int] = []
    try:
        for cpu in event.cpus:
            files.append(perf_event_open(event.kind, event.config, cpu))
    except OSError:
        for file in files:
            os.close(file)
        raise
    return files


def _events(sysfs: Path, *, amd: bool) -> tuple[list[_Event], list[str]]:
    events, notes = list[_Event](), list[str]()
    for pmu in ("power", "power_core"):
        folder = sysfs / "bus/event_source/devices" / pmu
        for name, domain in _DOMAINS.items():
            file = folder / "events" / name
            if not file.exists() or (amd and name not in _AMD_EVENTS):
                continue
            try:
                kind, config = int(text_of(folder / "type")), _config(file)
                for package, cpus in _packages(sysfs, text_of(folder / "cpumask")).items():
                    for part, its_cpus in _parts(package, cpus, domain, amd=amd):
                        source = _source(f"{pmu}/{name}/", name, domain, part, its_cpus)
                        event = _Event(source=source, kind=kind, config=config, cpus=its_cpus)
                        events.append(event)
            except (OSError, ValueError) as error:
                notes.append(f"rapl: perf event {pmu}/{name}/ is left out: {error}")
    return events, notes


def _config(file: Path) -> int:
    """The number of an event, if its unit is the one that this module knows."""
    scale = text_of(file.with_name(f"{file.name}.scale"))
    unit = text_of(file.with_name(f"{file.name}.unit"))
    if (float(scale), unit) != (2**-32, "Joules"):
        raise ValueError(f"it counts in {scale} {unit}, not in 2^-32 Joules")
    return int(text_of(file).removeprefix("event="), 16)


def _packages(sysfs: Path, cpumask: str) -> dict[str, list[tuple[str, int]]]:
    """The CPUs that report each package, with their dies; named as powercap names them."""
    packages: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for cpu in _cpus(cpumask):
        topology = sysfs / f"devices/system/cpu/cpu{cpu}/topology"
        package = f"package-{text_of(topology / 'physical_package_id')}"
        packages[package].append((f"{package}-die-{text_of(topology / 'die_id')}", cpu))
    return packages


def _parts(
    package: str, dies: Sequence[tuple[str, int]], domain: str, *, amd: bool
) -> Iterable[tuple[str, tuple[int, ...]]]:
    """The parts of a package that have a counter, and the CPUs whose counts it sums."""
    if domain == "cpu_core":
        yield package, tuple(cpu for _, cpu in dies)
    elif amd or len(dies) == 1:
        yield package, (dies[0][1],)
    else:
        yield from ((die, (cpu,)) for die, cpu in dies)


def _cpus(cpumask: str) -> list[int]:
    """The CPUs of a list such as `0,18` or `0-3`."""
    cpus: list[int] = []
    for part in cpumask.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _source(path: str, name: str, domain: str, package: str, cpus: Sequence[int]) -> Source:
    device = {
        "cpu_package": package,
        # As powercap names them: the first one has no number.
        "psys": "psys" if package == "package-0" else package.replace("package", "psys"),
    }.get(domain, f"{package}/{domain.removeprefix('cpu_')}")
    return Source(
        id=f"perf/{name}/{package}",
        kind="counter",
        domain=domain,
        unit="J/2^32",
        update_period_ns=UPDATE_PERIOD_NS,
        max_power_w=MAX_POWER_W,
        device=device,
        path=f"perf_event_open {path} on CPU {','.join(map(str, cpus))}",
    )
