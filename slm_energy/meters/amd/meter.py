"""Energy and utilization of AMD GPUs through AMD SMI, with AMD's own `amdsmi` package.

Instinct GPUs count energy, Radeon GPUs report power only. All GPUs that ROCR_VISIBLE_DEVICES and
HIP_VISIBLE_DEVICES leave visible are metered. Three faults are known, and checked for at opening:

- The counter does not change (ROCm/amdsmi issue 38): it is left out, power is integrated instead.
- The second die of an MI250 reports 0 W and 0 J, as the first reports both: it is left out.
- The parts of a partitioned GPU share its sensors: only the first part is metered.

A counter that goes backward (ROCm/amdsmi issue 115) is handled in `derive/energy`.
"""

from __future__ import annotations

import contextlib
import io
import os
from functools import partial
from pathlib import Path
from typing import Any

from slm_energy.config.groups import MeasurementConfig
from slm_energy.errors import MeterError, one_line
from slm_energy.meters.amd.channels import AmdGpu, energy_channels, gauge_channels
from slm_energy.meters.base import Channel, Opened
from slm_energy.meters.gpu_driver import DriverMeter
from slm_energy.meters.process_tree import Worker

DRIVER = Path("/sys/module/amdgpu")
"""Exists where the kernel's driver is loaded."""


def open_amd(measurement: MeasurementConfig, driver: Path = DRIVER) -> Opened:
    """Find the visible GPUs and the channels of each.

    Args:
        measurement: not used; part of the contract.
        driver: the folder of the kernel's driver; without it the machine has no AMD GPU, and there
            is no note.
    """
    try:
        smi = _start()
    except MeterError as error:
        return Opened(meter=None, notes=(f"amd: {error}",) if driver.exists() else ())
    worker, channels = Worker(), list[Channel]()
    try:
        gpus, notes = _visible(_all_gpus(smi))
        for gpu in gpus:
            energy, note = energy_channels(smi, gpu)
            notes += [note] if note else []
            if energy:
                gauges = gauge_channels(smi, gpu, partial(_foreign, smi, gpu, worker))
                channels += [*energy, *gauges]
    except smi.AmdSmiException as error:
        smi.amdsmi_shut_down()
        return Opened(meter=None, notes=(f"amd: AMD SMI fails: {one_line(error)}: check amd-smi",))
    if not channels:
        smi.amdsmi_shut_down()
        return Opened(meter=None, notes=(*notes, "amd: no GPU can be metered"))
    meter = DriverMeter(channels, worker, smi.AmdSmiException, smi.amdsmi_shut_down)
    return Opened(meter=meter, notes=tuple(notes))


def _foreign(smi: Any, gpu: AmdGpu, worker: Worker) -> int:
    """Number of processes that compute on a GPU and are not the worker's.

    Raises:
        ReadFailed: one of them is not visible here, so it is not known whose it is.
    """
    running = smi.amdsmi_get_gpu_process_list(gpu.handle)
    return sum(not worker.owns(process["pid"]) for process in running)


def _start() -> Any:
    try:
        # Without ROCm the package prints what is missing, and then fails on a KeyError.
        with contextlib.redirect_stdout(io.StringIO()):
            import amdsmi
    except ImportError as error:
        raise MeterError(f"{one_line(error)}: pip install slm-energy[amd]") from error
    except (KeyError, OSError) as error:
        raise MeterError("libamd_smi.so is not found: install ROCm, or set ROCM_PATH") from error
    except AttributeError as error:
        raise MeterError(
            f"{one_line(error)}: install the version of amdsmi that belongs to this ROCm"
        ) from error
    try:
        amdsmi.amdsmi_init()
    except amdsmi.AmdSmiException as error:
        raise MeterError(
            f"AMD SMI does not start ({one_line(error)}): join the groups render and video"
        ) from error
    return amdsmi


def _all_gpus(smi: Any) -> list[AmdGpu]:
    """All GPUs, in the order in which HIP numbers them."""
    gpus = []
    for number, handle in enumerate(smi.amdsmi_get_processor_handles()):
        identity = smi.amdsmi_get_gpu_enumeration_info(handle)
        bdf = smi.amdsmi_get_gpu_device_bdf(handle)
        gpu = AmdGpu(
            # "N/A" where the compute driver does not know the GPU.
            index=number if identity["hip_id"] == "N/A" else identity["hip_id"],
            uuid=identity["hip_uuid"] or bdf,
            name=smi.amdsmi_get_gpu_asic_info(handle)["market_name"],
            bdf=bdf,
            handle=handle,
        )
        gpus.append(gpu)
    return sorted(gpus, key=lambda gpu: gpu.index)


def _visible(gpus: list[AmdGpu]) -> tuple[list[AmdGpu], list[str]]:
    """Apply the two variables in turn; an unknown entry hides itself and all that follow.

    HIP's indices count the GPUs that ROCR leaves. HIP uses CUDA_VISIBLE_DEVICES where its own
    variable is empty. See
    https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html
    """
    visible, notes = gpus, list[str]()
    hip = "HIP_VISIBLE_DEVICES" if os.environ.get("HIP_VISIBLE_DEVICES") else "CUDA_VISIBLE_DEVICES"
    for key in ("ROCR_VISIBLE_DEVICES", hip):
        setting = os.environ.get(key)
        if setting is None or (key == hip and not setting):
            continue
        chosen = []
        for entry in (part.strip() for part in setting.split(",")):
            match = [g for i, g in enumerate(visible) if entry.lower() in (str(i), g.uuid.lower())]
            if not match:
                notes.append(f"amd: {key}={setting}: {entry!r} is not a GPU; it hides the rest")
                break
            chosen += match
        visible = chosen
    notes += [f"amd: {gpu.label} is hidden and not metered" for gpu in gpus if gpu not in visible]
    boards: dict[str, AmdGpu] = {}
    for gpu in visible:
        first = boards.setdefault(gpu.bdf.rpartition(".")[0], gpu)
        if first != gpu:
            notes.append(f"amd: {gpu.label} is a part of GPU {first.index} and is metered with it")
    return list(boards.values()), notes
