"""Which sources are added up: a disjoint cut of the tree of domains. Pure.

    wall > machine > psys > cpu_package > cpu_core, cpu_uncore
           machine > dram, gpu

A domain contains those to its right, so joules of both must never be added. Meters only state what
a source covers (`Source.domain`, `Source.device`); here the sources of all meters are known. The
sum has the finest parts that leave nothing out, because they come from the sensors with the
shortest update period: packages, memory and GPUs. Without packages, psys or a meter of the whole
machine it is no total (`scope.py`). For what contains what, and for memory, which no
package contains, see https://github.com/powercap/powercap/issues/3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from slm_energy.errors import MeterError
from slm_energy.record import Source
from slm_energy.scope import has_processor

KNOWN = ("cpu_package", "cpu_core", "cpu_uncore", "dram", "gpu", "psys", "machine", "wall")
"""The domains of the tree. A meter from elsewhere may have others."""

_SHARED_VALUES = 12
_PAST = 10
"""So many times what a counter counts while it is watched, it must have counted before."""


def cut(
    sources: Sequence[Source], mirrors: Mapping[str, str] | None = None
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Decide what is summed.

    Packages, memory and GPUs are; psys with the GPUs where there is no package; the wall, or else
    the whole machine, alone where there is neither, or where a GPU has gauges but no joules. One
    source per device: a counter rather than power, a register rather than its MMIO copy, power of
    the moment rather than averaged. Gauges and estimates never count. A domain outside the tree
    counts only if its meter declares with `summed=True` that it overlaps with nothing of the tree,
    and never beside the wall.

    Args:
        sources: of all meters.
        mirrors: ids that show another device's counter, as `clones` finds them; not summed.

    Returns:
        The sources in their order with `summed` set, and notes on what the sum leaves out.

    Raises:
        MeterError: two sources claim one device with equal right.
    """
    device = {source.id: source.device for source in sources}
    # Two sources of one device are not mirrors: as always, the better one is taken.
    mirrors = {one: other for one, other in (mirrors or {}).items() if device[one] != device[other]}
    measured = [s for s in sources if s.kind in ("counter", "power") and s.id not in mirrors]
    unmetered = _unmetered_gpus(sources, measured)
    added = _added({source.domain for source in measured}, complete=not unmetered)
    whole = not {"wall", "machine"}.isdisjoint(added)
    unknown = [source for source in measured if source.domain not in KNOWN]
    declared = [source for source in unknown if source.summed and not whole]
    parts = [source for source in measured if source.domain in added] + declared
    chosen = {
        source.id
        for domain in {part.domain for part in parts}
        for source in _one_per_device([part for part in parts if part.domain == domain])
    }
    notes = [
        f"{one} shows the counter of {other}: it is counted once" for one, other in mirrors.items()
    ]
    notes += [_unknown(source) for source in unknown if source not in declared]
    notes += _scope_notes(added, unmetered)
    return tuple(dataclasses.replace(s, summed=s.id in chosen) for s in sources), tuple(notes)


def _unmetered_gpus(sources: Sequence[Source], measured: Sequence[Source]) -> list[str]:
    """The GPUs that are seen by their gauges, such as `gpu_utilization`, but not metered."""
    metered = {source.device for source in measured if source.domain == "gpu"}
    seen = (s for s in sources if s.kind == "gauge" and s.domain.partition("_")[0].endswith("gpu"))
    return list(dict.fromkeys(s.device for s in seen if s.device and s.device not in metered))


def _added(present: Collection[str], *, complete: bool) -> set[str]:
    """The domains of the tree that are summed, of those present.

    Args:
        present: the domains of all measured sources.
        complete: no GPU lacks a source, so that the parts leave nothing out.
    """
    if not complete and not {"wall", "machine"}.isdisjoint(present):
        return {"wall"} if "wall" in present else {"machine"}
    if "cpu_package" in present:
        return {"cpu_package", "dram", "gpu"}.intersection(present)
    if "psys" in present:
        return {"psys", "gpu"}.intersection(present)
    for whole in ("wall", "machine"):
        if whole in present:
            return {whole}
    return {"dram", "gpu"}.intersection(present)


def _one_per_device(sources: Sequence[Source]) -> list[Source]:
    """The best source of each device of one domain.

    Raises:
        MeterError: there are two best, or one claims the whole domain beside one of its devices.
    """
    devices = list(dict.fromkeys(source.device for source in sources))
    if None in devices and len(devices) > 1:
        all_of_it = next(source for source in sources if source.device is None)
        part = next(source for source in sources if source.device is not None)
        raise _double_claim(all_of_it, part)
    best = []
    for device in devices:
        first, *rest = sorted((source for source in sources if source.device == device), key=_rank)
        if rest and _rank(rest[0]) == _rank(first):
            raise _double_claim(first, rest[0])
        best.append(first)
    return best


def _rank(source: Source) -> tuple[bool, bool, int]:
    """Lowest is best."""
    copy = source.id.startswith("rapl/intel-rapl-mmio:")
    return source.kind != "counter", copy, source.averaging_ns


def _double_claim(one: Source, other: Source) -> MeterError:
    if one.id.startswith("rapl/") and other.id.startswith("rapl/"):
        return MeterError(
            f"{one.id} and {other.id} are two zones named {one.device} with different counters:"
            " whether they overlap is unknown; measurement.leave_out=["
            f"{other.id}] leaves one out"
        )
    device = f" of {one.device}" if one.device == other.device and one.device else ""
    return MeterError(
        f"{one.id} and {other.id} both claim {one.domain}{device}: uninstall one meter, or let each"
        " name its own Source.device"
    )


def _unknown(source: Source) -> str:
    return (
        f"{source.id} is metered but not in the sum: its domain {source.domain} is none of"
        f" {', '.join(KNOWN)}; if it overlaps with none of them, its meter may set Source.summed"
    )


def _scope_notes(added: Collection[str], unmetered: Collection[str]) -> list[str]:
    """What the sum lacks, or has twice, against expectation."""
    notes = []
    if "cpu_package" in added and "dram" not in added:
        notes.append("energy/total_j is without memory: no source of domain dram can be read")
    if added and not has_processor(added):
        notes.append(
            "the sum is without the processor, and therefore energy_devices/sum_j, not a total: no"
            " source of domain cpu_package can be read"
        )
    if {"psys", "gpu"}.issubset(added):
        notes.append(
            "energy/total_j may count the GPU twice: what psys contains depends on the board"
        )
    if unmetered and not {"wall", "machine"}.isdisjoint(added):
        notes.append(
            f"the sum is that of the whole machine alone, because {', '.join(unmetered)} reports no"
            " energy"
        )
    return notes


def clones(values: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Detect counters that show one register under two names, as on the dies of AMD's Zen 1 and 2.

    Summing them would count the socket once per die
    (https://github.com/mlco2/codecarbon/issues/1274). Counters are the same if they agree at twelve
    values or more, and at half of all values that they showed. Two sockets differ in all they
    counted since power-on, also when both idle at the same power; one that overtakes the other
    equals it once; two that do not change share one value only. Agreement at every moment is not
    required: a register may tick between two readings.

    Two counters that were started a moment ago have no past in which they could differ, so nothing
    is decided about them: it takes ten times what was counted while they were watched.

    If two independent counters count the same between two ticks with a chance of p, then whatever
    they counted before, they agree after 12 of 21 ticks with a chance of at most C(21, 12) p^12,
    3e-7 for p = 0.1. A package's counter has steps of 61 uJ and counts hundreds of them per tick,
    with a spread of tens: p < 0.03.

    Args:
        values: id to raw values, for counters of one domain. The values of equal index were read
            right after each other, in well under the update period; the counters moved in between.

    Returns:
        The id of each clone, and an earlier id that shows the same counter.
    """
    originals: dict[str, str] = {}
    ids = list(values)
    for number, one in enumerate(ids):
        for other in ids[:number]:
            if _same_counter(values[one], values[other]):
                originals[one] = other
                break
    return originals


def _same_counter(one: Sequence[int], other: Sequence[int]) -> bool:
    shared = {a for a, b in zip(one, other, strict=True) if a == b}
    shown = max(len(set(one)), len(set(other)))
    if len(shared) < max(_SHARED_VALUES, shown / 2):
        return False
    counted = sum(max(0, later - earlier) for earlier, later in pairwise(one))  # less any wrap
    return min(one[0], other[0]) >= _PAST * counted
