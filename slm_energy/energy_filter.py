"""Whether Intel's energy filter distorts the RAPL counters of this machine.

Since 2020 microcode can add noise to the counters, against attacks that read secrets from them. It
does so while SGX is enabled, or while bit 0 of the register MISC_PACKAGE_CTLS is set; see Intel's
advisory INTEL-SA-00389 (CVE-2020-8694, CVE-2020-8695). Only root may read the register.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

FilterState = Literal["on", "off", "unknown", "none"]

_REGISTER = 0xBC
_BYTES = 8


def energy_filter(root: Path = Path("/")) -> FilterState:
    """State of the filter.

    Args:
        root: the root of the file system; another one in tests.

    Returns:
        `none` where the processor is not Intel's; `unknown` where SGX is not enabled and the
        register cannot be read: without root, without the kernel module `msr`, or on a processor
        that has no filter.
    """
    facts = _processor(root / "proc/cpuinfo")
    if facts is None:
        return "unknown"
    if facts.get("vendor_id") != "GenuineIntel":
        return "none"
    if "sgx" in facts.get("flags", "").split() or (root / "dev/sgx_enclave").exists():
        return "on"
    try:
        file = os.open(root / "dev/cpu/0/msr", os.O_RDONLY)
    except OSError:
        return "unknown"
    try:
        register = os.pread(file, _BYTES, _REGISTER)
    except OSError:
        return "unknown"
    finally:
        os.close(file)
    return "on" if int.from_bytes(register, "little") & 1 else "off"


def _processor(cpuinfo: Path) -> dict[str, str] | None:
    """The kernel's description of the first processor; None where there is none."""
    if not cpuinfo.is_file():
        return None
    first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
