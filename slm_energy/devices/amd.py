"""Which AMD GPUs this machine has, and which of them the environment leaves visible.

The variables are ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES. The parts of a partitioned GPU share
its sensors, so that only the first part is listed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

from slm_energy.errors import MeterError, one_line


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AmdGpu:
    """One GPU: index in HIP's order, UUID, product name, PCI address, handle of AMD SMI."""

    index: int
    uuid: str
    name: str
    bdf: str
    handle: Any

    @property
    def label(self) -> str:
        """Its name in notes."""
        return f"GPU {self.index} ({self.name})"

    @property
    def device(self) -> str:
        """Its name in sources."""
        return f"{self.uuid} {self.name}"


def start_amdsmi() -> Any:
    """Open AMD's library; the caller must call `amdsmi_shut_down` on the returned module.

    Returns:
        The module `amdsmi`.

    Raises:
        MeterError: the package or ROCm is not installed, or AMD SMI does not start.
    """
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


def visible_gpus(smi: Any) -> tuple[list[AmdGpu], list[str]]:
    """Apply the two variables in turn; an unknown entry hides itself and all that follow.

    HIP's indices count the GPUs that ROCR leaves. HIP uses CUDA_VISIBLE_DEVICES where its own
    variable is empty. See
    https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html

    Returns:
        The GPUs, of a partitioned one only the first part, and notes on what is hidden.

    Raises:
        smi.AmdSmiException: the GPUs cannot be listed.
    """
    gpus, notes = _all_gpus(smi), list[str]()
    visible = gpus
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
            chosen += [gpu for gpu in match if gpu not in chosen]
        visible = chosen
    notes += [f"amd: {gpu.label} is hidden and not metered" for gpu in gpus if gpu not in visible]
    grouped = _boards(visible)
    for first, *others in grouped:
        for gpu in others:
            notes.append(f"amd: {gpu.label} is a part of GPU {first.index} and is metered with it")
    return [first for first, *_ in grouped], notes


def boards(smi: Any) -> list[list[AmdGpu]]:
    """All GPUs, visible or not; each is a list of its parts, of one part unless partitioned.

    Raises:
        smi.AmdSmiException: the GPUs cannot be listed.
    """
    return _boards(_all_gpus(smi))


def _boards(gpus: Sequence[AmdGpu]) -> list[list[AmdGpu]]:
    """Parts of one GPU differ in the last digit of their PCI address."""
    found: dict[str, list[AmdGpu]] = {}
    for gpu in gpus:
        found.setdefault(gpu.bdf.rpartition(".")[0], []).append(gpu)
    return list(found.values())


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
