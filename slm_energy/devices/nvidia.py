"""Which NVIDIA GPUs this machine has, and which of them CUDA_VISIBLE_DEVICES leaves visible.

The rules of CUDA and MIG follow NVIDIA's CUDA programming guide, MIG user guide and NVML reference;
they were not tried on a machine with a GPU.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from slm_energy.errors import MeterError

PROVIDERS = ("cuda", "tensorrt")
"""Names of execution providers that compute on an NVIDIA GPU."""

ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Environment variable with which CUDA numbers GPUs as NVML does; by default the fastest is 0.

An index in CUDA_VISIBLE_DEVICES would otherwise mean one GPU for CUDA and another one for NVML
where GPUs differ (CUDA programming guide, section on environment variables).
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A GPU: its NVML index, UUID and product name."""

    index: int
    uuid: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU with NVML's handle to it.

    Attributes:
        device: which GPU; of a lost one only the index is known.
        handle: None for a GPU that the driver counts, but cannot reach.
        error: why it cannot be reached.
    """

    device: Device
    handle: Any
    error: str | None = None

    @property
    def label(self) -> str:
        """Its name in notes."""
        return f"GPU {self.device.index} ({self.device.name})"

    @property
    def identity(self) -> str:
        """Its name in sources."""
        return f"{self.device.uuid} {self.device.name}"


def start_nvml() -> Any:
    """Open the driver's library; the caller must call `nvmlShutdown` on the returned module.

    Returns:
        The module `pynvml`, of NVIDIA's package nvidia-ml-py.

    Raises:
        MeterError: the package is not installed, or there is no driver.
    """
    try:
        import pynvml
    except ImportError as error:
        raise MeterError(f"{error}: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise MeterError(
            f"no NVIDIA driver is available ({error}): install it, or give the container"
            " access to the GPU"
        ) from error
    return pynvml


def visible_devices() -> list[Device]:
    """The GPUs that CUDA programs started from here will see, in their order.

    For a MIG device it is the GPU that the device is a part of.

    Raises:
        MeterError: there is no driver, no GPU, none is visible, or one is lost.
    """
    nvml = start_nvml()
    try:
        gpus, _ = visible_gpus(nvml)
    except nvml.NVMLError as error:
        raise MeterError(f"the NVIDIA driver reports {error}: check nvidia-smi") from error
    finally:
        nvml.nvmlShutdown()
    for gpu in gpus:
        if gpu.error:
            raise MeterError(f"{gpu.label} does not respond ({gpu.error}): check nvidia-smi")
    if not gpus:
        raise MeterError(
            "no NVIDIA GPU is visible:"
            f" CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '(not set)')}"
        )
    return [gpu.device for gpu in gpus]


def all_gpus(nvml: Any) -> list[Gpu]:
    """All GPUs, in NVML's order: that of their PCI addresses.

    Raises:
        nvml.NVMLError: the driver does not report how many GPUs there are.
    """
    return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]


def visible_gpus(nvml: Any) -> tuple[list[Gpu], list[str]]:
    """Apply CUDA_VISIBLE_DEVICES as CUDA does: an invalid entry hides itself and all that follow.

    Indices are taken in NVML's order, which is also CUDA's in a worker: it is started with
    CUDA_DEVICE_ORDER=PCI_BUS_ID (`ORDER`).

    Returns:
        The GPUs, each once, and notes on what is hidden or doubtful.

    Raises:
        nvml.NVMLError: the driver does not report how many GPUs there are.
    """
    gpus = all_gpus(nvml)
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return gpus, []
    chosen, notes = list[Gpu](), list[str]()
    for entry in (part.strip() for part in setting.split(",")):
        match = _named(nvml, entry, gpus)
        if len(match) != 1:
            notes.append(
                f"nvml: CUDA_VISIBLE_DEVICES={setting}: {entry!r} names {len(match)} of the"
                f" {len(gpus)} GPUs here; CUDA sees nothing from there on, and it is not metered"
            )
            break
        chosen += [gpu for gpu in match if gpu not in chosen]
    notes += [f"nvml: {gpu.label} is hidden and not metered" for gpu in gpus if gpu not in chosen]
    return chosen, notes


def _gpu(nvml: Any, index: int) -> Gpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError as error:
        device = Device(index=index, uuid=f"index-{index}", name="unknown")
        return Gpu(device=device, handle=None, error=str(error))
    return Gpu(device=Device(index=index, uuid=uuid, name=name), handle=handle)


def _named(nvml: Any, entry: str, gpus: list[Gpu]) -> list[Gpu]:
    """The GPUs that one entry may name: an index, the beginning of a UUID, or a MIG device's."""
    if entry.startswith("MIG-"):
        parent = _parent_uuid(nvml, entry)
        return [gpu for gpu in gpus if gpu.device.uuid == parent]
    return [
        gpu
        for gpu in gpus
        if entry == str(gpu.device.index) or (entry and gpu.device.uuid.startswith(entry))
    ]


def _parent_uuid(nvml: Any, entry: str) -> str | None:
    """UUID of the GPU that a MIG device is a part of; None if there is no such MIG device.

    Drivers before R470 wrote `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
    """
    if entry.startswith("MIG-GPU-"):
        return entry.removeprefix("MIG-").partition("/")[0]
    try:
        mig = nvml.nvmlDeviceGetHandleByUUID(entry)
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
        return str(nvml.nvmlDeviceGetUUID(parent))
    except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
        return None


def missing(provider: str, index: int) -> str | None:
    """Why a provider's GPU cannot be used here, or None; None too if it uses no NVIDIA GPU.

    Args:
        provider: `provider.name`.
        index: `provider.device`, among the visible GPUs.
    """
    if provider not in PROVIDERS:
        return None
    try:
        count = len(visible_devices())
    except MeterError as error:
        return f"provider.name={provider}: {error}"
    if index >= count:
        return f"provider.device={index}: only {count} GPU(s) visible, counted from 0"
    return None
