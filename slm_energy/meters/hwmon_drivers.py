"""What the energy and power sensors of each Linux hwmon driver cover. Pure: a table, and its use.

A driver's sensors overlap (a card and its processor, a board and its rails), so each driver has
sets of labels, best first: the first set that is complete is used, and what is left over is a part
of it. Only what a driver's documentation states is used; all other sensors are named with the
reason. Sources: https://docs.kernel.org/hwmon/, the kernel's drivers, and those in the table.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from slm_energy.record import Source

PREFIX = "hwmon/"
"""How the ids of hwmon's sources begin."""

_APPROXIMATION = "it estimates power from the processor's activity"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sensor:
    """One energy or power sensor of one device.

    Attributes:
        driver: content of the file `name`; with a variant behind it, see `DRIVERS`.
        address: of the device on its bus, such as a PCI address.
        channel: `energy1`, `power1`, or `rail1` for the product of a voltage and a current.
        label: the channel's label; its name if it has none.
    """

    driver: str
    address: str
    channel: str
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a sensor covers.

    Attributes:
        label: a regular expression for the sensor's label.
        domain: its domain; None if it is not used.
        covers: what it measures, in words; of a sensor that is not used, the reason.
        alone: it is used only if no other sensor of the machine matches.
    """

    label: str
    domain: str | None
    covers: str
    alone: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The sensors of one driver.

    Attributes:
        devices: what it is for.
        choices: sets of parts; see the module's docstring.
        spans: a set may be spread over several devices of the driver.
        additive: all complete sets are used, because they do not overlap.
    """

    devices: str
    choices: tuple[tuple[Part, ...], ...]
    spans: bool = False
    additive: bool = False


def _rails(covers: str, *labels: str) -> tuple[Part, ...]:
    return tuple(Part(label=label, domain="machine", covers=covers) for label in labels)


_MODULE = "the Jetson module, without the carrier board"
_RAIL = "a supply rail of the Jetson module; together they are the module without carrier board"
_SUPPLY = "input of a power supply"

DRIVERS: dict[str, Driver] = {
    # Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon; labels: drivers/gpu/drm/xe/xe_hwmon.c.
    # Battlemage has both counters, Alchemist and Ponte Vecchio only the second.
    "xe": Driver(
        devices="Intel Arc and Data Center GPU Max",
        choices=(
            (Part(label="card", domain="gpu", covers="the whole card"),),
            (Part(label="pkg", domain="gpu", covers="the GPU's package, without the card's rest"),),
        ),
    ),
    # Documentation/ABI/testing/sysfs-driver-intel-i915-hwmon. Integrated GPUs have no hwmon.
    "i915": Driver(
        devices="Intel Arc and Data Center GPU Flex (older kernels)",
        choices=((Part(label="energy1", domain="gpu", covers="the entire device"),),),
    ),
    # drivers/gpu/drm/amd/pm/amdgpu_pm.c: "power used by the SoC. On APUs this includes the CPU".
    "amdgpu": Driver(
        devices="AMD GPUs, where AMD SMI is not available",
        choices=((Part(label=".*", domain="gpu", covers="the GPU's package"),),),
    ),
    "amdgpu APU": Driver(
        devices="AMD processors with graphics, where RAPL is not readable",
        choices=((Part(label=".*", domain="cpu_package", covers="processor and graphics"),),),
    ),
    # https://docs.nvidia.com/grace-perf-tuning-guide/power-thermals.html, Power Telemetry. Others:
    # Documentation/hwmon/acpi_power_meter.rst, and ACPI 6.5, section 10.4.
    "power_meter": Driver(
        devices="NVIDIA Grace; power meters of servers (ACPI)",
        additive=True,
        choices=(
            (
                Part(
                    label=r"Grace Power Socket \d+",
                    domain="cpu_package",
                    covers="processor and its memory, with their regulators",
                ),
            ),
            (
                Part(
                    label=r"CPU Power Socket \d+", domain="cpu_core", covers="the processor's rail"
                ),
            ),
            (Part(label=r"SysIO Power Socket \d+", domain="cpu_uncore", covers="the SoC's rail"),),
            (
                Part(
                    label=r"Module Power Socket \d+",
                    domain=None,
                    covers="it has processor and GPU in one figure, and both are metered apart",
                ),
            ),
            (Part(label="power1", domain="machine", covers="the whole machine", alone=True),),
        ),
    ),
    "power_meter battery": Driver(
        devices="batteries with an ACPI power meter",
        choices=((Part(label=".*", domain=None, covers="it measures a battery"),),),
    ),
    "power_meter part": Driver(
        devices="ACPI power meters of named devices",
        choices=((Part(label=".*", domain=None, covers="it measures some of the devices only"),),),
    ),
    # Documentation/hwmon/ina3221.rst. The rails are documented in NVIDIA's Jetson Linux Developer
    # Guide ("VDD_IN: total module power") and, for AGX Xavier, in its OEM product design guide
    # DG-09840-001, section 5.6.2: the supplies of SYS_VIN_HV, and SYS_VIN_MV.
    "ina3221": Driver(
        devices="NVIDIA Jetson",
        spans=True,
        choices=(
            _rails(_MODULE, "VDD_IN"),
            _rails("the whole Jetson Nano", "POM_5V_IN"),
            _rails(_RAIL, "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
            _rails(_RAIL, "GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        ),
    ),
    # Documentation/hwmon/xgene-hwmon.rst, drivers/hwmon/xgene-hwmon.c
    "apm_xgene": Driver(
        devices="Ampere eMAG and X-Gene",
        choices=(
            (
                Part(label="CPU power", domain="cpu_package", covers="the processor modules"),
                Part(label="IO power", domain="cpu_package", covers="the rest of the SoC"),
            ),
        ),
    ),
    # Documentation/hwmon/smpro-hwmon.rst, drivers/hwmon/smpro-hwmon.c
    "smpro_hwmon": Driver(
        devices="Ampere Altra",
        choices=(
            (
                Part(label=r"power1 CORE VRD", domain="cpu_package", covers="regulator of cores"),
                Part(label=r"power2 SoC", domain="cpu_package", covers="regulator of the SoC"),
                Part(label=r"power3 DIMM VRD1", domain="dram", covers="regulator of memory"),
                Part(label=r"power4 DIMM VRD2", domain="dram", covers="regulator of memory"),
                Part(label=r"power5 RCA VRD", domain="cpu_package", covers="regulator of PCIe"),
            ),
        ),
    ),
    # Documentation/hwmon/corsair-psu.rst and dps920ab.rst
    "corsairpsu": Driver(
        devices="Corsair power supplies",
        choices=(
            (Part(label="power total", domain="machine", covers="output of the power supply"),),
        ),
    ),
    "dps920ab": Driver(
        devices="Delta power supplies",
        choices=((Part(label="pin", domain="machine", covers=_SUPPLY),),),
    ),
    **{
        name: Driver(devices=devices, choices=((Part(label=".*", domain=None, covers=reason),),))
        for name, devices, reason in (
            ("i915_gt0", "a tile of an Intel GPU", "it is a part of the card"),
            ("i915_gt1", "a tile of an Intel GPU", "it is a part of the card"),
            ("scpi_sensors", "ARM boards (SCPI)", "its firmware decides what each label means"),
            ("scmi_sensors", "ARM boards (SCMI)", "its firmware decides what each label means"),
            ("amd_energy", "AMD processors", "it shows RAPL's registers, which RAPL's meter reads"),
            ("fam15h_power", "AMD processors", _APPROXIMATION),
        )
    },
}
"""By the content of the file `name`. hwmon.py adds a variant to some names: `amdgpu APU` (a
processor with graphics), `power_meter battery`, `power_meter part` (of the devices it names)."""

Verdict = tuple[Sensor, Part | str]
"""A sensor, and what it covers; or the reason why it is not used."""


def classify(sensors: Sequence[Sensor]) -> list[Verdict]:
    """Decide what each sensor of a machine covers.

    Args:
        sensors: all of them.

    Returns:
        The sensors in their order.
    """
    groups: dict[tuple[str, str], list[Sensor]] = {}
    for sensor in sensors:
        driver = DRIVERS.get(sensor.driver)
        address = "" if driver is None or driver.spans else sensor.address
        groups.setdefault((sensor.driver, address), []).append(sensor)
    verdicts = {
        sensor: verdict
        for (name, _), group in groups.items()
        for sensor, verdict in _within(name, group)
    }
    return [(sensor, _disjoint(sensor, verdicts)) for sensor in sensors]


def _within(name: str, group: Sequence[Sensor]) -> list[Verdict]:
    """The verdicts on sensors of which one set is chosen."""
    driver = DRIVERS.get(name)
    if driver is None:
        reason = "what this driver's sensors cover is not known to this version"
        return [(sensor, reason) for sensor in group]
    used: dict[Sensor, Part] = {}
    for parts in driver.choices:
        found = _matches(parts, group)
        if found is not None:
            used |= found
            if not driver.additive:
                break
    return [
        (sensor, _reason(used[sensor]) if sensor in used else _left_over(driver, used))
        for sensor in group
    ]


def _matches(parts: Sequence[Part], group: Sequence[Sensor]) -> dict[Sensor, Part] | None:
    """The sensors of a set; None if it is not complete."""
    found = dict[Sensor, Part]()
    for part in parts:
        matching = [s for s in group if s not in found and re.fullmatch(part.label, s.label)]
        if not matching:
            return None
        found |= dict.fromkeys(matching[:1], part)
    return found


def _reason(part: Part) -> Part | str:
    return part if part.domain is not None else part.covers


def _left_over(driver: Driver, used: dict[Sensor, Part]) -> str:
    if used and not driver.additive:
        return f"it is a part of {', '.join(sensor.label for sensor in used)}"
    known = "; ".join(", ".join(part.label for part in parts) for parts in driver.choices)
    return f"it is in no complete set of labels that this version knows ({known})"


def _disjoint(sensor: Sensor, verdicts: dict[Sensor, Part | str]) -> Part | str:
    """The verdict on a sensor, unless what it covers overlaps with another one's."""
    part = verdicts[sensor]
    if isinstance(part, str) or part.domain != "machine":
        return part
    whole = [s for s, v in verdicts.items() if isinstance(v, Part) and v.domain == "machine"]
    first = min((s.driver for s in whole), key=list(DRIVERS).index)
    if sensor.driver != first:
        return f"{first} covers the machine too"
    equal = sum(verdicts[other] == part for other in whole)
    if part.alone and equal > 1:
        return f"{equal} sensors claim to cover {part.covers}: they may overlap"
    return part


def metered_elsewhere(sources: Sequence[Source]) -> dict[str, str]:
    """The hwmon sources whose energy another meter counts.

    RAPL's packages are preferred to hwmon's. AMD SMI lists all GPUs that the kernel's driver
    drives, so where it works, no AMD GPU is taken from hwmon. No other two of these meters see one
    device: NVIDIA's driver has no hwmon, and Intel's GPUs have no other meter.

    Args:
        sources: of all meters.

    Returns:
        The id of each, and an id of the other meter.
    """
    others = [s for s in sources if s.kind in ("counter", "power") and not s.id.startswith(PREFIX)]
    better: dict[Literal["cpu_package", "gpu"], str] = {}
    for source in others:
        if source.domain == "cpu_package":
            better.setdefault("cpu_package", source.id)
        elif source.id.startswith("amd/"):
            better.setdefault("gpu", source.id)
    return {
        source.id: better[domain]
        for domain, start in (("cpu_package", PREFIX), ("gpu", f"{PREFIX}amdgpu/"))
        if domain in better
        for source in sources
        if source.domain == domain and source.id.startswith(start)
    }
