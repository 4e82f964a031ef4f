"""Energy and power sensors of Linux hwmon: GPUs, ARM servers, Jetson, power meters of servers.

Each device has a folder `hwmonN` with a file `name`; counters are in uJ, powers in uW, voltages in
mV and currents in mA (https://docs.kernel.org/hwmon/sysfs-interface.html). `hwmon_drivers.py` says
what the sensors of a driver cover; of all others, a note gives the reason why they are not used.

N depends on the order in which drivers were loaded, so that sources are named after the driver and
the device's address.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.meters.hwmon_drivers import PREFIX, Part, Sensor, classify
from slm_energy.meters.rapl_perf import error_name
from slm_energy.record import Source

UPDATE_PERIOD_NS = 100_000_000
"""Assumed for GPUs and Jetson until it is measured: no driver documents its own."""

SLOW_PERIOD_NS = 1_000_000_000
"""Assumed for what is read from a service processor or a power supply."""

INA3221_GAIN_PCT = 1.25
"""0.25 % of the chip (Texas Instruments SBOS576) and 1 % of Jetson's shunts (DG-09840-001)."""

MAX_POWER_W = {"gpu": 4000.0, "machine": 20_000.0}
"""More than any device of these domains draws; only rules out nonsense."""

_MAX_PROCESSOR_W = 2000.0
_AVERAGING_NS = 1_000_000_000
"""AMD does not say what `power1_average` is averaged over: a second is assumed."""

_QUICK_S = 0.005
_ABSENT = {"ENODATA", "EOPNOTSUPP", "EINVAL"}
"""Errors of a sensor that a device does not have, although its file exists. A lost device has
others (ENODEV, ENXIO, EIO): its sensor is kept, and fails at each reading."""

# On PCIe, or I2C of the module itself.
_QUICK_DRIVERS = ("xe", "i915", "amdgpu", "amdgpu APU", "ina3221")
_CHANNEL = re.compile(r"(energy\d+)_input|(power\d+)_(?:average|input)|in([123])_input")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Chip:
    """One `hwmonN`: the folder of its files, the driver's name with a variant, the address."""

    folder: Path
    driver: str
    address: str


class HwmonMeter:
    """The sensors of this machine that are used.

    Attributes:
        slow: a reading took longer than a few milliseconds when the meter was opened, and not by
            chance: service processors and power supplies answer over slow buses.
    """

    def __init__(self, channels: Sequence[Channel], *, slow: bool) -> None:
        self.channels = tuple(channels)
        self.slow = slow

    def watch(self, pid: int) -> None:
        """Do nothing: the sensors cover whole devices."""

    def close(self) -> None:
        """Nothing is held: each reading opens its file."""


def open_hwmon(measurement: MeasurementConfig) -> Opened:
    """Find the sensors below `measurement.hwmon_root`, and what each covers.

    A sensor that the device has but that cannot be read is kept, and fails at each reading: without
    it the sum would be too small and look right. Where nothing can be read there is no meter.
    """
    found = _sensors(Path(measurement.hwmon_root))
    channels, errors, slow = list[Channel](), list[str | None](), False
    unused, notes = defaultdict[str, list[str]](list), list[str]()
    for sensor, verdict in classify(list(found)):
        chip, paths = found[sensor]
        name = f"{sensor.driver} {sensor.address} {sensor.label}"
        began_s = time.monotonic()
        error = _failure(paths) if isinstance(verdict, Part) else None
        took_s = time.monotonic() - began_s
        slow |= took_s > _QUICK_S and chip.driver not in _QUICK_DRIVERS
        if isinstance(verdict, str):
            unused[verdict].append(name)
        elif error in _ABSENT:
            unused[f"the device does not have it ({error})"].append(name)
        else:
            if error is not None:
                notes.append(f"hwmon: {name} cannot be read ({error}){_remedy(error, paths)}")
            source = _source(chip, sensor, verdict, paths)
            channels.append(Channel(source=source, read=partial(_product, paths)))
            errors.append(error)
    notes += [f"hwmon: not used: {', '.join(names)}: {why}" for why, names in unused.items()]
    readable = None in errors
    return Opened(meter=HwmonMeter(channels, slow=slow) if readable else None, notes=tuple(notes))


def _sensors(root: Path) -> dict[Sensor, tuple[_Chip, list[Path]]]:
    """All energy and power sensors, with their device and files; unconnected rails are left out."""
    found = {}
    for chip in _chips(root):
        for channel, paths in _channels(chip).items():
            label = _label(chip, channel)
            sensor = Sensor(driver=chip.driver, address=chip.address, channel=channel, label=label)
            if label != "NC":
                found[sensor] = (chip, paths)
    return found


def _chips(root: Path) -> list[_Chip]:
    """All devices in the order of their addresses; the folder may be absent, as in a container."""
    chips = []
    for name in root.glob("hwmon*/name"):
        device = name.parent / "device"
        # The files of ACPI's power meters are those of the device, on older kernels.
        inner = not any(_CHANNEL.fullmatch(file.name) for file in name.parent.iterdir())
        folder = device if inner and device.is_dir() else name.parent
        address = device.resolve().name if device.exists() else name.parent.name
        driver = _text(name) or "without a name"
        variant = _variant(driver, folder)
        chips.append(_Chip(folder=folder, driver=f"{driver} {variant}".strip(), address=address))
    return sorted(chips, key=lambda chip: (chip.driver, chip.address))


def _variant(driver: str, folder: Path) -> str:
    """What distinguishes devices of one driver that cover different things."""
    # Only processors with graphics have the voltage of a northbridge (amdgpu_pm.c).
    if driver == "amdgpu" and (folder / "in1_input").exists():
        return "APU"
    if driver == "power_meter":
        if _text(folder / "power1_is_battery") == "1":
            return "battery"
        measured = [link.name for link in folder.glob("measures/*")]
        if any(not name.startswith("LNXSYBUS") for name in measured):
            return "part"
    return ""


def _channels(chip: _Chip) -> dict[str, list[Path]]:
    """The files of each energy or power channel; power is preferred as an average.

    INA3221 has voltage and current in two files, whose product is in uW.
    """
    channels: dict[str, list[Path]] = {}
    for file in sorted(chip.folder.iterdir()):
        match = _CHANNEL.fullmatch(file.name)
        if match is None:
            continue
        energy, power, rail = match.groups()
        if rail:
            current = chip.folder / f"curr{rail}_input"
            if chip.driver == "ina3221" and current.exists():
                channels[f"rail{rail}"] = [file, current]
        else:
            channels.setdefault(energy or power, [file])
    return channels


def _label(chip: _Chip, channel: str) -> str:
    stem = channel.replace("rail", "in")
    label = _text(chip.folder / f"{stem}_label") or _text(chip.folder / f"{stem}_oem_info")
    return label or channel


def _source(chip: _Chip, sensor: Sensor, part: Part, paths: Sequence[Path]) -> Source:
    assert part.domain is not None
    counts = sensor.channel.startswith("energy")
    period_ns = UPDATE_PERIOD_NS if chip.driver in _QUICK_DRIVERS else SLOW_PERIOD_NS
    interval = f"{sensor.channel}_average_interval"
    interval_ns = _milliseconds(chip.folder / interval) or _milliseconds(
        chip.folder / "update_interval"
    )
    period_ns = interval_ns or period_ns
    averaging_ns = period_ns
    if chip.driver.startswith("amdgpu"):
        averaging_ns = _AVERAGING_NS if paths[0].name.endswith("_average") else 0
    return Source(
        id=f"{PREFIX}{sensor.driver.replace(' ', '_')}/{sensor.address}/{sensor.channel}",
        kind="counter" if counts else "power",
        domain=part.domain,
        unit="uJ" if counts else "uW",
        update_period_ns=period_ns,
        averaging_ns=0 if counts else averaging_ns,
        gain_pct=_gain_pct(chip, sensor.channel),
        max_power_w=MAX_POWER_W.get(part.domain, _MAX_PROCESSOR_W),
        device=f"{sensor.address} {sensor.label}",
        path=f"{', '.join(map(str, paths))}: {part.covers}",
    )


def _gain_pct(chip: _Chip, channel: str) -> float:
    """Accuracy that the device states, `99.500%` (ACPI, in thousandths), or 0 if unknown."""
    if chip.driver == "ina3221":
        return INA3221_GAIN_PCT
    stated = re.fullmatch(r"(\d+)\.(\d+)%", _text(chip.folder / f"{channel}_accuracy"))
    return max(0.0, 100 - int(stated[1]) - int(stated[2]) / 1000) if stated else 0.0


def _product(paths: Sequence[Path]) -> int:
    """The value of a sensor, or the product of voltage and current.

    Raises:
        ReadFailed: a file cannot be read, or holds no number.
    """
    value = 1
    for path in paths:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ReadFailed(error_name(error)) from error
        # The kernel ends a number with a line break: without it, digits may be missing.
        if not text.endswith(b"\n") or not text.strip().isdigit():
            raise ReadFailed(f"not a number: {text[:40]!r}")
        value *= int(text)
    return value


def _failure(paths: Sequence[Path]) -> str | None:
    try:
        _product(paths)
    except ReadFailed as failed:
        return str(failed)
    return None


def _remedy(why_not: str, paths: Sequence[Path]) -> str:
    denied = why_not in (errno.errorcode[errno.EACCES], errno.errorcode[errno.EPERM])
    return f": sudo chmod a+r {' '.join(map(str, paths))} (until reboot)" if denied else ""


def _milliseconds(path: Path) -> int | None:
    text = _text(path)
    return int(text) * 1_000_000 if text.isdigit() and int(text) else None


def _text(path: Path) -> str:
    """Content of a file; empty where it is absent or unreadable, as many are optional."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
