"""Which GPUs this process has open through Linux's DRM drivers: Intel's and AMD's.

The kernel describes each open file in /proc/self/fdinfo; `drm-pdev` is the GPU's PCI address
(Linux, Documentation/gpu/drm-usage-stats.rst). Not tried on a machine with such a GPU.
"""

from __future__ import annotations

import re
from pathlib import Path

from slm_energy.serialization import Json

OPEN_FILES = Path("/proc/self/fdinfo")


def identity(open_files: Path = OPEN_FILES) -> dict[str, Json]:
    """`device_pci` for the effective settings, such as `0000:03:00.0`; empty unless it is one GPU.

    Args:
        open_files: the kernel's folder with a description of each open file.
    """
    found = set()
    for file in open_files.iterdir():
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:  # the descriptor with which the folder is listed
            continue
        found |= set(re.findall(r"^drm-pdev:\s*(\S+)$", text, re.MULTILINE))
    return {"device_pci": found.pop()} if len(found) == 1 else {}
