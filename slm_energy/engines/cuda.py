"""Can an NVIDIA GPU be used here? Answered without importing an engine's runtime."""

from __future__ import annotations

from slm_energy.errors import MeterError
from slm_energy.meters.nvml_devices import visible_devices


def missing(index: int) -> str | None:
    """The reason why GPU number `index` among the visible ones cannot be used, or None."""
    try:
        count = len(visible_devices())
    except MeterError as error:
        return f"provider.name=cuda: {error}"
    if index >= count:
        return f"provider.device={index}: only {count} GPU(s) visible, counted from 0"
    return None
