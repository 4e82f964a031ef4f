"""Energy and utilization of AMD GPUs through AMD SMI, with AMD's own `amdsmi` package.

Instinct GPUs count energy, Radeon GPUs report power only. All GPUs that ROCR_VISIBLE_DEVICES and
HIP_VISIBLE_DEVICES leave visible are metered. Three faults are known, and checked for at opening:

- The counter does not change (ROCm/amdsmi issue 38): it is left out, power is integrated instead.
- The second die of an MI250 reports 0 W and 0 J, as the first reports both: it is left out.
- The parts of a partitioned GPU share its sensors: only the first part is metered.

A counter that goes backward (ROCm/amdsmi issue 115) is handled in `derive/energy`.
"""

from __future__ import annotations

from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.devices.amd import boards, start_amdsmi, visible_gpus
from slm_energy.errors import MeterError, one_line
from slm_energy.meters.amd.channels import (
    energy_channels,
    foreign_processes,
    gauge_channels,
    trial_processes,
)
from slm_energy.meters.base import Channel, Opened
from slm_energy.meters.gpu_driver import DriverMeter
from slm_energy.meters.process_tree import TrialProcesses

DRIVER = Path("/sys/module/amdgpu")
"""Exists where the kernel's driver is loaded."""


def open_amd(measurement: MeasurementConfig, driver: Path = DRIVER) -> Opened:
    """Find the visible GPUs and the channels of each; of a hidden one only whether it works.

    Args:
        measurement: not used; part of the contract.
        driver: the folder of the kernel's driver; without it the machine has no AMD GPU, and there
            is no note.
    """
    try:
        smi = start_amdsmi()
    except MeterError as error:
        return Opened(meter=None, notes=(f"amd: {error}",) if driver.exists() else ())
    trial, channels = TrialProcesses(), list[Channel]()
    try:
        gpus, notes = visible_gpus(smi)
        for gpu in gpus:
            energy, note = energy_channels(smi, gpu)
            notes += [note] if note else []
            if energy:
                channels += [*energy, *gauge_channels(smi, gpu)]
                channels += foreign_processes(smi, gpu, trial)
        metered = {gpu.bdf for gpu in gpus}
        for board in boards(smi) if channels else ():
            parts = sorted(board, key=lambda part: part.bdf not in metered)
            channels += trial_processes(smi, parts, trial)
    except smi.AmdSmiException as error:
        smi.amdsmi_shut_down()
        return Opened(meter=None, notes=(f"amd: AMD SMI fails: {one_line(error)}: check amd-smi",))
    if not channels:
        smi.amdsmi_shut_down()
        return Opened(meter=None, notes=(*notes, "amd: no GPU can be metered"))
    meter = DriverMeter(channels, trial, smi.AmdSmiException, smi.amdsmi_shut_down)
    return Opened(meter=meter, notes=tuple(notes))
