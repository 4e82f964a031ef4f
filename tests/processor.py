"""What this machine's processor computes itself: without it, engines refuse some types."""

from __future__ import annotations

from pathlib import Path


def has(feature: str) -> bool:
    """Whether the processor has instructions of that name, such as `vnni` or `bf16`."""
    return feature in Path("/proc/cpuinfo").read_text("ascii", "replace")
