"""Queries to the NVIDIA driver that some GPUs do not support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from slm_energy.meters.base import ReadFailed

T = TypeVar("T")


def refusal(nvml: Any, read: Callable[[], object]) -> str | None:
    """Why a GPU does not have a reading, as the driver reports it; None if it has.

    Only `not supported` and the like count, or an impossible value. After any other error (the GPU
    is lost, a call timed out) the reading is kept and fails each time: without it a sum would be
    too small and look right.
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


def has_mig(nvml: Any, handle: Any) -> bool:
    """Whether a GPU is divided into MIG devices."""
    mode = answer_or_none(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    return bool(mode == nvml.NVML_DEVICE_MIG_ENABLE)


def answer_or_none(nvml: Any, query: Callable[[], T]) -> T | None:
    """The answer to a query that is not about energy, or None if it fails."""
    try:
        return query()
    except nvml.NVMLError:
        return None
