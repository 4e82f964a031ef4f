"""The channels of one AMD GPU, read through AMD SMI."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from slm_energy.devices.amd import AmdGpu
from slm_energy.meters import accuracy
from slm_energy.meters.base import Channel, ReadFailed
from slm_energy.meters.process_tree import TrialProcesses
from slm_energy.record import Source, Unit

STEP_UJ = Fraction(10**6, 2**16)
"""Unit of the counter, 2^-16 J (Linux, kgd_pp_interface.h); the library states it as 15.3 uJ."""

UPDATE_PERIOD_NS = 100_000_000
"""AMD documents none: the longest of NVIDIA's is assumed until it is measured."""

AVERAGE_PERIOD_NS = 1_000_000_000
"""AMD does not say what `average_socket_power` is averaged over: a second is assumed."""

MAX_POWER_W = 4000
"""More than any GPU draws; only rules out nonsense. AMD SMI changed the unit of its power cap."""

_POWER_FIELDS = {"current_socket_power": 0, "average_socket_power": AVERAGE_PERIOD_NS}
_FROZEN_S = 0.5
_GAUGE_NS = 250_000_000


def energy_channels(smi: Any, gpu: AmdGpu) -> tuple[list[Channel], str | None]:
    """Counter and power, and a note on what is wrong with them.

    A GPU that supports a source but fails keeps it, and each reading fails: without it the sum
    would be too small and look right.
    """
    counter, power = _counter(smi, gpu), _power(smi, gpu)
    supported = _supports(smi, counter.read)
    counts = supported and _moves(smi, counter.read)
    if power is None and not counts:
        return [], f"amd: {gpu.label} reports neither energy nor power"
    if power is not None and not counts and _zero(smi, power.read):
        return [], f"amd: {gpu.label} reports 0 W and is left out; another die may report both"
    stuck = f"amd: the energy counter of {gpu.label} does not change: update ROCm, or reboot"
    channels = [counter] * counts + ([power] if power else [])
    return channels, stuck if supported and not counts else None


def gauge_channels(smi: Any, gpu: AmdGpu) -> list[Channel]:
    """The gauges of this GPU other than the numbers of processes.

    Their names begin with `amdgpu_`, and NVIDIA's with `gpu_`: a machine may have both.
    """
    handle = gpu.handle
    spot, now = smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT

    def activity() -> int:
        return _number(smi.amdsmi_get_gpu_activity(handle)["gfx_activity"], most=100)

    def memory() -> float:
        # The library says megabytes and means 2^20 bytes.
        return _number(smi.amdsmi_get_gpu_vram_usage(handle)["vram_used"], most=2**31) * 2**20 / 1e6

    def temperature() -> int:
        return _number(smi.amdsmi_get_temp_metric(handle, spot, now), most=1000)

    channels = [
        _gauge(gpu, "utilization_percentage", "pct", activity),
        _gauge(gpu, "memory_usage_megabytes", "MB", memory),
        _gauge(gpu, "temperature_celsius", "C", temperature),
    ]
    return [channel for channel in channels if _supports(smi, channel.read)]


def foreign_processes(smi: Any, gpu: AmdGpu, trial: TrialProcesses) -> list[Channel]:
    """The number of processes on this GPU that are not the trial's; empty if it lists none."""

    def read() -> int:
        running = smi.amdsmi_get_gpu_process_list(gpu.handle)
        return trial.foreign(process["pid"] for process in running)

    return _if_listed(smi, [gpu], _gauge(gpu, "foreign_processes", "count", read))


def trial_processes(smi: Any, parts: Sequence[AmdGpu], trial: TrialProcesses) -> list[Channel]:
    """The number of the trial's processes that hold memory of a GPU; empty if it lists none.

    A process may be listed on a GPU on which it has no memory: ROCm opens all of them.

    Args:
        smi: AMD's library.
        parts: the GPU, or the parts of a partitioned one; the first is the one that is metered.
        trial: the trial's processes.
    """

    def read() -> int:
        lists = (smi.amdsmi_get_gpu_process_list(part.handle) for part in parts)
        listed = [process for processes in lists for process in processes]
        return trial.own({process["pid"] for process in listed if _holds_memory(process)})

    return _if_listed(smi, parts, _gauge(parts[0], "trial_processes", "count", read))


def _holds_memory(process: dict[str, Any]) -> bool:
    usage = process["memory_usage"]
    return bool(usage["vram_mem"] + usage["gtt_mem"] > 0)


def _if_listed(smi: Any, parts: Sequence[AmdGpu], channel: Channel) -> list[Channel]:
    def lists() -> int:
        return sum(len(smi.amdsmi_get_gpu_process_list(part.handle)) for part in parts)

    return [channel] if _supports(smi, lists) else []


def _gauge(gpu: AmdGpu, name: str, unit: Unit, read: Callable[[], int | float]) -> Channel:
    source = Source(
        id=f"amdgpu_{gpu.index}_{name}",
        kind="gauge",
        domain=f"amdgpu_{name.rpartition('_')[0]}",
        unit=unit,
        update_period_ns=_GAUGE_NS,
        device=gpu.device,
        path="amdsmi",
    )
    return Channel(source=source, read=read)


def _counter(smi: Any, gpu: AmdGpu) -> Channel:
    source = Source(
        id=f"amd/{gpu.uuid}/energy",
        kind="counter",
        domain="gpu",
        unit="uJ",
        update_period_ns=UPDATE_PERIOD_NS,
        max_power_w=MAX_POWER_W,
        device=gpu.device,
        path="amdsmi_get_energy_count",
    )

    def read() -> int:
        """Energy in whole uJ: rounding errors do not add up, as each reading is the whole count."""
        answer = smi.amdsmi_get_energy_count(gpu.handle)
        stated = answer["counter_resolution"]
        rounded = abs(stated - STEP_UJ) < STEP_UJ / 200
        step_uj = STEP_UJ if rounded else Fraction(stated)
        return round(int(answer["energy_accumulator"]) * step_uj)

    return Channel(source=accuracy.gpu(source, accuracy.AMD_SMI), read=read)


def _power(smi: Any, gpu: AmdGpu) -> Channel | None:
    """The first power field that this GPU has: newer ones have the first, others the second."""
    for field, averaging_ns in _POWER_FIELDS.items():

        def read(field: str = field) -> int:
            watts = smi.amdsmi_get_power_info(gpu.handle)[field]
            return 1000 * _number(watts, most=MAX_POWER_W)

        if _supports(smi, read):
            source = Source(
                id=f"amd/{gpu.uuid}/power",
                kind="power",
                domain="gpu",
                unit="mW",
                update_period_ns=UPDATE_PERIOD_NS,
                averaging_ns=averaging_ns,
                max_power_w=MAX_POWER_W,
                device=gpu.device,
                path=f"amdsmi_get_power_info: {field}",
            )
            return Channel(source=accuracy.gpu(source, accuracy.AMD_SMI), read=read)
    return None


def _number(value: Any, *, most: int) -> int:
    """The library's value; it is "N/A", 0xFFFF or 0xFFFFFFFF where a GPU has none."""
    if not isinstance(value, int) or value > most:
        raise ReadFailed(f"no value: {value}")
    return value


def _supports(smi: Any, read: Callable[[], int | float]) -> bool:
    """Whether the GPU has this reading at all, even if it fails now."""
    try:
        read()
    except ReadFailed:
        return False
    except smi.AmdSmiLibraryException as error:
        codes = smi.amdsmi_wrapper
        return error.get_error_code() not in (
            codes.AMDSMI_STATUS_NOT_SUPPORTED,
            codes.AMDSMI_STATUS_NOT_YET_IMPLEMENTED,
        )
    return True


def _moves(smi: Any, read: Callable[[], int | float]) -> bool:
    """Whether a counter counts; takes half a second at most."""
    until = time.monotonic() + _FROZEN_S
    try:
        first = read()
        while time.monotonic() < until:
            if read() != first:
                return True
            time.sleep(0.005)
    except smi.AmdSmiException:
        return True
    return False


def _zero(smi: Any, read: Callable[[], int | float]) -> bool:
    try:
        return read() == 0
    except smi.AmdSmiException:
        return False
