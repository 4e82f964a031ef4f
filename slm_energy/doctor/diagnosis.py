"""Run all checks and draw the conclusion.

Exit code 0: energy is measured and no check fails (warnings are allowed). Also 0 with an estimate
instead of a sensor, unless `measurement.mode` is `strict`: runs work, and their energy is labelled
as estimated. Exit code 1: a check fails, such as a sum that lacks the device of a provider.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

from slm_energy.config.groups import MeasurementConfig, RunConfig
from slm_energy.derive.energy.accounting import shortest_window_s
from slm_energy.doctor import contention, places, processor, sensors, system
from slm_energy.doctor.counters import counters
from slm_energy.doctor.finding import Finding, seconds, text
from slm_energy.doctor.gpu import gpus_metered, nvidia
from slm_energy.doctor.sandbox import generated_code
from slm_energy.errors import MeterError, one_line
from slm_energy.machine import machine_id
from slm_energy.record import Source
from slm_energy.sampler.client import Sampler
from slm_energy.scope import has_processor, of_sources, refusals
from slm_energy.serialization import Json, to_plain

SCHEMA = 1

Energy = Literal["measured", "estimated", "none"]

HOST_CHECKS: tuple[Callable[[], Finding], ...] = (
    processor.governor,
    processor.energy_preference,
    processor.turbo,
    processor.smt,
    processor.throttling,
    processor.quota,
    processor.energy_filter,
    system.perf_events,
    system.virtual_machine,
    system.container,
    system.power_supply,
    system.memory,
    system.swap,
    system.clock,
    system.clocksource,
)

_LOAD_INTERVAL_S = 1.0
_SENSOR_BLOCKERS = ("container", "virtual machine", "GPUs metered")
"""Checks that may explain why there is no sensor."""

_WALL_METER = "wall meter: measurement=wall measurement.wall_meter.url=http://METER/..."


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Result of all checks.

    Attributes:
        energy: whether the energy of all requested providers is `measured`, `estimated` or
            unavailable (`none`).
        headline: the conclusion in one line.
        advice: first steps if there is no sensor.
        machine: identity of this machine, as in the store.
        target_error: the relative error that determines the shortest useful window.
        sources: all readable sources.
        notes: what the meters could not open or do not sum, and why.
        checks: the findings.
    """

    energy: Energy
    headline: str
    advice: tuple[str, ...]
    machine: str
    target_error: float
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    checks: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 if no check fails, else 1."""
        return int(any(check.verdict == "fail" for check in self.checks))

    def shortest_window_s(self, source: Source) -> float | None:
        """See `accounting.shortest_window_s`."""
        return shortest_window_s(source, self.target_error)

    def to_json(self) -> dict[str, Json]:
        """Convert to JSON; keys are stable within one schema."""
        sources = [
            to_plain(source) | {"shortest_window_s": self.shortest_window_s(source)}
            for source in self.sources
        ]
        plain: dict[str, Json] = to_plain(self)
        return {"schema": SCHEMA, "exit_code": self.exit_code} | plain | {"sources": sources}


def examine(config: RunConfig, folder: Path, providers: Collection[str] = ()) -> Diagnosis:
    """Run all checks; takes a few seconds.

    Args:
        config: configuration of the run to check for.
        folder: for the sampler's log.
        providers: execution providers of the whole grid; empty for that of `config`.
    """
    measurement, limits = config.measurement, config.measurement.limits
    before = contention.usage()
    time.sleep(_LOAD_INTERVAL_S)
    after = contention.usage()
    sources, notes, sampling = _sample(measurement, folder)
    measured = sensors.measured(sources)
    # A lost GPU has no UUID and cannot be queried.
    uuids = [source.id.split("/")[1] for source in measured if source.id.startswith("nvml/GPU-")]
    gpus = {source.device for source in measured if source.domain == "gpu"}
    lacks = refusals(of_sources(sources), providers or {config.provider.name}, notes)
    energy = "none" if lacks else _energy(sources)
    verdict = _lacking(lacks, measurement) if lacks else _verdict(energy, measurement, sources)
    checks = (
        verdict,
        sampling,
        sensors.powercap(Path(measurement.powercap_root), sources),
        sensors.periods(sources),
        counters(sources),
        gpus_metered(len(gpus)),
        *nvidia(uuids, limits.gpu_processes),
        contention.another_sweep(),
        contention.machine_lock(),
        contention.foreign_load(before, after, limits.foreign_cpu_pct),
        contention.steal(before, after, limits.steal_pct),
        *(check() for check in HOST_CHECKS),
        places.disk(config.tracking),
        places.store(config.tracking),
        generated_code(config.study),
    )
    return Diagnosis(
        energy=energy,
        headline=f"No total can be measured here: {lacks[0]}"
        if lacks
        else _headline(sources, measurement.target_error, verdict, sampling),
        advice=() if energy == "measured" else _advice(checks),
        machine=machine_id(),
        target_error=measurement.target_error,
        sources=sources,
        notes=notes,
        checks=checks,
    )


def _sample(
    measurement: MeasurementConfig, folder: Path
) -> tuple[tuple[Source, ...], tuple[str, ...], Finding]:
    """Start the sampling process as a run does, to see its sources and its processors.

    The mode is always `auto`: under `strict` the sampler would exit without reporting its sources.
    """
    try:
        with Sampler(dataclasses.replace(measurement, mode="auto"), folder) as sampler:
            assert sampler.pid is not None
            finding = processor.sampler_processor(
                os.sched_getaffinity(0), os.sched_getaffinity(sampler.pid)
            )
            return sampler.sources, sampler.notes, finding
    except MeterError as error:
        detail = one_line(error)
        log = folder / "sampler.log"
        if str(log) in str(error) and (lines := (text(log) or "").splitlines()):
            # The log may be deleted after the checks: quote it.
            detail = f"the sampler did not start: {one_line(lines[-1])}"
        return (), (), Finding(name="sampler", verdict="fail", detail=detail)


def _energy(sources: Sequence[Source]) -> Energy:
    if sensors.measured(sources):
        return "measured"
    return "estimated" if any(source.kind == "estimate" for source in sources) else "none"


def _lacking(lacks: Sequence[str], measurement: MeasurementConfig) -> Finding:
    """The conclusion where the sum lacks the device of a provider."""
    if measurement.mode == "off":
        return Finding(name="energy", verdict="warn", detail="measurement=off does not ask for it")
    return Finding(name="energy", verdict="fail", detail="; ".join(lacks), remedy=_WALL_METER)


def _verdict(energy: Energy, measurement: MeasurementConfig, sources: Sequence[Source]) -> Finding:
    """The conclusion of the command, as a check."""
    name = "energy"
    scope = of_sources(sources)
    if energy == "measured" and scope is not None:
        if has_processor(scope.domains):
            return Finding(name=name, verdict="ok", detail=f"measured: {scope.words}")
        remedy = f"for a total make RAPL readable (check RAPL), or add a {_WALL_METER}"
        return Finding(
            name=name, verdict="warn", detail=f"measured, no total: {scope.words}", remedy=remedy
        )
    if measurement.mode == "off":
        return Finding(name=name, verdict="warn", detail="measurement=off does not ask for it")
    if energy == "none":
        detail, remedy = "no sensor, and no estimate either", "measurement=off runs without energy"
        return Finding(name=name, verdict="fail", detail=detail, remedy=remedy)
    if measurement.mode == "strict":
        detail, remedy = "measurement=strict refuses to run", "measurement=auto estimates"
        return Finding(name=name, verdict="fail", detail=detail, remedy=remedy)
    detail, remedy = "runs carry an estimate, labelled as one", "see the first lines"
    return Finding(name=name, verdict="warn", detail=detail, remedy=remedy)


def _headline(
    sources: Sequence[Source], target_error: float, verdict: Finding, sampling: Finding
) -> str:
    if measured := sensors.measured(sources):
        domains = ", ".join(dict.fromkeys(source.domain for source in measured))
        lengths = [shortest_window_s(source, target_error) for source in measured]
        longest_s = max((length for length in lengths if length is not None), default=None)
        if longest_s is None:
            return f"Energy is measured here: {domains}"
        window = f"a window of {seconds(longest_s)} is known to {100 * target_error:.3g} %"
        return f"Energy is measured here: {domains}; {window}"
    why = sampling.detail if sampling.verdict == "fail" else "no sensor can be read"
    return f"No energy can be measured here: {why}; {verdict.detail}"


def _advice(checks: Sequence[Finding]) -> tuple[str, ...]:
    """First steps on a machine without a sensor."""
    by_name = {check.name: check for check in checks}
    if by_name["sampler"].verdict == "fail":
        return ()
    physical = by_name["virtual machine"].verdict == by_name["container"].verdict == "ok"
    names = ["RAPL"] if physical or by_name["RAPL"].verdict == "fail" else []
    names += [name for name in _SENSOR_BLOCKERS if by_name[name].verdict == "warn"]
    remedies = [(name, by_name[name].remedy) for name in names]
    return (*(f"{name}: {remedy}" for name, remedy in remedies if remedy), _WALL_METER)
