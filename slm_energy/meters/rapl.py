"""CPU and memory energy counters of Intel and AMD processors (RAPL) through Linux powercap.

Domains overlap: psys contains the package, the package contains core and uncore; memory is counted
apart. What is summed is a disjoint cut: packages and memory, or psys where there is nothing else.
The tree can show one package twice (`intel-rapl` reads registers, `intel-rapl-mmio` reads memory):
the copy is never summed. See https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from slm_energy.config import MeasurementConfig
from slm_energy.meters.base import Opened, ReadFailed
from slm_energy.record import Source

UPDATE_PERIOD_NS = 1_000_000
"""RAPL counters are renewed about once a millisecond (Khan et al., RAPL in Action, 2018)."""

MAX_POWER_W = 2000.0
"""Above what any socket or board draws; only tells a counter's wrap from its reset."""

REMEDY = (
    "sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj (until reboot), or for good the udev"
    ' rule SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
)

_ZONE = re.compile(r"intel-rapl(-mmio)?:\d+(:\d+)*")
_DOMAINS = {"core": "cpu_core", "uncore": "cpu_uncore", "dram": "dram", "psys": "psys"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Zone:
    folder: Path
    name: str
    parent: str
    modulus: int

    @property
    def domain(self) -> str:
        return (
            "cpu_package" if self.name.startswith("package") else _DOMAINS.get(self.name, self.name)
        )

    @property
    def copied(self) -> bool:
        return self.folder.name.startswith("intel-rapl-mmio")

    @property
    def device(self) -> str:
        return f"{self.parent}/{self.name}" if self.parent else self.name


class RaplMeter:
    """Energy counters of one powercap tree."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self._files: list[int | None] = [None] * len(sources)

    @property
    def sources(self) -> tuple[Source, ...]:
        """One source per zone."""
        return self._sources

    def watch(self, pid: int) -> None:
        """The counters are of the whole machine."""

    def read(self, index: int) -> int:
        """Read a counter in uJ; a file that was replaced meanwhile is opened once more.

        Raises:
            ReadFailed: the file cannot be read, or holds no number.
        """
        try:
            try:
                text = self._pread(index)
            except OSError:
                self._forget(index)
                text = self._pread(index)
        except OSError as error:
            raise ReadFailed(errno.errorcode.get(error.errno or 0, str(error))) from error
        if not text.strip().isdigit():
            raise ReadFailed(f"not a number: {text[:40]!r}")
        return int(text)

    def close(self) -> None:
        """Close the files."""
        for index in range(len(self._files)):
            self._forget(index)

    def _pread(self, index: int) -> bytes:
        file = self._files[index]
        if file is None:
            file = os.open(str(self._sources[index].path), os.O_RDONLY)
            self._files[index] = file
        if os.fstat(file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "replaced")
        return os.pread(file, 64, 0)

    def _forget(self, index: int) -> None:
        file, self._files[index] = self._files[index], None
        if file is not None:
            os.close(file)


def open_rapl(measurement: MeasurementConfig) -> Opened:
    """Find the zones below `measurement.powercap_root`.

    A zone that belongs to the sum but cannot be read stays in, and fails at each reading: without
    it the sum would be too small and look right.
    """
    root = Path(measurement.powercap_root)
    zones, notes = _zones(root)
    cut = {zone.folder for zone in _disjoint(zones)}
    if not cut:
        none = f"rapl: no package, memory or psys below measurement.powercap_root={root}"
        why = "this machine has none, or a container or virtual machine hides it"
        return Opened(meter=None, notes=(*notes, f"{none}: {why}"))
    meter = RaplMeter([_source(zone, zone.folder in cut) for zone in zones])
    readable = False
    for index, source in enumerate(meter.sources):
        try:
            meter.read(index)
            readable |= source.summed
        except ReadFailed as error:
            remedy = f": {REMEDY}" if str(error) in ("EACCES", "EPERM") else ""
            notes.append(f"rapl: {source.path} is not readable ({error}){remedy}")
    if not readable:
        meter.close()
        return Opened(meter=None, notes=tuple(notes))
    return Opened(meter=meter, notes=tuple(notes))


def _zones(root: Path) -> tuple[list[_Zone], list[str]]:
    zones, notes = [], []
    try:
        names = sorted(entry for entry in os.listdir(root) if _ZONE.fullmatch(entry))
    except OSError:
        return [], []
    for name in names:
        folder = root / name
        top = root / ":".join(name.split(":")[:2])
        try:
            zone = _Zone(
                folder=folder,
                name=_text(folder / "name"),
                parent=_text(top / "name") if top != folder else "",
                modulus=int(_text(folder / "max_energy_range_uj")) + 1,
            )
        except (OSError, ValueError) as error:
            notes.append(f"rapl: {folder} is left out: {error}")
            continue
        zones.append(zone)
    return zones, notes


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _disjoint(zones: Sequence[_Zone]) -> list[_Zone]:
    """Packages and memory without copies; psys only where there is no package."""
    cut: dict[str, _Zone] = {}
    for zone in sorted(zones, key=lambda zone: zone.copied):
        if zone.domain in ("cpu_package", "dram"):
            cut.setdefault(zone.device, zone)
    if not any(zone.domain == "cpu_package" for zone in cut.values()):
        return [zone for zone in zones if zone.domain == "psys"][:1] or list(cut.values())
    return list(cut.values())


def _source(zone: _Zone, summed: bool) -> Source:
    return Source(
        id=f"rapl/{zone.folder.name}",
        kind="counter",
        domain=zone.domain,
        unit="uJ",
        modulus=zone.modulus,
        update_period_ns=UPDATE_PERIOD_NS,
        max_power_w=MAX_POWER_W,
        summed=summed,
        device=zone.device,
        path=str(zone.folder / "energy_uj"),
    )
