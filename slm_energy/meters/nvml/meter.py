"""Energy and state of NVIDIA GPUs through NVML, with NVIDIA's own nvidia-ml-py.

The energy counter (Volta and later) and power are both read where a GPU has both, so that each can
be checked against the other. All GPUs that CUDA_VISIBLE_DEVICES leaves visible are metered, also in
trials that use only the processor: every trial has the same scope. A GPU's energy is that of its
whole board; nothing is attributed to a MIG device, or to one of several processes.

Periods and averages come from NVIDIA's documents and from the papers named below: they were not
measured on a GPU for this project.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from slm_energy.config.groups import MeasurementConfig
from slm_energy.devices.nvidia import Gpu, all_gpus, start_nvml, visible_gpus
from slm_energy.errors import MeterError
from slm_energy.meters import accuracy
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.meters.gpu_driver import DriverMeter
from slm_energy.meters.nvml.gauges import gauges
from slm_energy.meters.nvml.processes import foreign_processes, trial_processes
from slm_energy.meters.nvml.queries import answer_or_none, has_mig, refusal
from slm_energy.meters.process_tree import TrialProcesses
from slm_energy.record import Source

UPDATE_PERIOD_NS = 100_000_000
"""Counter and power are updated every 20 to 100 ms, depending on the GPU: the longest is assumed.

Yang et al., "Part-time Power Measurements: nvidia-smi's Lack of Attention", arXiv 2312.02741.
"""

AVERAGING_NS = 1_000_000_000
"""NVML reference: nvmlDeviceGetPowerUsage is a mean over 1 s on Ampere (not GA100) and later."""

PART_TIME_NS = 25_000_000
"""GA100 and Hopper observe 25 ms of each 100 ms (Yang et al.); what is counted is taken from it."""

_GA100 = (8, 0)
_PART_TIME = (_GA100, (9, 0))
_PROBE_S = 0.5
_PROBE_PAUSE_S = 0.002


def open_nvml(measurement: MeasurementConfig) -> Opened:
    """Find the visible GPUs and the channels of each; of a hidden one only whether it works."""
    try:
        nvml = start_nvml()
    except MeterError as error:
        return Opened(meter=None, notes=(f"nvml: {error}",))
    trial, channels = TrialProcesses(), list[Channel]()
    try:
        gpus, notes = visible_gpus(nvml)
        for gpu in gpus:
            energy, more = _energy(nvml, gpu)
            channels += energy if gpu.error else [*energy, *gauges(nvml, gpu)]
            channels += [] if gpu.error else foreign_processes(nvml, gpu, trial)
            notes += more
        for gpu in all_gpus(nvml) if channels else ():
            channels += [] if gpu.error else trial_processes(nvml, gpu, trial)
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        return Opened(meter=None, notes=(f"nvml: the driver reports {error}: check nvidia-smi",))
    if not channels:
        nvml.nvmlShutdown()
        nothing = () if gpus else ("nvml: no GPU is visible",)
        return Opened(meter=None, notes=(*notes, *nothing))
    meter = DriverMeter(channels, trial, nvml.NVMLError, nvml.nvmlShutdown)
    return Opened(meter=meter, notes=tuple(notes))


def _energy(nvml: Any, gpu: Gpu) -> tuple[list[Channel], list[str]]:
    """Counter and power of a GPU, as far as it has them, and notes on them."""
    counter = _counter(nvml, gpu)
    if gpu.error:
        return [counter], [f"nvml: {gpu.label} does not respond ({gpu.error}): check nvidia-smi"]
    why_not = _why_no_counter(nvml, counter.read)
    power = _power(nvml, gpu)
    notes = []
    if has_mig(nvml, gpu.handle):
        notes.append(
            f"nvml: {gpu.label} is divided by MIG: its joules are those of the whole board, with"
            " everything else that runs on it"
        )
    if why_not is None:
        return [counter, *power], notes
    instead = "power is integrated" if power else "no power either, so its joules are in no total"
    return power, [*notes, f"nvml: {gpu.label} has no energy counter ({why_not}): {instead}"]


def _counter(nvml: Any, gpu: Gpu) -> Channel:
    """Energy in mJ since the driver was loaded. A GPU without a handle is looked up each time."""

    def read() -> int:
        handle = gpu.handle or nvml.nvmlDeviceGetHandleByIndex(gpu.device.index)
        return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))

    path = "nvmlDeviceGetTotalEnergyConsumption"
    part_ns = _observed_ns(nvml, gpu.handle)
    source = _source(nvml, gpu, "energy", path, kind="counter", unit="mJ", averaging_ns=part_ns)
    return Channel(source=source, read=read)


def _why_no_counter(nvml: Any, read: Callable[[], int | float]) -> str | None:
    """Why a counter does not count (on some GPUs it never changes); None if it does."""
    if why_not := refusal(nvml, read):
        return why_not
    try:
        first = last = read()
        until = time.monotonic() + _PROBE_S
        while last == first and time.monotonic() < until:
            time.sleep(_PROBE_PAUSE_S)
            last = read()
    except nvml.NVMLError:
        return None
    if last == first:
        return f"it does not change from {first} mJ"
    return "it counts backward" if last < first else None


def _power(nvml: Any, gpu: Gpu) -> list[Channel]:
    """Power in mW: instantaneous where the driver has that, else what it calls power usage.

    According to NVML's header, the field for instantaneous power is supported on all
    architectures; an older driver does not know it.
    """
    handle = gpu.handle
    part_ns = _observed_ns(nvml, handle)
    instant = "NVML_FI_DEV_POWER_INSTANT", part_ns, lambda: _instant_mw(nvml, handle)
    usage = (
        "nvmlDeviceGetPowerUsage",
        _averaging_ns(nvml, handle),
        lambda: _positive_mw(nvml.nvmlDeviceGetPowerUsage(handle)),
    )
    for path, averaging_ns, read in (instant, usage):
        if refusal(nvml, read) is None:
            source = _source(
                nvml, gpu, "power", path, kind="power", unit="mW", averaging_ns=averaging_ns
            )
            return [Channel(source=source, read=read)]
    return []


def _instant_mw(nvml: Any, handle: Any) -> float:
    field = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])[0]
    if field.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(field.nvmlReturn)
    # Drivers differ in the type; the members are in the order of NVML_VALUE_TYPE_...
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    if field.valueType >= len(members):
        raise ReadFailed(f"power of an unknown type ({field.valueType})")
    return _positive_mw(getattr(field.value, members[field.valueType]))


def _positive_mw(power_mw: float) -> float:
    """The power, if it is possible: a GPU that responds draws some, and 0 means no sensor."""
    if not 0 < power_mw < math.inf:
        raise ReadFailed(f"a power of {power_mw} mW is not a measurement")
    return power_mw


def _averaging_ns(nvml: Any, handle: Any) -> int:
    """Over how long nvmlDeviceGetPowerUsage averages; the longer where that is unknown.

    It follows from the compute capability, not the architecture: GA100 is an Ampere with 8.0.
    """
    capability = _capability(nvml, handle)
    averages = capability is None or capability > _GA100
    return AVERAGING_NS if averages else _observed_ns(nvml, handle)


def _observed_ns(nvml: Any, handle: Any) -> int:
    """The part of each update period that the sensor observes; 0 if it observes all of it."""
    return PART_TIME_NS if _capability(nvml, handle) in _PART_TIME else 0


def _capability(nvml: Any, handle: Any) -> tuple[int, int] | None:
    return answer_or_none(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))


def _source(nvml: Any, gpu: Gpu, name: str, path: str, **more: Any) -> Source:
    limit_mw = answer_or_none(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))
    source = Source(
        id=f"nvml/{gpu.device.uuid}/{name}",
        domain="gpu",
        update_period_ns=UPDATE_PERIOD_NS,
        # Short peaks exceed the limit; twice the limit only rules out nonsense.
        max_power_w=limit_mw / 500 if limit_mw else None,
        device=gpu.identity,
        path=f"{path}, driver {nvml.nvmlSystemGetDriverVersion()}",
        **more,
    )
    return accuracy.gpu(source, accuracy.NVIDIA)
