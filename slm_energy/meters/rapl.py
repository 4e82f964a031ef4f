"""CPU and memory energy counters of Intel and AMD processors (RAPL).

They are read through Linux powercap, or through perf events where powercap is absent or not
readable; never through both for one domain. The tree can show one package twice: `intel-rapl` reads
registers, `intel-rapl-mmio` reads memory. `domains.py` decides what is summed.
See https://docs.kernel.org/power/powercap/powercap.html

AMD's counters have the same names. They follow a model of the processor's activity rather than a
measurement (Schoene et al., arXiv 2108.00808), and do not include memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.energy_filter import energy_filter
from slm_energy.meters import accuracy
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.meters.domains import clones
from slm_energy.meters.rapl_perf import (
    MAX_POWER_W,
    UPDATE_PERIOD_NS,
    EventCounter,
    domain_and_package,
    error_name,
    open_events,
    text_of,
)
from slm_energy.record import Source

REMEDY = (
    "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj (until reboot), or for good the line"
    ' SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj" in'
    " /etc/udev/rules.d/99-rapl.rules (from the next boot)"
)
"""Since Linux 5.10 only root may read them: they can leak secrets (CVE-2020-8694)."""

_ZONE = re.compile(r"intel-rapl(-mmio)?:\d+(:\d+)*")
_DOMAINS = {"package": "cpu_package", "core": "cpu_core", "uncore": "cpu_uncore", "psys": "psys"}
"""By the start of a zone's name: `package-0-die-1`, `psys-1`. Memory's name is its domain."""

_WATCH_S = 0.3
"""Hundreds of updates: more than `clones` needs."""

_AMD = re.compile(r"ven000[29]")
"""AMD, and Hygon with AMD's design, in the processor's modalias."""


class ZoneCounter:
    """One zone of powercap.

    Args:
        source: what it is; `path` is its file.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._file: int | None = None

    def read(self) -> int:
        """Read the counter in uJ; a file that was replaced meanwhile is opened again.

        Raises:
            ReadFailed: the file cannot be read, or holds no number in the counter's range.
        """
        try:
            try:
                text = self._pread()
            except OSError:
                self.close()
                text = self._pread()
        except OSError as error:
            raise ReadFailed(error_name(error)) from error
        # The kernel ends a number with a line break: without it, digits may be missing.
        if not text.endswith(b"\n") or not text.strip().isdigit():
            raise ReadFailed(f"not a number: {text[:40]!r}")
        value, modulus = int(text), self.source.modulus
        if modulus is not None and value >= modulus:
            raise ReadFailed(f"{value} uJ is beyond the counter's range")
        return value

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _pread(self) -> bytes:
        if self._file is None:
            self._file = os.open(str(self.source.path), os.O_RDONLY)
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "replaced")
        return os.pread(self._file, 64, 0)


class RaplMeter:
    """Energy counters of one machine's processors."""

    slow = False

    def __init__(
        self, counters: Sequence[ZoneCounter | EventCounter], *, amd: bool, filtered: bool
    ) -> None:
        self._counters = tuple(counters)
        self.channels = tuple(
            Channel(source=accuracy.rapl(c.source, amd=amd, filtered=filtered), read=c.read)
            for c in self._counters
        )

    def watch(self, pid: int) -> None:
        """Do nothing: the counters cover the whole machine."""

    def close(self) -> None:
        """Close all counters."""
        for counter in self._counters:
            counter.close()


def open_rapl(measurement: MeasurementConfig) -> Opened:
    """Open the zones below `measurement.powercap_root`, and perf events for what they lack.

    The kernel's event sources are two folders above the zones: `/sys/class/powercap` and
    `/sys/bus/event_source`. A zone that belongs to the machine but cannot be read is kept, and
    fails at each reading: without it the sum would be too small and look right. Where nothing can
    be read there is no meter.
    """
    root = Path(measurement.powercap_root)
    sysfs = root.absolute().parent.parent
    amd = _is_amd(sysfs)
    zones, notes = _zones(root, amd=amd)
    failed = _failures(zones)
    zones, mirrored = _without_mirrors(zones, failed)
    notes += mirrored
    readable = [zone.source for zone in zones if zone.source.id not in failed]
    events = list[EventCounter]()
    if failed or not zones:
        events, refused = open_events(
            sysfs, {domain_and_package(source) for source in readable}, amd=amd
        )
        notes += refused
    missing = _missing(zones, failed, readable + [event.source for event in events])
    notes += _unreadable(missing, failed)
    if not readable and not events:
        return Opened(meter=None, notes=tuple(notes))
    if amd:
        notes.append("rapl: AMD's counters follow a model of activity (arXiv 2108.00808)")
    filtered = energy_filter(sysfs.parent) == "on"
    if filtered:
        notes.append("rapl: Intel's energy filter is on (SGX, or a register): intervals are wider")
    kept = [zone for zone in zones if zone.source in readable or zone in missing]
    meter = RaplMeter([*kept, *events], amd=amd, filtered=filtered)
    return Opened(meter=meter, notes=tuple(notes))


def _zones(root: Path, *, amd: bool) -> tuple[list[ZoneCounter], list[str]]:
    zones, notes = list[ZoneCounter](), list[str]()
    names, why = [], "this machine has none, or a container or virtual machine hides them"
    try:
        names = sorted(filter(_ZONE.fullmatch, os.listdir(root)))
    except FileNotFoundError:
        pass
    except OSError as error:
        why = str(error)
    if not names:
        notes.append(f"rapl: no zones below measurement.powercap_root={root}: {why}")
    for name in names:
        top = ":".join(name.split(":")[:2])
        try:
            label, parent = text_of(root / name / "name"), text_of(root / top / "name")
        except (OSError, ValueError) as error:
            notes.append(f"rapl: {root / name} is left out: what it covers is unknown: {error}")
            continue
        # AMD has a register per core, and powercap reads that of one core in each package.
        if label == "core" and amd:
            continue
        modulus, why_none = _modulus(root / name / "max_energy_range_uj")
        if modulus is None:
            notes.append(
                f"rapl: {root / name} may wrap at an unknown value, as {why_none}: a window in"
                " which it wraps is invalid"
            )
        zones.append(ZoneCounter(_source(root / name, label, parent, modulus)))
    return zones, notes


def _modulus(file: Path) -> tuple[int | None, str]:
    """At which value a zone's counter returns to zero; or None, and why that is unknown."""
    try:
        text = text_of(file)
        largest = int(text)
    except OSError as error:
        return None, f"{file.name} cannot be read ({error_name(error)})"
    except ValueError:
        return None, f"{file.name} is {text[:40]!r}"
    return (largest + 1, "") if largest > 0 else (None, f"{file.name} is {largest}")


def _source(folder: Path, name: str, parent: str, modulus: int | None) -> Source:
    domain = next((domain for start, domain in _DOMAINS.items() if name.startswith(start)), name)
    return Source(
        id=f"rapl/{folder.name}",
        kind="counter",
        domain=domain,
        unit="uJ",
        modulus=modulus,
        update_period_ns=UPDATE_PERIOD_NS,
        max_power_w=MAX_POWER_W,
        device=name if name == parent else f"{parent}/{name}",
        path=str(folder / "energy_uj"),
    )


def _failures(zones: Sequence[ZoneCounter]) -> dict[str, str]:
    """Ids of the zones that cannot be read now, and why."""
    failed = {}
    for zone in zones:
        try:
            zone.read()
        except ReadFailed as error:
            failed[zone.source.id] = str(error)
            zone.close()
    return failed


def _without_mirrors(
    zones: Sequence[ZoneCounter], failed: Collection[str]
) -> tuple[list[ZoneCounter], list[str]]:
    """Take out zones that show the counter of another one with the same name.

    Zones of one name with different counters all stay: `domains.cut` refuses to sum them, because
    they may be parts of a package, or one package through two interfaces of the processor.
    """
    alike: dict[tuple[bool, str | None], list[ZoneCounter]] = defaultdict(list)
    for zone in zones:
        if zone.source.id not in failed:
            alike[_is_mmio(zone.source), zone.source.device].append(zone)
    mirrors = dict[str, str]()
    for group in alike.values():
        if len(group) > 1:
            mirrors |= clones(_watched(group))
    notes = [
        f"rapl: {one} and {other} have one name and show one counter: it is counted once"
        for one, other in mirrors.items()
    ]
    return [zone for zone in zones if zone.source.id not in mirrors], notes


def _is_mmio(source: Source) -> bool:
    return source.id.startswith("rapl/intel-rapl-mmio:")


def _watched(zones: Sequence[ZoneCounter]) -> dict[str, list[int]]:
    """Values of zones that are read in turn for a moment; fewer if a reading fails."""
    values: dict[str, list[int]] = {zone.source.id: [] for zone in zones}
    until = time.monotonic() + _WATCH_S
    with contextlib.suppress(ReadFailed):
        while time.monotonic() < until:
            for zone, value in [(zone, zone.read()) for zone in zones]:
                values[zone.source.id].append(value)
            time.sleep(UPDATE_PERIOD_NS / 4e9)
    return values


def _missing(
    zones: Sequence[ZoneCounter], failed: Collection[str], given: Sequence[Source]
) -> list[ZoneCounter]:
    """The zones that cannot be read and have no substitute: a copy, or perf events.

    A zone's copy is in the other interface; one of its name in its own may be another counter.
    """
    copies = {(source.domain, source.device, not _is_mmio(source)) for source in given}
    packages = {domain_and_package(source) for source in given if source.unit != "uJ"}
    return [
        zone
        for zone in zones
        if zone.source.id in failed
        and (zone.source.domain, zone.source.device, _is_mmio(zone.source)) not in copies
        and domain_and_package(zone.source) not in packages
    ]


def _unreadable(zones: Sequence[ZoneCounter], failed: Mapping[str, str]) -> list[str]:
    """One note per reason."""
    paths: dict[str, list[str]] = defaultdict(list)
    for zone in zones:
        paths[failed[zone.source.id]].append(str(zone.source.path))
    return [
        f"rapl: {', '.join(files)} cannot be read ({why})"
        + (f": {REMEDY}" if why in ("EACCES", "EPERM") else "")
        for why, files in paths.items()
    ]


def _is_amd(sysfs: Path) -> bool:
    file = sysfs / "devices/system/cpu/modalias"
    # Kernels for other processors have no such file.
    return file.exists() and bool(_AMD.search(text_of(file)))
