"""The processor's temperature, thermal throttling and the governor's settings.

Files below /sys/devices/system/cpu and /sys/class/hwmon; a virtual machine or a container often has
none of them. See https://docs.kernel.org/admin-guide/pm/cpufreq.html,
https://docs.kernel.org/hwmon/sysfs-interface.html and, for thermal_throttle,
https://docs.kernel.org/admin-guide/abi-testing.html
"""

from __future__ import annotations

from pathlib import Path

_SETTINGS = (
    *("cpufreq/policy*/scaling_governor", "cpufreq/policy*/energy_performance_preference"),
    *("cpufreq/boost", "intel_pstate/no_turbo"),
)


_DRIVERS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Drivers of the processor's own sensors: Intel, AMD (two of them), ARM boards."""


class Temperature:
    """The processor's sensors.

    Args:
        root: `/sys/class/hwmon`.
    """

    def __init__(self, root: Path) -> None:
        self._files = [
            file
            for name in sorted(root.glob("hwmon*/name"))
            if name.read_text().strip() in _DRIVERS
            for file in sorted(name.parent.glob("temp*_input"))
        ]

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._files)

    def celsius(self) -> float:
        """Temperature of the hottest sensor.

        Raises:
            OSError: a sensor cannot be read.
            ValueError: it gives no number.
        """
        return max(int(file.read_bytes()) for file in self._files) / 1e3


class Throttling:
    """How long parts of the processor have been throttled by heat since boot.

    Args:
        root: `/sys/devices/system/cpu`.
    """

    def __init__(self, root: Path) -> None:
        parts: dict[tuple[str, ...], Path] = {}
        for cpu in sorted(root.glob("cpu[0-9]*")):
            if not (cpu / "topology/core_id").exists():
                continue  # It is offline.
            # All processors of a core, or of a package, show the same count.
            package = (cpu / "topology/physical_package_id").read_text()
            core = (cpu / "topology/core_id").read_text()
            folder = cpu / "thermal_throttle"
            parts.setdefault((package,), folder / "package_throttle_total_time_ms")
            parts.setdefault((package, core), folder / "core_throttle_total_time_ms")
        self._files = [file for file in parts.values() if file.exists()]

    def __bool__(self) -> bool:
        """Whether the kernel counts it here."""
        return bool(self._files)

    def seconds(self) -> tuple[float, ...]:
        """Seconds of throttling of each package and core.

        Raises:
            OSError: a count cannot be read.
            ValueError: it is not a number.
        """
        return tuple(int(file.read_bytes()) / 1e3 for file in self._files)


class Governor:
    """Settings that determine the processor's clock: governors, energy preferences, turbo.

    Args:
        root: `/sys/devices/system/cpu`.
    """

    def __init__(self, root: Path) -> None:
        self._files = [file for pattern in _SETTINGS for file in sorted(root.glob(pattern))]

    def __bool__(self) -> bool:
        """Whether this machine has any."""
        return bool(self._files)

    def settings(self) -> tuple[bytes, ...]:
        """The current settings.

        Raises:
            OSError: one cannot be read.
        """
        return tuple(file.read_bytes() for file in self._files)
