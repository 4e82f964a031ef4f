"""Gauges of an NVIDIA GPU: load, memory, temperature, clocks.

Names and units are those of MLflow's System metrics where it has them. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slm_energy.devices.nvidia import Gpu
from slm_energy.meters.base import Channel
from slm_energy.meters.nvml.queries import refusal
from slm_energy.record import Source, Unit

_OFTEN_NS = 250_000_000

_UNIT_NAMES: dict[Unit, str] = {
    "W": "_watts",
    "pct": "_percentage",
    "MB": "_megabytes",
    "C": "_celsius",
    "MHz": "_megahertz",
    "count": "",
}


def gauges(nvml: Any, gpu: Gpu) -> list[Channel]:
    """The gauges that this GPU has."""
    handle = gpu.handle

    def temperature() -> float:
        return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def sm_clock() -> float:
        return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))

    table: list[tuple[str, Unit, Callable[[], float]]] = [
        ("power_usage", "W", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
        ("utilization", "pct", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        ("memory_usage", "MB", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6),
        ("temperature", "C", temperature),
        ("sm_clock", "MHz", sm_clock),
        ("throttled", "count", _throttled(nvml, handle)),
    ]
    return [
        Channel(source=gauge(gpu, quantity, unit, _OFTEN_NS), read=read)
        for quantity, unit, read in table
        if not refusal(nvml, read)
    ]


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


def gauge(gpu: Gpu, quantity: str, unit: Unit, period_ns: int, path: str = "nvml") -> Source:
    """The source of a gauge of this GPU."""
    return Source(
        id=f"gpu_{gpu.device.index}_{quantity}{_UNIT_NAMES[unit]}",
        kind="gauge",
        domain=f"gpu_{quantity}",
        unit=unit,
        update_period_ns=period_ns,
        device=gpu.identity,
        path=path,
    )
