"""Did the work of a trial run on a device whose joules are counted? Pure.

CUDA numbers GPUs by speed unless CUDA_DEVICE_ORDER says otherwise, and a server that was started
elsewhere may see other GPUs than the sweep: an index proves nothing. Each of these facts does:

    effective["device_uuid"]     the GPU that the runtime in the worker uses
    effective["device_pci"]      the address of the only GPU that the worker has opened
    the gauges trial_processes   on which GPUs, hidden ones too, the trial's processes hold memory
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

from slm_energy.record import Capture, Series, Source

WITHOUT_A_GPU = ("cpu", "openvino_npu")
"""Providers that compute within the processor's package; any other must prove where it computes."""

_PRESENCE = "_trial_processes"
_WHOLE = {"machine", "wall"}
_REMEDY = (
    "name the GPUs by UUID in CUDA_VISIBLE_DEVICES (AMD: ROCR_VISIBLE_DEVICES), for the sweep and"
    " for a running server"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """A GPU, and how many processes of the trial were on it.

    Attributes:
        source: the gauge that was read.
        most: the largest number that was read; None if it is unknown.
        error: why the first reading failed, if one did.
    """

    source: Source
    most: int | None
    error: str | None

    @property
    def device(self) -> str:
        """The GPU's UUID and name."""
        return str(self.source.device)


def on_metered_device(provider: str, capture: Capture) -> tuple[bool | None, str]:
    """Judge where a trial computed.

    Args:
        provider: `provider.name`.
        capture: of a trial that was metered.

    Returns:
        Whether it is proven that the trial's device is in the sum of measured energy, None where
        the question does not arise; and the reason, with the remedy.
    """
    if provider in WITHOUT_A_GPU:
        return None, f"provider.name={provider} computes on no GPU"
    summed = [series.source for series in capture.series if series.source.summed]
    if not summed:
        return None, "no measured energy is summed"
    domains = {source.domain for source in summed}
    if whole := _WHOLE & domains:
        return True, f"the sum is that of the whole {min(whole)}"
    if any(source.domain == "gpu" and source.device is None for source in summed):
        return True, "the sum has a source of all GPUs"
    if capture.effective.get("device_type") == "integrated":
        return _within_the_package(domains)
    metered = {source.device for source in summed if source.device}
    seen = tuple(_presences(capture))
    elsewhere = [gpu.device for gpu in seen if gpu.most and gpu.device not in metered]
    if elsewhere:
        return False, f"the trial computes on {', '.join(elsewhere)}, not metered: {_REMEDY}"
    if uuid := capture.effective.get("device_uuid"):
        return _by_runtime(str(uuid), metered, seen)
    if address := capture.effective.get("device_pci"):
        return _by_address(str(address), metered)
    return _by_processes(provider, seen)


def _within_the_package(domains: Collection[str]) -> tuple[bool, str]:
    """An integrated GPU draws from the processor's package."""
    if {"cpu_package", "psys"}.isdisjoint(domains):
        return (
            False,
            "an integrated GPU computes, but cpu_package is not metered",
        )
    return True, "an integrated GPU is part of the processor's package, which is metered"


def _by_runtime(
    uuid: str, metered: Collection[str], seen: Collection[Presence]
) -> tuple[bool, str]:
    """Compare the runtime's UUID with those of metered GPUs and of their MIG devices."""
    parts = {str(gpu.source.path) for gpu in seen if gpu.device in metered}
    if _bare(uuid) in {_bare(word) for text in (*metered, *parts) for word in text.split()}:
        return True, f"the runtime computes on {uuid}, which is metered"
    names = ", ".join(sorted(metered))
    return False, f"the runtime computes on {uuid}, but metered are {names}: {_REMEDY}"


def _bare(uuid: str) -> str:
    """A UUID without GPU- or MIG- before it: CUDA gives only the number."""
    return re.sub(r"^(GPU|MIG)-", "", uuid).lower()


def _by_address(address: str, metered: Collection[str]) -> tuple[bool, str]:
    """Compare the PCI address of the GPU that the worker has opened with those of metered GPUs."""
    if any(address in device for device in metered):
        return True, f"the worker has opened the GPU at {address}, which is metered"
    names = ", ".join(sorted(metered))
    return False, (
        f"the worker has opened the GPU at {address}, but metered are {names}: set provider.device"
        " to a metered one"
    )


def _by_processes(provider: str, seen: Sequence[Presence]) -> tuple[bool, str]:
    """A process of the trial must be on a GPU; that all such GPUs are metered is known already."""
    if here := [gpu.device for gpu in seen if gpu.most]:
        return True, f"processes of the trial compute on {', '.join(here)}, metered"
    unproven = f"it is not proven that provider.name={provider} computes on a metered GPU:"
    if not seen:
        why = "the engine reports no device_uuid, and no GPU its processes: see slm-energy doctor"
    elif unknown := [gpu.error for gpu in seen if gpu.most is None]:
        why = unknown[0] or "the sampler read nothing while the trial ran"
    else:
        why = "no driver lists a process of the trial; in a container set --pid=host"
    return False, f"{unproven} {why}"


def _presences(capture: Capture) -> Iterator[Presence]:
    """What each GPU showed from the end of loading to the end of serving.

    A process keeps its memory for that long, so a short serve window needs no reading of its own.
    """
    load, serve = capture.window("load"), capture.window("serve")
    if serve is None:
        return
    start_ns = load.end_ns if load else serve.start_ns
    for series in capture.series:
        if series.source.kind == "gauge" and series.source.id.endswith(_PRESENCE):
            yield _presence(series, start_ns, serve.end_ns)


def _presence(series: Series, start_ns: int, end_ns: int) -> Presence:
    spans = enumerate(zip(series.before_ns, series.after_ns, strict=True))
    rows = [row for row, (before, after) in spans if start_ns <= before and after <= end_ns]
    known = [raw for row in rows if (raw := series.raw[row]) is not None]
    errors = [series.errors[str(row)] for row in rows if series.raw[row] is None]
    return Presence(
        source=series.source,
        most=int(max(known)) if known else None,
        error=errors[0] if errors else None,
    )
