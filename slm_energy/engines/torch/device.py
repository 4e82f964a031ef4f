"""The device and the threads on which torch computes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from slm_energy.cell import Settings
from slm_energy.devices import cuda
from slm_energy.engines.base import threads
from slm_energy.serialization import Json


def set_up(settings: Settings) -> Any:
    """Set the number of threads; return the torch device of the requested provider."""
    import torch

    torch.set_num_threads(threads(settings))
    provider = settings.provider
    return torch.device("cpu" if provider.name == "cpu" else f"cuda:{provider.device}")


def device_identity(device: Any) -> dict[str, Json]:
    """`device_uuid` of a torch device, as NVML writes it; empty on a processor.

    Torch before 2.4 does not report it; then the driver does. It is that of the MIG device, if any.
    """
    if device.type != "cuda":
        return {}
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return cuda.identity(device.index) if uuid is None else {"device_uuid": f"GPU-{uuid}"}


def synchronize(device: Any) -> None:
    """Return when the device has finished all queued work."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def has_cuda_build() -> bool:
    """Whether torch can use CUDA, read from torch/version.py without importing torch (1.4 s)."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None
