"""Questions to the NVIDIA driver that some GPUs do not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from slm_energy.meters.base import ReadFailed

T = TypeVar("T")


def refusal(nvml: Any, read: Callable[[], object]) -> str | None:
    """Why a GPU does not have a reading, in the driver's words; None if it has.

    Only a plain no counts, or a value that cannot be. After any other error (the GPU is lost, a
    call timed out) the reading keeps its place and fails each time: without it a sum would be too
    small and look right.
    """
    try:
        read()
    except (
        ReadFailed,
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_InvalidArgument,  # perhaps a field that an older driver does not know
    ) as error:
        return str(error)
    except nvml.NVMLError:
        return None
    return None


def told(nvml: Any, read: Callable[[], T]) -> T | None:
    """The answer to a question that is not about energy, or None where there is none."""
    try:
        return read()
    except nvml.NVMLError:
        return None
