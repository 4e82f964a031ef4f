"""Recognises errors that mean a lack of memory, and states how much was in use by then."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from slm_energy.errors import SlmEnergyError

_MESSAGES = re.compile(
    r"can't allocate memory|out of memory|bad_alloc|failed to allocate|cannot allocate memory",
    re.IGNORECASE,
)
"""PyTorch's allocator on a processor and on CUDA, C++ libraries (ONNX Runtime, OpenVINO,
llama.cpp), the operating system."""


def out_of_memory(error: BaseException) -> str | None:
    """One line if this error, or one that it came from, is a lack of memory; else None.

    Returns:
        `out of memory`, with the peaks so far: of the process, and of the GPU where torch used one.
    """
    cause: BaseException | None = error
    while cause is not None:
        if _is_lack_of_memory(cause):
            return f"out of memory: {_peaks()}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, SlmEnergyError):  # it may quote a server, whose memory is not ours
        return False
    return isinstance(error, MemoryError) or _MESSAGES.search(str(error)) is not None


def _peaks() -> str:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (kib,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    peaks = f"the process had used up to {int(kib) * 1024 / 1e9:.1f} GB"
    torch: Any = sys.modules.get("torch")  # not imported for this: there may be no memory for it
    if torch is not None and torch.cuda.is_initialized():
        peaks += f", and {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the GPU's memory"
    return f"{peaks}; try a smaller workload.batch_size, engine.dtype or model"
