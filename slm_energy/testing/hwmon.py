"""A hwmon tree in a folder, with sensors that follow waveforms in real time.

    with HwmonTree(tmp_path, intel_arc(constant(120))):
        ...  # measurement.hwmon_root=tmp_path

As on a real machine, `hwmonN/device` is a link to the device, whose name is its address, and the
files of ACPI's power meters are in that device's folder. Files are rewritten in place. The ready
machines have the labels and files that their drivers give them; see `meters/hwmon_drivers.py`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from slm_energy.testing.powercap import UNREADABLE, publish
from slm_energy.testing.waveform import Waveform

Fault = Literal["denied", "missing", "io_error", "empty", "garbage", "negative", "frozen"]
"""Faults of a sensor; see `HwmonTree.set_fault`."""

_RAIL_MV = 5000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeSensor:
    """One sensor.

    Attributes:
        channel: `energy1`, `power1`, or `rail1`: a voltage of 5 V and a current.
        waveform: its power.
        label: content of its label file; None if it has none.
        average_ms: power is the mean over this time, in `powerN_average`; 0: the power of the
            moment, in `powerN_input`.
    """

    channel: str
    waveform: Waveform
    label: str | None = None
    average_ms: int = 0

    @property
    def file(self) -> str:
        """Name of the file that holds its value, or a rail's current."""
        if self.channel.startswith("rail"):
            return f"curr{self.channel.removeprefix('rail')}_input"
        return f"{self.channel}_{'average' if self.average_ms else 'input'}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """One device.

    Attributes:
        driver: content of the file `name`.
        address: of the device on its bus.
        sensors: its sensors.
        files: other files, by name.
    """

    driver: str
    address: str
    sensors: tuple[FakeSensor, ...]
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


def intel_arc(card: Waveform, *, driver: str = "xe") -> tuple[Chip, ...]:
    """A Battlemage card with driver xe: counters of card and package; with i915 one counter."""
    if driver == "i915":
        sensors: tuple[FakeSensor, ...] = (FakeSensor(channel="energy1", waveform=card),)
    else:
        package = card.share(70)
        sensors = (
            FakeSensor(channel="energy1", waveform=card, label="card"),
            FakeSensor(channel="energy2", waveform=package, label="pkg"),
        )
    return (Chip(driver=driver, address="0000:03:00.0", sensors=sensors),)


def amd_gpu(power: Waveform, *, apu: bool = False) -> tuple[Chip, ...]:
    """A Radeon, or a processor with graphics, whose power is averaged over a second."""
    sensor = FakeSensor(channel="power1", waveform=power, label="PPT", average_ms=1000)
    files = {"in0_input": "750"} | ({"in1_input": "700", "in1_label": "vddnb"} if apu else {})
    return (Chip(driver="amdgpu", address="0000:0a:00.0", sensors=(sensor,), files=files),)


def grace(*sockets: Waveform) -> tuple[Chip, ...]:
    """NVIDIA Grace: four ACPI power meters for each socket."""
    meters = (("Module", 160), ("Grace", 100), ("CPU", 60), ("SysIO", 15))
    return tuple(
        acpi_meter(
            power.share(percent),
            address=f"ACPI000D:0{4 * socket + number}",
            label=f"{kind} Power Socket {socket}",
        )
        for socket, power in enumerate(sockets)
        for number, (kind, percent) in enumerate(meters)
    )


def acpi_meter(
    power: Waveform, *, address: str = "ACPI000D:00", label: str = "", battery: bool = False
) -> Chip:
    """An ACPI power meter; without a label it is the whole machine's."""
    sensor = FakeSensor(channel="power1", waveform=power, average_ms=50)
    files = {
        "power1_oem_info": label,
        "power1_is_battery": str(int(battery)),
        "power1_average_interval": "50",
        "power1_accuracy": "99.500%",
    }
    return Chip(driver="power_meter", address=address, sensors=(sensor,), files=files)


def jetson_orin_nano(module: Waveform) -> tuple[Chip, ...]:
    """Jetson Orin Nano or NX: the module's input, and two rails of it."""
    rails = (("VDD_IN", 100), ("VDD_CPU_GPU_CV", 50), ("VDD_SOC", 20))
    return (_ina3221("1-0040", [(label, module.share(share)) for label, share in rails]),)


def jetson_agx_orin(module: Waveform) -> tuple[Chip, ...]:
    """Jetson AGX Orin: three rails that make the module, and on a second chip a part of one."""
    rails = (("VDD_GPU_SOC", 50), ("VDD_CPU_CV", 30), ("VIN_SYS_5V0", 20))
    memory = [("NC", module.share(1)), ("VDDQ_VDD2_1V8AO", module.share(10))]
    return (
        _ina3221("1-0040", [(label, module.share(share)) for label, share in rails]),
        _ina3221("1-0041", memory),
    )


def altra(socket: Waveform) -> tuple[Chip, ...]:
    """Ampere Altra: regulators of cores, SoC, memory and PCIe."""
    rails = (("CORE VRD", 60), ("SoC", 20), ("DIMM VRD1", 8), ("DIMM VRD2", 7), ("RCA VRD", 5))
    sensors = tuple(
        FakeSensor(
            channel=f"power{number}", waveform=socket.share(share), label=f"power{number} {label}"
        )
        for number, (label, share) in enumerate(rails, start=1)
    )
    return (Chip(driver="smpro_hwmon", address="smpro-hwmon.1.auto", sensors=sensors),)


def _ina3221(address: str, rails: Sequence[tuple[str, Waveform]]) -> Chip:
    sensors = tuple(
        FakeSensor(channel=f"rail{number}", waveform=waveform, label=label, average_ms=10)
        for number, (label, waveform) in enumerate(rails, start=1)
    )
    return Chip(driver="ina3221", address=address, sensors=sensors, files={"update_interval": "10"})


class HwmonTree:
    """The tree and the thread that drives it.

    Args:
        root: an existing folder, for `measurement.hwmon_root`.
        chips: the devices; `hwmonN` are numbered in this order.
        period_s: time between updates.
    """

    def __init__(self, root: Path, chips: Sequence[Chip], *, period_s: float = 0.01) -> None:
        self.root = root.absolute()
        self._chips = tuple(chips)
        self._period_s = period_s
        self._faults: dict[Path, Fault] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="hwmon tree")

    def __enter__(self) -> HwmonTree:
        for number, chip in enumerate(self._chips):
            self._build(number, chip)
        self._publish()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def file(self, chip: int, channel: str) -> Path:
        """The file that holds the value of a channel of a device."""
        (sensor,) = [s for s in self._chips[chip].sensors if s.channel == channel]
        return self._folder(chip) / sensor.file

    def set_fault(self, chip: int, channel: str, fault: Fault | None) -> None:
        """Break a sensor, or repair it with None.

        Reading fails, even for root: `denied` (EACCES), `missing` (ENOENT), `io_error` (EIO). The
        text is wrong: `empty`, `garbage`, `negative`. The value is old: `frozen`.
        """
        file = self.file(chip, channel)
        with self._lock:
            if self._faults.pop(file, None) in ("missing", *UNREADABLE):
                file.unlink(missing_ok=True)
            if fault is None:
                return
            self._faults[file] = fault
            if fault in ("missing", *UNREADABLE):
                file.unlink()
            if fault in UNREADABLE:
                file.symlink_to(UNREADABLE[fault])
            elif fault in ("empty", "garbage", "negative"):
                text = {"empty": "", "garbage": "?" * 20 + "\n", "negative": "-1\n"}[fault]
                file.write_text(text)

    def _folder(self, number: int) -> Path:
        chip = self._chips[number]
        inner = chip.driver == "power_meter"
        return self.root / f"hwmon{number}" / ("device" if inner else "")

    def _build(self, number: int, chip: Chip) -> None:
        device = self.root / "devices" / chip.address
        device.mkdir(parents=True)
        top = self.root / f"hwmon{number}"
        top.mkdir()
        (top / "device").symlink_to(device)
        (top / "name").write_text(f"{chip.driver}\n")
        folder = self._folder(number)
        for name, text in chip.files.items():
            (folder / name).write_text(f"{text}\n")
        for sensor in chip.sensors:
            stem = sensor.channel.replace("rail", "in")
            if sensor.label is not None:
                (folder / f"{stem}_label").write_text(f"{sensor.label}\n")
            if stem != sensor.channel:
                (folder / f"{stem}_input").write_text(f"{_RAIL_MV}\n")

    def _drive(self) -> None:
        while not self._stop.wait(self._period_s):
            self._publish()

    def _publish(self) -> None:
        with self._lock:
            now = time.monotonic_ns()
            for number, chip in enumerate(self._chips):
                for sensor in chip.sensors:
                    file = self._folder(number) / sensor.file
                    if file not in self._faults:
                        publish(file, _value(sensor, now))


def _value(sensor: FakeSensor, now: int) -> int:
    """In uJ, uW, or mA of a rail."""
    if sensor.channel.startswith("energy"):
        return sensor.waveform.energy_pj(now) // 10**6
    since = now - sensor.average_ms * 10**6
    power_mw = (
        sensor.waveform.joules(since, now) * 1e6 / sensor.average_ms
        if sensor.average_ms
        else float(sensor.waveform.power_mw(now))
    )
    return round(
        power_mw * 1000 / _RAIL_MV if sensor.channel.startswith("rail") else power_mw * 1000
    )
