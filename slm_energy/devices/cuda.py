"""Which GPU is behind an index of CUDA's in this process; needs no torch and no Python package.

The driver's own library answers in the process that computes, and so under the same
CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER as the runtime (CUDA driver API, device management).
"""

from __future__ import annotations

import ctypes
import uuid

from slm_energy.serialization import Json

LIBRARY = "libcuda.so.1"


def identity(index: int, library: str = LIBRARY) -> dict[str, Json]:
    """`device_uuid` for the effective settings, as NVML writes it: `GPU-8-4-4-4-12` hex digits.

    Args:
        index: of the GPU, as this process's CUDA counts.
        library: the driver's library.

    Returns:
        The UUID, that of the MIG device where CUDA uses one; empty if the driver does not give it.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return {}
    device, number = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    # The second version, of CUDA 11.4, tells MIG devices apart.
    of_device = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return {}
    if of_device(ctypes.byref(number), device):
        return {}
    return {"device_uuid": f"GPU-{uuid.UUID(bytes=bytes(number))}"}
