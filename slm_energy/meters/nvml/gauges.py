"""Gauges of an NVIDIA GPU: load, memory, temperature, clocks, foreign processes.

Names and units are those of MLflow's System metrics where it has them. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slm_energy.devices.nvidia import Gpu
from slm_energy.meters.base import Channel
from slm_energy.meters.nvml.queries import refusal
from slm_energy.meters.process_tree import Worker
from slm_energy.record import Source, Unit

_OFTEN_NS = 250_000_000
_RARELY_NS = 1_000_000_000

_UNIT_NAMES: dict[Unit, str] = {
    "W": "_watts",
    "pct": "_percentage",
    "MB": "_megabytes",
    "C": "_celsius",
    "MHz": "_megahertz",
    "count": "",
}


def gauges(nvml: Any, gpu: Gpu, worker: Worker) -> list[Channel]:
    """The gauges that this GPU has."""
    handle = gpu.handle

    def temperature() -> float:
        return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def sm_clock() -> float:
        return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))

    def foreign_processes() -> int:
        return sum(not worker.owns(process.pid) for process in running())

    def running() -> list[Any]:
        # The unversioned name fails on older drivers with an error of another type.
        return list(nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))

    table: list[tuple[str, Unit, Callable[[], float]]] = [
        ("power_usage", "W", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
        ("utilization", "pct", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        ("memory_usage", "MB", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6),
        ("temperature", "C", temperature),
        ("sm_clock", "MHz", sm_clock),
        ("throttled", "count", _throttled(nvml, handle)),
    ]
    channels = [
        Channel(source=_source(gpu, quantity, unit, _OFTEN_NS), read=read)
        for quantity, unit, read in table
        if not refusal(nvml, read)
    ]
    if not refusal(nvml, running):
        source = _source(gpu, "foreign_processes", "count", _RARELY_NS)
        channels.append(Channel(source=source, read=foreign_processes))
    return channels


def _throttled(nvml: Any, handle: Any) -> Callable[[], int]:
    """1 while heat or the power supply limits the clocks.

    The cap by the power limit is not throttling: at full load it is how a GPU works. According to
    NVIDIA, a hardware slowdown may also be reported for a moment while clocks change.
    """
    reasons = (
        nvml.nvmlClocksEventReasonHwSlowdown
        | nvml.nvmlClocksEventReasonHwThermalSlowdown
        | nvml.nvmlClocksEventReasonSwThermalSlowdown
        | nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    )
    active = nvml.nvmlDeviceGetCurrentClocksEventReasons
    if refusal(nvml, lambda: active(handle)):  # drivers before R535 have only the older name
        active = nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    return lambda: int(bool(active(handle) & reasons))


def _source(gpu: Gpu, quantity: str, unit: Unit, period_ns: int) -> Source:
    return Source(
        id=f"gpu_{gpu.device.index}_{quantity}{_UNIT_NAMES[unit]}",
        kind="gauge",
        domain=f"gpu_{quantity}",
        unit=unit,
        update_period_ns=period_ns,
        device=f"{gpu.device.uuid} {gpu.device.name}",
        path="nvml",
    )
