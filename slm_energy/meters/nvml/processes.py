"""Which processes compute on an NVIDIA GPU: those of the trial, and foreign ones.

A process is listed on each GPU on which it has a CUDA context. So a trial's process that is listed
on a GPU computes there, and `derive/placement.py` compares that with the GPUs that are metered.
"""

from __future__ import annotations

from typing import Any

from slm_energy.devices.nvidia import Gpu
from slm_energy.meters.base import Channel
from slm_energy.meters.nvml.gauges import gauge
from slm_energy.meters.nvml.queries import answer_or_none, has_mig, refusal
from slm_energy.meters.process_tree import TrialProcesses

_PERIOD_NS = 1_000_000_000


def foreign_processes(nvml: Any, gpu: Gpu, trial: TrialProcesses) -> list[Channel]:
    """The number of processes on a GPU that are not the trial's; empty if it lists none."""
    if refusal(nvml, lambda: _running(nvml, gpu.handle)):
        return []

    def read() -> int:
        return trial.foreign(process.pid for process in _running(nvml, gpu.handle))

    source = gauge(gpu, "foreign_processes", "count", _PERIOD_NS)
    return [Channel(source=source, read=read)]


def trial_processes(nvml: Any, gpu: Gpu, trial: TrialProcesses) -> list[Channel]:
    """The number of the trial's processes that hold memory of a GPU; empty if it lists none.

    Of a divided GPU the lists of its MIG devices are read, which needs no privileges; the source's
    path names them.
    """
    parts = answer_or_none(nvml, lambda: _mig_devices(nvml, gpu.handle))
    handles = [gpu.handle] if parts == {} else list((parts or {}).values())

    def holding() -> list[int]:
        listed = [process for handle in handles for process in _running(nvml, handle)]
        # None where the driver does not report how much.
        return [process.pid for process in listed if process.usedGpuMemory != 0]

    if parts is None or refusal(nvml, holding):
        return []
    path = " ".join(["nvml", *parts])
    source = gauge(gpu, "trial_processes", "count", _PERIOD_NS, path)
    return [Channel(source=source, read=lambda: trial.own(holding()))]


def _running(nvml: Any, handle: Any) -> list[Any]:
    # The unversioned name fails on older drivers with an error of another type.
    return list(nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))


def _mig_devices(nvml: Any, handle: Any) -> dict[str, Any]:
    """UUID to handle of a GPU's MIG devices; empty if it is not divided."""
    if not has_mig(nvml, handle):
        return {}
    devices = {}
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError_NotFound:  # not every possible index is in use
            continue
        devices[str(nvml.nvmlDeviceGetUUID(device))] = device
    return devices
