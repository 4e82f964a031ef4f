"""Checks of GPUs: are all metered; of NVIDIA's also other processes, clocks and throttling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_energy.doctor.finding import ROOT, Finding, text

_NVIDIA, _AMD = "0x10de", "0x1002"
_DISPLAY = "0x03"
_AMD_ACCELERATORS = ("0x0380", "0x1200")

Query = Callable[[Any], Any]


def gpus_metered(metered: int, root: Path = ROOT) -> Finding:
    """Compare the GPUs on the bus with those that are metered.

    Args:
        metered: number of GPUs with an energy source that is summed.
        root: the folder that holds `sys`.
    """
    name = "GPUs metered"
    devices = sorted((root / "sys/bus/pci/devices").glob("*"))
    found = [device.name for device in devices if _is_gpu(device)]
    if not found and not metered:
        detail = "there is no NVIDIA GPU or AMD accelerator on the bus"
        return Finding(name=name, verdict="not applicable", detail=detail)
    if metered >= len(found):
        return Finding(name=name, verdict="ok", detail=f"all {metered}")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"{metered} of {len(found)} ({', '.join(found)}): what the others draw is not seen",
        remedy="unset CUDA_VISIBLE_DEVICES; install the driver, for AMD pip install amdsmi too;"
        " in a container docker run --gpus all",
    )


def _is_gpu(device: Path) -> bool:
    vendor, kind = text(device / "vendor"), text(device / "class") or ""
    return (vendor == _NVIDIA and kind.startswith(_DISPLAY)) or (
        vendor == _AMD and kind.startswith(_AMD_ACCELERATORS)
    )


def nvidia(uuids: Sequence[str], most_processes: int) -> tuple[Finding, ...]:
    """Check metered NVIDIA GPUs through NVML.

    Args:
        uuids: the GPUs to check.
        most_processes: `measurement.limits.gpu_processes`.
    """
    names = ("GPU processes", "GPU persistence", "GPU clocks", "GPU throttling", "MIG")
    if not uuids:
        detail = "no NVIDIA GPU is metered"
        return tuple(Finding(name=n, verdict="not applicable", detail=detail) for n in names)
    # The sampler found these GPUs through pynvml, so it is installed and the driver responds.
    import pynvml

    try:
        return _check_all(pynvml, uuids, most_processes)
    except pynvml.NVMLError as error:
        detail = f"the driver answers: {error}"
        return tuple(Finding(name=n, verdict="unknown", detail=detail) for n in names)


def _check_all(nvml: Any, uuids: Sequence[str], most_processes: int) -> tuple[Finding, ...]:
    nvml.nvmlInit()
    try:
        gpus = {uuid: nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
        return (
            _processes(nvml, gpus, most_processes),
            _persistence(nvml, gpus),
            _clocks(nvml, gpus),
            _throttling(nvml, gpus),
            _mig(nvml, gpus),
        )
    finally:
        nvml.nvmlShutdown()


def _query_all(nvml: Any, gpus: dict[str, Any], query: Query) -> dict[str, Any] | None:
    """Result of a query by GPU; None if any GPU does not support or permit it."""
    unavailable = (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_FunctionNotFound,
    )
    try:
        return {uuid: query(handle) for uuid, handle in gpus.items()}
    except unavailable:
        return None


def _unavailable(name: str) -> Finding:
    return Finding(name=name, verdict="unknown", detail="not reported by a GPU")


def _processes(nvml: Any, gpus: dict[str, Any], most: int) -> Finding:
    name = "GPU processes"
    found = _query_all(nvml, gpus, nvml.nvmlDeviceGetComputeRunningProcesses_v3)
    if found is None:
        return _unavailable(name)
    foreign = {
        uuid: pids
        for uuid, processes in found.items()
        if (pids := [str(process.pid) for process in processes if process.pid != os.getpid()])
    }
    if not foreign:
        return Finding(name=name, verdict="ok", detail="none computes there")
    return Finding(
        name=name,
        verdict="warn" if max(map(len, foreign.values())) > most else "ok",
        detail="; ".join(f"{uuid}: process {', '.join(pids)}" for uuid, pids in foreign.items()),
        remedy=f"end them: trials beside more than measurement.limits.gpu_processes={most} are"
        " invalid",
    )


def _persistence(nvml: Any, gpus: dict[str, Any]) -> Finding:
    name = "GPU persistence"
    found = _query_all(nvml, gpus, nvml.nvmlDeviceGetPersistenceMode)
    if found is None:
        return _unavailable(name)
    if all(found.values()):
        return Finding(name=name, verdict="ok", detail="on")
    return Finding(
        name=name,
        verdict="warn",
        detail="off: the driver unloads between trials, and each load window pays for its start",
        remedy="sudo nvidia-smi --persistence-mode=1",
    )


def _clocks(nvml: Any, gpus: dict[str, Any]) -> Finding:
    """Report SM clocks; NVML can lock clocks but cannot report whether they are locked."""
    name = "GPU clocks"
    now = _query_all(nvml, gpus, lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))
    most = _query_all(
        nvml, gpus, lambda gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM)
    )
    if now is None or most is None:
        return _unavailable(name)
    seen = ", ".join(f"{now[uuid]} of at most {most[uuid]} MHz" for uuid in gpus)
    return Finding(
        name=name,
        verdict="unknown",
        detail=f"SM clock {seen}; NVML does not report whether it is locked",
        remedy="sudo nvidia-smi --lock-gpu-clocks=MHZ,MHZ makes trials steadier",
    )


def _throttling(nvml: Any, gpus: dict[str, Any]) -> Finding:
    name = "GPU throttling"
    found = _query_all(
        nvml,
        gpus,
        lambda gpu: nvml.nvmlDeviceGetViolationStatus(gpu, nvml.NVML_PERF_POLICY_THERMAL),
    )
    if found is None:
        return _unavailable(name)
    longest_s = max(status.violationTime for status in found.values()) / 1e9
    if longest_s == 0:
        return Finding(name=name, verdict="ok", detail="heat has not slowed it down so far")
    return Finding(
        name=name,
        verdict="warn",
        detail=f"heat has slowed it down for {longest_s:,.1f} s since the driver was loaded",
        remedy="cool it, or lower its power limit; measurement.limits.throttled_pct judges trials",
    )


def _mig(nvml: Any, gpus: dict[str, Any]) -> Finding:
    name = "MIG"
    found = _query_all(nvml, gpus, lambda gpu: nvml.nvmlDeviceGetMigMode(gpu)[0])
    if found is None:
        return Finding(name=name, verdict="not applicable", detail="these GPUs cannot be divided")
    if not any(found.values()):
        return Finding(name=name, verdict="ok", detail="off")
    return Finding(
        name=name,
        verdict="warn",
        detail="on: energy is that of the whole GPU, other instances on it included",
        remedy="sudo nvidia-smi --multi-instance-gpu=0, or leave the other instances idle",
    )
