"""Calibrate this machine's sources: idle and loads against a reference, fitted and stored.

The models and their formulas are in `calibration_fit.py`. Nothing is stored where the machine was
not idle, the reference covers less than a source, or there are too few readings.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.config.options import CalibrateOptions
from slm_energy.doctor import contention
from slm_energy.doctor.calibration_curves import Phase
from slm_energy.doctor.calibration_fit import Fit, Relation, fit
from slm_energy.doctor.load import PROCESSORS, gpus_can_be_loaded, running
from slm_energy.errors import ConfigError, MeterError
from slm_energy.machine import measuring
from slm_energy.record import Calibration, SamplerReport, Series, Source
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.sampler.stored_calibrations import StoredCalibration, store

_IDLE_S = 2.0
_FOREIGN = "foreign_cpu_percentage"
_INSIDE = {
    "wall": {"machine", "psys", "cpu_package", "cpu_core", "cpu_uncore", "dram", "gpu"},
    "machine": {"psys", "cpu_package", "cpu_core", "cpu_uncore", "dram", "gpu"},
    "psys": {"cpu_package", "cpu_core", "cpu_uncore"},
}
"""Domains that another one contains on every machine; whether psys has the memory varies."""

_LOSSES = {"wall": "power supply losses", "machine": "what has no sensor of its own"}

Loads = Callable[[str, float], AbstractContextManager[None]]
"""Keeps something busy, see `load.running`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What was fitted and stored.

    Attributes:
        reference: the source that the others were compared with.
        reference_words: its name in the stored calibrations.
        fit: the figures.
        file: where they are stored; None if no source could be fitted.
    """

    reference: Source
    reference_words: str
    fit: Fit
    file: Path | None


def calibrate(
    measurement: MeasurementConfig,
    options: CalibrateOptions,
    folder: Path,
    progress: Callable[[str], None],
    loads: Loads = running,
) -> Result:
    """Run all phases, fit, and store; takes `rounds` times all phases.

    Args:
        measurement: which meters there are, and how much other load is tolerated.
        options: reference, loads, and how long.
        folder: for the readings and the sampler's log.
        progress: called with a line as each phase begins.
        loads: makes the load.

    Raises:
        ConfigError: a level is not a share, or `against` names no source.
        MeterError: there is no reference, nothing to compare with it, the machine is not idle, or
            its readings do not suffice.
    """
    if not options.levels or any(not 0 < level <= 1 for level in options.levels):
        raise ConfigError(f"levels={list(options.levels)}: each is above 0 and at most 1")
    with measuring(_refuse_second):
        auto = dataclasses.replace(measurement, mode="auto")
        with Sampler(auto, folder) as sampler:
            reference = _reference(sampler.sources, options.against)
            same, parts = _comparable(sampler.sources, reference)
            names = _load_names(reference, [*same, *parts], gpus=options.gpus)
            _refuse_load(measurement)
            file = folder / "calibration.jsonl"
            sampler.begin(os.getpid(), file)
            phases = _run(names, options, progress, loads)
            sampler.end()
        series, report = read_samples(file)
    _refuse_disturbed(series, report, measurement)
    by_id = {one.source.id: one for one in series}
    groups = {load: [by_id[s.id] for s in parts if _load_of(s) == load] for load in names}
    result = fit(
        by_id[reference.id],
        [by_id[source.id] for source in same],
        {load: several for load, several in groups.items() if several},
        phases,
        max_gap_ns=round(measurement.max_gap_s * 1e9),
    )
    idle = {s.id: f"{s.id}: no load was run on it" for s in parts if _load_of(s) not in names}
    result = dataclasses.replace(result, left_out=result.left_out | idle)
    return _stored(result, reference, sampler.sources)


def _refuse_second(path: Path) -> None:
    raise MeterError(f"a sweep measures now (it holds {path}): calibrate when it has ended")


def _refuse_load(measurement: MeasurementConfig) -> None:
    before = contention.usage()
    time.sleep(_IDLE_S)
    limit_pct = measurement.limits.foreign_cpu_pct
    load = contention.foreign_load(before, contention.usage(), limit_pct)
    if load.verdict == "warn":
        raise MeterError(
            f"the machine is not idle ({load.detail}): end other programs, or raise"
            f" measurement.limits.foreign_cpu_pct={limit_pct:g}"
        )


def _refuse_disturbed(
    series: Sequence[Series], report: SamplerReport, measurement: MeasurementConfig
) -> None:
    if not report.finished:
        raise MeterError("the sampler ended early: run slm-energy doctor, and calibrate again")
    limit_pct = measurement.limits.foreign_cpu_pct
    for one in series:
        known = [float(raw) for raw in one.raw if raw is not None]
        if one.source.id == _FOREIGN and known and statistics.fmean(known) > limit_pct:
            raise MeterError(
                f"other programs used {statistics.fmean(known):.3g} % of all processors meanwhile,"
                f" more than measurement.limits.foreign_cpu_pct={limit_pct:g}: end them, and"
                " calibrate again"
            )


def _reference(sources: Sequence[Source], against: str | None) -> Source:
    measured = {s.id: s for s in sources if s.kind in ("counter", "power")}
    if against is not None:
        if against not in measured:
            raise ConfigError(
                f"against={against}: this machine has {', '.join(measured) or 'none'}"
            )
        return measured[against]
    walls = [source for source in measured.values() if source.domain == "wall"]
    if not walls:
        raise ConfigError(
            "there is no reference: set measurement=wall with measurement.wall_meter.url=..., or"
            f" against= one of {', '.join(measured) or 'the sources that doctor lists'}"
        )
    return walls[0]


def relation(reference: Source, source: Source) -> Relation | None:
    """What a reference covers of a source; None if it is neither the same nor contains it."""
    if reference.domain == source.domain:
        return "same" if reference.device == source.device else None
    return "part" if source.domain in _INSIDE.get(reference.domain, ()) else None


def _comparable(sources: Sequence[Source], reference: Source) -> tuple[list[Source], list[Source]]:
    """The sources that measure the same as the reference, and those of the sum within it.

    Raises:
        MeterError: there are none.
    """
    others = [s for s in sources if s.kind in ("counter", "power") and s.id != reference.id]
    same = [source for source in others if relation(reference, source) == "same"]
    parts = [s for s in others if s.summed and relation(reference, s) == "part"]
    if not same and not parts:
        raise MeterError(
            f"{reference.id} cannot be a reference: it covers {reference.domain}"
            f" ({reference.device}), and no other source here measures the same or a part of it"
            f" ({', '.join(f'{s.id}: {s.domain}' for s in others) or 'there is no other'}); set"
            " against=... to one that covers more"
        )
    return same, parts


def _load_of(source: Source) -> str:
    """The load that moves a source: a GPU's UUID, or the processors."""
    if source.domain == "gpu":
        return source.id.split("/")[1]
    return PROCESSORS


def _load_names(reference: Source, sources: Sequence[Source], *, gpus: bool) -> list[str]:
    """The loads that can be run and move one of the sources.

    Raises:
        MeterError: the reference is a GPU's, and no load can be run on it.
    """
    names = [PROCESSORS]
    loadable = [s.id.split("/")[1] for s in sources if s.id.startswith("nvml/GPU-")]
    if gpus and loadable and gpus_can_be_loaded():
        names += dict.fromkeys(loadable)
    if _load_of(reference) not in names:
        raise MeterError(
            f"against={reference.id}: no load can be run on this GPU: set gpus=true, and run this"
            " where torch has CUDA"
        )
    return names


def _run(
    names: Sequence[str],
    options: CalibrateOptions,
    progress: Callable[[str], None],
    loads: Loads,
) -> tuple[Phase, ...]:
    """Run all phases. The order of levels alternates, so that drift is no load."""
    plan = [
        step
        for number in range(options.rounds)
        for step in [
            ("idle", 0.0),
            *((n, level) for n in names for level in options.levels[:: -1 if number % 2 else 1]),
        ]
    ]
    phases = list[Phase]()
    for number, (load, level) in enumerate(plan, start=1):
        left_s = (len(plan) - number + 1) * options.phase_s
        words = load if load == "idle" else f"{load} at {100 * level:.0f} %"
        progress(f"phase {number} of {len(plan)}: {words}; {left_s:.0f} s left")
        start_ns = phases[-1].end_ns if phases else time.monotonic_ns()
        with loads(load, level):
            time.sleep(max(0.0, start_ns / 1e9 + options.phase_s - time.monotonic()))
            end_ns = time.monotonic_ns()
        phases.append(Phase(load=load, level=level, start_ns=start_ns, end_ns=end_ns))
    # What is shown late belongs to the last phase too.
    time.sleep(options.phase_s / 4)
    return tuple(phases)


def _stored(result: Fit, reference: Source, sources: Sequence[Source]) -> Result:
    """Store what was fitted."""
    words, now_ns = reference.id, time.time_ns()
    if any(each.relation == "part" for each in result.sources):
        words = f"{words}, including {_LOSSES.get(reference.domain, 'conversion losses')}"
    known = {source.id: source for source in sources}
    new = [
        StoredCalibration(
            source=each.source,
            device=known[each.source].device,
            path=known[each.source].path,
            relation=each.relation,
            calibration=Calibration(
                reference=words if each.relation == "part" else reference.id,
                unix_ns=now_ns,
                gain=each.gain,
                offset_w=each.offset_w,
                lag_s=each.lag_s,
            ),
        )
        for each in result.sources
    ]
    file = store(new) if new else None
    return Result(reference=reference, reference_words=words, fit=result, file=file)
