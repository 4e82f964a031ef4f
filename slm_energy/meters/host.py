"""How busy and how disturbed the machine and the worker are. Gauges: no joules.

Names and units are those of MLflow's System metrics where it has them. Megabytes are 10^6 bytes.
A share of time is relative to the time since the gauge's last reading.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.base import Channel, Opened, ReadFailed, guarded
from slm_energy.meters.host_cpu import Governor, Temperature, Throttling
from slm_energy.meters.process_tree import ProcessTree
from slm_energy.record import Source, Unit

SYSFS = Path("/sys/devices/system/cpu")
HWMON = Path("/sys/class/hwmon")

_UPDATE_NS = 250_000_000
_SLOW_NS = 1_000_000_000
_SHORTEST_S = 0.05
"""Processor time is counted in steps of 10 ms: over less than this a share is meaningless."""

_FAILURES = (psutil.Error, OSError, ValueError)
"""The worker has exited, a file cannot be read, or it holds no number."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Times:
    """Processor seconds of the machine since boot: in total, used, stolen by the hypervisor."""

    all_s: float
    used_s: float
    stolen_s: float


class HostMeter:
    """Utilization of the machine and of the worker with its child processes; what disturbs them.

    Six gauges, and those of stolen time, clock, throttling, temperature and governor where the
    kernel has them. Those of the worker fail once it has exited; a share of time fails where there
    is no earlier reading to compare with.

    Args:
        sysfs: the kernel's folder about processors.
        hwmon: its folder of sensors.
    """

    slow = False

    def __init__(self, sysfs: Path = SYSFS, hwmon: Path = HWMON) -> None:
        self._throttling, self._governor = Throttling(sysfs), Governor(sysfs)
        self._temperature = Temperature(hwmon)
        files, memory = str(sysfs), psutil.virtual_memory
        channels = [
            _gauge("cpu_utilization_percentage", "pct", _UPDATE_NS, self._machine_cpu),
            _gauge("system_memory_usage_megabytes", "MB", _UPDATE_NS, lambda: memory().used / 1e6),
            _gauge("system_memory_usage_percentage", "pct", _SLOW_NS, lambda: memory().percent),
            _gauge("process_cpu_percentage", "pct", _UPDATE_NS, self._process_cpu),
            _gauge("process_memory_megabytes", "MB", _UPDATE_NS, self._process_memory),
            _gauge("foreign_cpu_percentage", "pct", _SLOW_NS, self._foreign_cpu),
        ]
        if hasattr(psutil.cpu_times(), "steal"):
            channels.append(_gauge("cpu_steal_percentage", "pct", _SLOW_NS, self._steal))
        if psutil.cpu_freq() is not None:
            channels.append(_gauge("cpu_frequency_megahertz", "MHz", _SLOW_NS, self._frequency))
        if self._throttling:
            read = self._throttled
            channels.append(_gauge("cpu_throttled_percentage", "pct", _SLOW_NS, read, path=files))
        if self._temperature:
            read, path = self._temperature.celsius, str(hwmon)
            channels.append(_gauge("cpu_temperature_celsius", "C", _SLOW_NS, read, path=path))
        if self._governor:
            read = self._changed
            channels.append(_gauge("cpu_governor_changes", "count", _SLOW_NS, read, path=files))
        self.channels = tuple(channels)
        self._sampler = psutil.Process()
        self._roots: tuple[int, ...] = ()
        self._trial: ProcessTree | None = None
        self._last: dict[str, tuple[float, ...]] = {}
        self._settings: tuple[bytes, ...] | None = None
        self._changes = 0

    def watch(self, pid: int) -> None:
        """From now on the trial is `pid` and its descendants; earlier changes no longer count."""
        self._follow(pid)
        self._settings, self._changes = None, 0

    def adopt(self, pid: int) -> None:
        """`pid` and its descendants belong to the trial too; each share of time begins anew."""
        self._follow(*self._roots, pid)

    def _follow(self, *roots: int) -> None:
        self._roots = roots
        try:
            self._trial = ProcessTree(*roots)
        except psutil.NoSuchProcess:
            self._trial = None
        # Without this, the time that a server used before it was adopted would count as new.
        self._last = {}

    def close(self) -> None:
        """Nothing is held."""

    def _since(self, gauge: str, *now: float) -> list[float]:
        """By how much each value grew since this gauge's last reading; the first is time, in s.

        Raises:
            ReadFailed: there was none, or it was too recent.
        """
        last = self._last.get(gauge)
        if last is not None and now[0] - last[0] < _SHORTEST_S:
            raise ReadFailed("too soon after the last reading")
        self._last[gauge] = now
        if last is None:
            raise ReadFailed("no earlier reading to compare with")
        return [new - old for new, old in zip(now, last, strict=True)]

    def _machine_cpu(self) -> float:
        """Share of all processors that was not idle; 100 means all of them."""
        now = _times()
        all_s, used_s = self._since("machine", now.all_s, now.used_s + now.stolen_s)
        return _share(used_s, all_s)

    def _foreign_cpu(self) -> float:
        """Processor time of all but the trial and this process, in percent of all processors.

        That is the machine's user, nice, system and interrupt time, less the user and system time
        of the worker's tree and of the sampler; without idle time, waiting for a disk and stolen
        time. In a container it is the host's: other containers use the same power.
        """
        now = _times()
        own = sum(self._sampler.cpu_times()[:4])
        all_s, used_s, own_s, trial_s = self._since(
            "foreign", now.all_s, now.used_s, own, self._tree().cpu_s()
        )
        return _share(used_s - own_s - _known(trial_s), all_s)

    def _steal(self) -> float:
        """Time in which the hypervisor ran another machine on a processor that this one needed."""
        now = _times()
        all_s, stolen_s = self._since("steal", now.all_s, now.stolen_s)
        return _share(stolen_s, all_s)

    def _process_cpu(self) -> float:
        """Processor time of the tree over wall time; 100 is one core."""
        wall_s, used_s = self._since("process", time.monotonic(), self._tree().cpu_s())
        return 100 * _known(used_s) / wall_s

    def _process_memory(self) -> float:
        return self._tree().resident_mb()

    def _frequency(self) -> float:
        return float(psutil.cpu_freq().current)

    def _throttled(self) -> float:
        """Share of time in which the most throttled core or package was slowed down."""
        wall_s, *parts_s = self._since("throttled", time.monotonic(), *self._throttling.seconds())
        return _share(max(parts_s), wall_s)

    def _changed(self) -> float:
        """How often the settings changed between two readings since the trial began."""
        settings = self._governor.settings()
        self._changes += self._settings not in (None, settings)
        self._settings = settings
        return self._changes

    def _tree(self) -> ProcessTree:
        if self._trial is None:
            raise ReadFailed("the worker or its server has exited")
        return self._trial


def open_host(measurement: MeasurementConfig) -> Opened:
    """Open the gauges; every machine has them."""
    return Opened(meter=HostMeter(hwmon=Path(measurement.hwmon_root)))


def _times() -> _Times:
    times = psutil.cpu_times()
    # On Linux, guest time is part of user and nice time.
    all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle_s, stolen_s = times.idle + getattr(times, "iowait", 0.0), getattr(times, "steal", 0.0)
    return _Times(all_s=all_s, used_s=all_s - idle_s - stolen_s, stolen_s=stolen_s)


def _share(part_s: float, whole_s: float) -> float:
    """In percent; clamped, as the two counts need not tick together."""
    return min(100.0, max(0.0, 100 * part_s / whole_s))


def _known(trial_s: float) -> float:
    if trial_s < 0:
        raise ReadFailed("a process of the trial ended and was not waited for: its time is lost")
    return trial_s


def _gauge(
    name: str, unit: Unit, period_ns: int, read: Callable[[], float], *, path: str = "psutil"
) -> Channel:
    source = Source(
        id=name,
        kind="gauge",
        domain=name.rpartition("_")[0],
        unit=unit,
        update_period_ns=period_ns,
        path=path,
    )
    return Channel(source=source, read=guarded(read, _FAILURES, _describe))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
