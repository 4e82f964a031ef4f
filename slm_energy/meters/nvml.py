"""Energy and utilization of NVIDIA GPUs through NVML, with NVIDIA's own nvidia-ml-py.

The energy counter (Volta and later) is summed; power is read beside it as a cross-check, and summed
only where there is no counter. All GPUs that CUDA_VISIBLE_DEVICES leaves visible are metered, also
in trials that use only the processor: every trial has the same scope.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from slm_energy.config import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.meters.base import Opened, ReadFailed
from slm_energy.record import Source, Unit

COUNTER_PERIOD_NS = 100_000_000
"""The counter is renewed every 20 to 100 ms, depending on the GPU: the longest is assumed."""

AVERAGE_PERIOD_NS = 1_000_000_000
"""nvmlDeviceGetPowerUsage is an average over 1 s on Ampere and later (NVML reference)."""

_GAUGE_NS = 250_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A visible GPU: its NVML index, UUID and product name."""

    index: int
    uuid: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Channel:
    source: Source
    read: Callable[[], int | float]


class NvmlMeter:
    """All sources of all visible GPUs."""

    def __init__(self, nvml: Any, channels: list[_Channel]) -> None:
        self._nvml = nvml
        self._channels = channels

    @property
    def sources(self) -> tuple[Source, ...]:
        """GPU by GPU: counter, power, gauges."""
        return tuple(channel.source for channel in self._channels)

    def watch(self, pid: int) -> None:
        """The readings are of whole GPUs."""

    def read(self, index: int) -> int | float:
        """Ask the driver.

        Raises:
            ReadFailed: with the driver's words.
        """
        try:
            return self._channels[index].read()
        except self._nvml.NVMLError as error:
            raise ReadFailed(str(error)) from error

    def close(self) -> None:
        """Let go of the driver."""
        self._nvml.nvmlShutdown()


def visible_devices() -> list[Device]:
    """The GPUs that CUDA programs started from here will see, in their order.

    Raises:
        MeterError: there is no driver, no GPU, or none is visible.
    """
    nvml = _start()
    try:
        devices = [device for device, _ in _visible(nvml)[0]]
    except nvml.NVMLError as error:
        raise MeterError(f"the NVIDIA driver answers {error}: check nvidia-smi") from error
    finally:
        nvml.nvmlShutdown()
    if not devices:
        raise MeterError(
            "no NVIDIA GPU is visible:"
            f" CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '(not set)')}"
        )
    return devices


def open_nvml(measurement: MeasurementConfig) -> Opened:
    """Find the visible GPUs and what each of them can tell."""
    try:
        nvml = _start()
    except MeterError as error:
        return Opened(meter=None, notes=(f"nvml: {error}",))
    try:
        devices, notes = _visible(nvml)
        channels = []
        for device, handle in devices:
            energy = _energy_channels(nvml, device, handle)
            channels += [*energy, *_gauge_channels(nvml, device, handle)]
            if not energy:
                notes.append(
                    f"nvml: GPU {device.index} ({device.name}) tells neither energy nor power"
                )
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        return Opened(meter=None, notes=(f"nvml: the driver answers {error}: check nvidia-smi",))
    if not channels:
        nvml.nvmlShutdown()
        return Opened(meter=None, notes=(*notes, "nvml: no GPU is visible"))
    return Opened(meter=NvmlMeter(nvml, channels), notes=tuple(notes))


def _start() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise MeterError(f"{error}: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise MeterError(
            f"no NVIDIA driver answers ({error}): install it, or pass the GPU in"
        ) from error
    return pynvml


def _visible(nvml: Any) -> tuple[list[tuple[Device, Any]], list[str]]:
    """Apply CUDA_VISIBLE_DEVICES as CUDA does: an unknown entry hides itself and all after it.

    Indices are taken in the order of NVML, which is CUDA's when CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        device = Device(
            index=index, uuid=nvml.nvmlDeviceGetUUID(handle), name=nvml.nvmlDeviceGetName(handle)
        )
        found.append((device, handle))
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return found, []
    chosen, notes = [], []
    for entry in (part.strip() for part in wanted.split(",")):
        match = [
            (device, handle)
            for device, handle in found
            if entry == str(device.index) or (entry and device.uuid.startswith(entry))
        ]
        if len(match) != 1:
            notes.append(
                f"nvml: CUDA_VISIBLE_DEVICES={wanted}: {entry!r} is no GPU; the rest is hidden"
            )
            break
        chosen += match
        if entry.isdigit() and len({device.name for device, _ in found}) > 1:
            notes.append(
                "nvml: GPUs differ: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID"
            )
    hidden = [device for device, handle in found if (device, handle) not in chosen]
    notes += [
        f"nvml: GPU {device.index} ({device.name}) is hidden and not metered" for device in hidden
    ]
    return chosen, list(dict.fromkeys(notes))


def _energy_channels(nvml: Any, device: Device, handle: Any) -> list[_Channel]:
    channels = []
    most = _or_none(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    # Short peaks exceed the limit; twice the limit is only for telling nonsense.
    max_power_w = most / 500 if most else None
    has_counter = _counts(nvml, handle)
    if has_counter:
        source = Source(
            id=f"nvml/{device.uuid}/energy",
            kind="counter",
            domain="gpu",
            unit="mJ",
            update_period_ns=COUNTER_PERIOD_NS,
            max_power_w=max_power_w,
            summed=True,
            device=f"{device.uuid} {device.name}",
            path="nvmlDeviceGetTotalEnergyConsumption",
        )
        channels.append(
            _Channel(
                source=source, read=lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
            )
        )
    instant = _or_none(nvml, lambda: _instant_power(nvml, handle)) is not None
    if instant or _or_none(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle)) is not None:
        source = Source(
            id=f"nvml/{device.uuid}/power",
            kind="power",
            domain="gpu",
            unit="mW",
            update_period_ns=COUNTER_PERIOD_NS if instant else AVERAGE_PERIOD_NS,
            max_power_w=max_power_w,
            summed=not has_counter,
            device=f"{device.uuid} {device.name}",
            path="NVML_FI_DEV_POWER_INSTANT" if instant else "nvmlDeviceGetPowerUsage",
        )
        channels.append(_Channel(source=source, read=lambda: _power(nvml, handle, instant)))
    return channels


def _counts(nvml: Any, handle: Any) -> bool:
    """Tell whether this GPU counts energy; some claim to and leave the counter at zero.

    A GPU that is lost, say, keeps its place in the sum and fails at each reading: without it the
    sum would be too small and look right.
    """
    try:
        return bool(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) > 0)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return False
    except nvml.NVMLError:
        return True


def _power(nvml: Any, handle: Any, instant: bool) -> int:
    return _instant_power(nvml, handle) if instant else int(nvml.nvmlDeviceGetPowerUsage(handle))


def _instant_power(nvml: Any, handle: Any) -> int:
    """Power now in mW; the field exists on Ampere and later."""
    field = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])[0]
    if field.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(field.nvmlReturn)
    return int(field.value.uiVal)


def _gauge_channels(nvml: Any, device: Device, handle: Any) -> list[_Channel]:
    """Gauges that this GPU has, under the names of MLflow's System metrics where it has them."""
    celsius = nvml.NVML_TEMPERATURE_GPU
    table: list[tuple[str, Unit, Callable[[], float]]] = [
        ("power_usage_watts", "W", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
        ("utilization_percentage", "pct", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        ("memory_usage_megabytes", "MB", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6),
        ("temperature_celsius", "C", lambda: nvml.nvmlDeviceGetTemperature(handle, celsius)),
    ]
    return [
        _Channel(
            source=Source(
                id=f"gpu_{device.index}_{name}",
                kind="gauge",
                domain=f"gpu_{name.rpartition('_')[0]}",
                unit=unit,
                update_period_ns=_GAUGE_NS,
                device=f"{device.uuid} {device.name}",
                path="nvml",
            ),
            read=read,
        )
        for name, unit, read in table
        if _or_none(nvml, read) is not None
    ]


def _or_none(nvml: Any, read: Callable[[], Any]) -> Any:
    """The answer, or None where this GPU has none to this question."""
    try:
        return read()
    except nvml.NVMLError:
        return None
