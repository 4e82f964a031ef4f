"""How busy the machine and the worker are, through psutil. Gauges: no joules.

Names and units are those of MLflow's System metrics where it has them. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from slm_energy.config import MeasurementConfig
from slm_energy.meters.base import Opened, ReadFailed
from slm_energy.record import Source, Unit

_UPDATE_NS = 250_000_000
_SLOW_NS = 1_000_000_000
_CHILDREN_S = 5.0
_SHORTEST_S = 0.05
"""Processor time is counted in steps of 10 ms: over less than this a share means nothing."""


class HostMeter:
    """Utilization of the machine, and of the worker with its child processes."""

    def __init__(self) -> None:
        table: list[tuple[str, Unit, int, Callable[[], float]]] = [
            ("cpu_utilization_percentage", "pct", _UPDATE_NS, self._machine_cpu),
            ("system_memory_usage_megabytes", "MB", _UPDATE_NS, self._memory_mb),
            ("system_memory_usage_percentage", "pct", _SLOW_NS, self._memory_pct),
            ("process_cpu_percentage", "pct", _UPDATE_NS, self._process_cpu),
            ("process_memory_megabytes", "MB", _UPDATE_NS, self._process_memory),
        ]
        if psutil.cpu_freq() is not None:
            table.append(("cpu_frequency_megahertz", "MHz", _SLOW_NS, self._frequency))
        self._readers = [reader for *_, reader in table]
        self._sources = tuple(_gauge(name, unit, period) for name, unit, period, _ in table)
        self._processes: list[psutil.Process] = []
        self._listed_s = 0.0
        self._last_machine: tuple[float, float] | None = None
        self._last_process: tuple[float, float] | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """Five gauges, and the clock frequency where the kernel tells it."""
        return self._sources

    def watch(self, pid: int) -> None:
        """From now on the process gauges are of `pid` and its children."""
        self._processes = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
        self._listed_s = 0.0
        self._last_machine = self._last_process = None

    def read(self, index: int) -> float:
        """Read one gauge.

        Raises:
            ReadFailed: the worker has gone, or a share of time has no earlier reading to go from.
        """
        try:
            return self._readers[index]()
        except psutil.Error as error:
            raise ReadFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Nothing is held."""

    def _machine_cpu(self) -> float:
        times = psutil.cpu_times()
        # On Linux, guest time is part of user and nice time.
        all_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy_s = all_s - times.idle - getattr(times, "iowait", 0.0)
        last, self._last_machine = self._last_machine, (all_s, busy_s)
        if last is None or all_s - last[0] < _SHORTEST_S:
            raise ReadFailed("no earlier reading to compare with")
        return min(100.0, max(0.0, 100 * (busy_s - last[1]) / (all_s - last[0])))

    def _memory_mb(self) -> float:
        return float(psutil.virtual_memory().used) / 1e6

    def _memory_pct(self) -> float:
        return float(psutil.virtual_memory().percent)

    def _process_cpu(self) -> float:
        """Processor time of the tree over wall time; 100 is one core."""
        now = time.monotonic()
        used = 0.0
        for process in self._tree(now):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
        last, self._last_process = self._last_process, (now, used)
        if last is None or now - last[0] < _SHORTEST_S:
            raise ReadFailed("no earlier reading to compare with")
        # A child that ended moves its time to its parent only when that waits for it.
        return max(0.0, 100 * (used - last[1]) / (now - last[0]))

    def _process_memory(self) -> float:
        return sum(float(p.memory_info().rss) for p in self._tree(time.monotonic())) / 1e6

    def _frequency(self) -> float:
        return float(psutil.cpu_freq().current)

    def _tree(self, now: float) -> list[psutil.Process]:
        """The worker and its children; listing them walks all of /proc, so it is done rarely."""
        if not self._processes:
            raise ReadFailed("the worker has gone")
        worker = self._processes[0]
        if now - self._listed_s >= _CHILDREN_S:
            self._processes = [worker, *worker.children(recursive=True)]
            self._listed_s = now
        alive = [process for process in self._processes[1:] if process.is_running()]
        self._processes = [worker, *alive]
        return self._processes


def open_host(measurement: MeasurementConfig) -> Opened:
    """The machine always has these."""
    return Opened(meter=HostMeter())


def _gauge(name: str, unit: Unit, period_ns: int) -> Source:
    return Source(
        id=name,
        kind="gauge",
        domain=name.rpartition("_")[0],
        unit=unit,
        update_period_ns=period_ns,
        path="psutil",
    )
