"""What a sum of joules covers: domains x devices. Totals of different scope are never compared.

    of_sources, of_figures   the scope of what is summed
    lacking                  what a trial computes on and its sum does not contain
    difference               what one scope has and the other lacks

Devices are identified by what does not change at a reboot: the socket's number, the GPU's UUID. A
sum without any processor is stored as `energy_devices/sum_j`, never as `energy/total_j`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from slm_energy.record import EnergyFigure, Source
from slm_energy.serialization import Json

TOTAL, DEVICES_SUM = "total", "sum"
"""Domain of a figure that sums others: with the processors, and of other devices alone."""

WHOLE = ("machine", "wall")
"""Domains that contain every device."""

WITH_PROCESSOR = ("cpu_package", "psys", *WHOLE)
"""Domains that contain the processors."""

_ON_PROCESSOR = ("cpu", "openvino_npu")
"""Providers that compute within the processor's package; Intel's NPUs are a part of it."""

_SPELLED = {
    "psys": "platform (psys)",
    "wall": "whole machine at the wall",
    "machine": "whole machine",
}
_RAPL = ("cpu_package", "cpu_core", "cpu_uncore", "dram")
_METERS = {"processor": ("rapl:", "hwmon:"), "device": ("nvml:", "amd:", "hwmon:")}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Part:
    """One device of one domain.

    Attributes:
        domain: such as `cpu_package`.
        device: its identity, such as `package-0` or a GPU's UUID; empty where it is not recorded,
            and for the whole machine.
        name: its product name; not part of the identity.
    """

    domain: str
    device: str
    name: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The disjoint parts of a sum.

    Attributes:
        kind: `measured`, or `estimated` where a model stands for the whole machine.
        parts: sorted.
    """

    kind: Literal["measured", "estimated"]
    parts: tuple[Part, ...]

    @property
    def domains(self) -> frozenset[str]:
        """The domains of the parts."""
        return frozenset(part.domain for part in self.parts)

    @property
    def recorded(self) -> bool:
        """Whether the devices are known: older versions stored the domains only."""
        return all(part.device or part.domain in WHOLE for part in self.parts)

    @property
    def digest(self) -> str:
        """12 hex digits: equal for equal scopes."""
        identity = [self.kind, *([part.domain, part.device] for part in self.parts)]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]

    @property
    def words(self) -> str:
        """Such as `processor package and DRAM of 1 socket, 1 GPU (NVIDIA H100)`."""
        if self.kind == "estimated":
            return "a model's estimate of the whole machine, nothing measured"
        if not self.recorded:
            return f"{', '.join(sorted(self.domains))} (devices not recorded)"
        texts = [*_sockets(self.parts), *_others(self.parts)]
        missing = _missing(self.domains)
        if self.domains == {"gpu"}:
            texts = [f"GPU only: {', '.join(texts)}"]
        return ", ".join(texts) + (f"; {' and '.join(missing)} not included" if missing else "")

    def of_any_node(self) -> Scope:
        """The same scope on every node of a cluster: devices by name and number, not identity."""
        counts = Counter[tuple[str, str]]()
        parts = []
        for part in self.parts:
            counts[part.domain, part.name] += 1
            device = f"{part.name} #{counts[part.domain, part.name]}".strip()
            parts.append(dataclasses.replace(part, device=device))
        return dataclasses.replace(self, parts=tuple(sorted(parts)))


def of_sources(sources: Iterable[Source]) -> Scope | None:
    """The scope of what is summed, else of an estimate; None if there is neither."""
    return _scope([(s.kind, s.summed, s.domain, s.device) for s in sources])


def of_figures(figures: Iterable[EnergyFigure]) -> Scope | None:
    """The same, of the figures of a trial's serve window."""
    rows: list[tuple[str, bool, str, str | None]] = []
    for figure in figures:
        if figure.window == "serve" and figure.domain not in (TOTAL, DEVICES_SUM):
            device = figure.pedigree.get("device")
            rows.append((figure.kind, figure.summed, figure.domain, str(device or "")))
    return _scope(rows)


def of_domains(domains: Collection[str]) -> Scope:
    """The scope of a measured sum whose devices were not recorded."""
    parts = tuple(Part(domain=domain, device="") for domain in sorted(domains))
    return Scope(kind="measured", parts=parts)


def difference(before: Scope, now: Scope) -> str:
    """What `before` has and `now` lacks, and the reverse; empty if they are equal."""
    texts = []
    for what, one, other in (("no longer", before, now), ("new", now, before)):
        parts = sorted(set(one.parts) - set(other.parts))
        if parts:
            names = ", ".join(f"{part.domain} {part.device}".strip() for part in parts)
            texts.append(f"{what}: {names}")
    if not texts and before.kind != now.kind:
        texts.append(f"{before.kind} before, {now.kind} now")
    return "; ".join(texts)


def comparable(a: Scope, b: Scope) -> bool:
    """Whether the sums of two machines cover the same domains of equally many devices."""
    if not (a.recorded and b.recorded):
        return a.domains == b.domains
    return Counter(part.domain for part in a.parts) == Counter(part.domain for part in b.parts)


def covers_alike(a: Scope, b: Scope) -> bool:
    """Whether the sums of two machines cover the same of a computer, whatever devices it has.

    Sockets and GPUs may be more on one of them: that is what is compared.
    """
    if not (has_processor(a.domains) and has_processor(b.domains)):
        return a.domains == b.domains
    return a.domains - {"gpu"} == b.domains - {"gpu"}


def lacking(
    domains: Collection[str], provider: str, effective: Mapping[str, Json] | None = None
) -> str | None:
    """What a provider computes on, if a sum over these domains does not contain it; else None.

    Args:
        domains: of the sum.
        provider: name of the trial's execution provider. One that is not known computes on a GPU,
            or on a device whose domain has its name.
        effective: the settings in force, of which `device_type` says whether an Intel GPU is a part
            of the processor's package; None before the engine has reported any.

    Returns:
        `processor` or `GPU`.
    """
    if provider in _ON_PROCESSOR:
        return None if _any(domains, WITH_PROCESSOR) else "processor"
    device_type = (effective or {}).get("device_type")
    if provider == "openvino_gpu" and device_type != "discrete":
        enough = WITH_PROCESSOR if device_type == "integrated" else ("gpu", *WITH_PROCESSOR)
        return None if _any(domains, enough) else "GPU"
    return None if _any(domains, ("gpu", provider, *WHOLE)) else "GPU"


def refusals(scope: Scope | None, providers: Iterable[str], notes: Sequence[str]) -> list[str]:
    """`refusal` of each provider whose device a measured sum does not contain.

    Args:
        scope: what would be summed; an estimate stands for the whole machine.
        providers: of the coming trials.
        notes: of the meters, one line each.
    """
    if scope is None or scope.kind == "estimated":
        return []
    return [
        refusal(scope, provider, device, notes)
        for provider in sorted(providers)
        if (device := lacking(scope.domains, provider)) is not None
    ]


def refusal(scope: Scope, provider: str, device: str, notes: Sequence[str]) -> str:
    """One line: the provider's device is not in the sum, and the remedy.

    Args:
        scope: what is summed.
        provider: the trial's.
        device: what `lacking` returned.
        notes: of the meters, one line each.
    """
    meters = _METERS["processor" if device == "processor" else "device"]
    why = [note for note in notes if note.startswith(meters)]
    return (
        f"provider={provider} computes on the {device}, which is not in the sum ({scope.words})"
        f"{': ' if why else ''}{'; '.join(why)}; slm-energy doctor provider={provider} names what"
        " cannot be read; a meter at the wall (measurement=wall) covers the whole machine,"
        " measurement=off runs without energy"
    )


def has_processor(domains: Collection[str]) -> bool:
    """Whether a sum over these domains may be called the total."""
    return _any(domains, WITH_PROCESSOR)


def _any(domains: Collection[str], enough: Collection[str]) -> bool:
    return not set(domains).isdisjoint(enough)


def _scope(rows: Sequence[tuple[str, bool, str, str | None]]) -> Scope | None:
    """Rows are kind, summed, domain, device."""
    measured = [row for row in rows if row[1] and row[0] in ("counter", "power")]
    estimated = [row for row in rows if row[0] == "estimate"]
    if not measured and not estimated:
        return None
    parts = {_part(domain, device or "") for _, _, domain, device in measured or estimated}
    kind: Literal["measured", "estimated"] = "measured" if measured else "estimated"
    return Scope(kind=kind, parts=tuple(sorted(parts)))


def _part(domain: str, device: str) -> Part:
    if domain in WHOLE:  # the device is the machine, whichever meter reads it
        return Part(domain=domain, device="")
    if domain in _RAPL:  # `package-0/dram`; powercap and perf may differ in the dies they list
        return Part(domain=domain, device=device.split("/")[0].split("-die-")[0])
    identity, _, name = device.partition(" ")  # a GPU's UUID and its name
    return Part(domain=domain, device=identity, name=name)


def _sockets(parts: Sequence[Part]) -> list[str]:
    """Packages and memory; together where both are of the same sockets."""
    packages, memory = (
        {part.device for part in parts if part.domain == domain}
        for domain in ("cpu_package", "dram")
    )
    if packages and packages == memory:
        return [f"processor package and DRAM of {_count(len(packages), 'socket')}"]
    texts = [f"processor package of {_count(len(packages), 'socket')}"] if packages else []
    return texts + ([f"DRAM of {_count(len(memory), 'socket')}"] if memory else [])


def _others(parts: Sequence[Part]) -> list[str]:
    texts = []
    for domain in sorted({part.domain for part in parts} - {"cpu_package", "dram"}):
        own = [part for part in parts if part.domain == domain]
        names = ", ".join(filter(None, dict.fromkeys(part.name or part.device for part in own)))
        what = "GPU" if domain == "gpu" else f"{domain} device"
        count = _count(len(own), what) + (f" ({names})" if names else "")
        texts.append(_SPELLED.get(domain, count))
    return texts


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _missing(domains: Collection[str]) -> list[str]:
    if not {"psys", *WHOLE}.isdisjoint(domains):
        return []
    lacks = {"processors": "cpu_package", "memory": "dram"}
    return [name for name, domain in lacks.items() if domain not in domains]
