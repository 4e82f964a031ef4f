"""Between trials: wait until the machine is as calm as it was when the sweep began.

A processor that the previous trial has heated leaks more and clocks lower, and processes left from
it compete for it: then the order of trials shows in the joules. A fixed pause is too long for one
machine and too short for another. So the gate looks, through the sampling process, at the machine's
load, temperature and power.

Rest is how the machine was when the sweep began, not a fixed threshold: a machine that is never
idle has a busy rest. The gate waits only while a quantity is above rest. Where the longest wait
does not bring the machine to rest, later trials wait only for the level that it did reach: a
machine that stays busier costs the wait once, one that cools down slowly begins every trial equally
warm, and each of these trials is flagged, since it did not begin at rest.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from slm_energy.config.groups import GateConfig
from slm_energy.derive.energy.accounting import account, total
from slm_energy.record import GateQuantity, GateReport, Series, Source, Unit, Window
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.scratch import scratch
from slm_energy.serialization import read_json, write_json

_REST_LOOKS = 4
_LEAST_W = 1.0
"""Idle power of a few watts moves by more than a few percent of itself."""


class Reading(NamedTuple):
    """One quantity in one look."""

    value: float
    unit: Unit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One quantity at rest: its mean over several looks, and its highest value."""

    mean: float
    highest: float
    unit: Unit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """A machine at rest: its levels, by quantity."""

    levels: dict[str, Level]


class Gate:
    """What the trials of a sweep pass before they begin.

    Args:
        config: how long to wait, and what passes for rest.
        sampler: reads the machine; None where nothing is metered, and then there is only the fixed
            pause.
        rest_file: keeps for later processes how the machine is at rest: a job that took the present
            state of its node for rest would include the heat of the previous job. Where it is None
            or absent, rest is how the machine is now, which takes four looks to measure.
        look_s: duration of a look, over which load and power are measured.

    Raises:
        MeterError: the sampling process cannot be brought to sample.
        OSError: the file cannot be written.
        ValueError: the file was not written by a gate.
    """

    def __init__(
        self,
        config: GateConfig,
        sampler: Sampler | None,
        rest_file: Path | None = None,
        *,
        look_s: float = 0.5,
    ) -> None:
        self._config = config
        self._look_s = look_s
        self._sampler = sampler if config.at_most_s else None
        self._rest = {} if self._sampler is None else _rest(self._sampler, look_s, rest_file)
        self._limits = {
            name: self._limit(level.highest, level.unit) for name, level in self._rest.items()
        }
        # Limits around the level that the longest wait reached, if that was not rest.
        self._reached: dict[str, float] = {}

    def wait(self, progress: Callable[[str, float], None]) -> GateReport | None:
        """Sleep for the fixed pause, then wait until the machine is at rest or the time is up.

        Args:
            progress: called at each look with what is waited for, and the share of the longest wait
                that has passed.

        Returns:
            What was waited for; None where there was nothing to wait for.

        Raises:
            MeterError: the sampling process cannot be brought to sample.
        """
        pause_s = self._config.pause_s
        if pause_s:
            progress("pause", 0.0)
            time.sleep(pause_s)
        if self._sampler is None:
            return self._report(0.0, {}, {}) if pause_s else None
        return self._until_rest(self._sampler, progress)

    def _until_rest(self, sampler: Sampler, progress: Callable[[str, float], None]) -> GateReport:
        begun, at_most_s = time.monotonic(), self._config.at_most_s
        progress("gate", 0.0)
        first = now = _look(sampler, self._look_s)
        while True:
            report = self._report(time.monotonic() - begun, first, now)
            restless = [quantity for quantity in report.quantities if not quantity.at_rest]
            if not restless:
                self._reached = {}
                return report
            if self._reached and _within(now, self._reached):
                return report
            if report.waited_s >= at_most_s:
                self._reached = {
                    name: self._limit(now[name].value, now[name].unit)
                    for name in self._rest.keys() & now.keys()
                }
                return report
            text = f"gate, {report.waited_s:.0f} s: {restless[0].description}"
            progress(text, report.waited_s / at_most_s)
            now = _look(sampler, self._look_s)

    def _report(
        self, waited_s: float, first: Mapping[str, Reading], last: Mapping[str, Reading]
    ) -> GateReport:
        quantities = [
            GateQuantity(
                name=name,
                unit=level.unit,
                rest=level.mean,
                limit=self._limits[name],
                first=first[name].value if name in first else None,
                last=last[name].value if name in last else None,
            )
            for name, level in self._rest.items()
        ]
        return GateReport(
            pause_s=self._config.pause_s,
            waited_s=waited_s,
            at_most_s=self._config.at_most_s,
            quantities=tuple(quantities),
        )

    def _limit(self, value: float, unit: Unit) -> float:
        """The highest value that still counts as calm as `value`."""
        if unit == "pct":
            return value + self._config.load_pct
        if unit == "C":
            return value + self._config.temperature_c
        return value + max(_LEAST_W, value * self._config.power_pct / 100)


def readings(series: Sequence[Series], window: Window, max_gap_ns: int) -> dict[str, Reading]:
    """Load, temperature and power during one look, by name.

    Power is that of the sources that are summed, per domain: counted or integrated over the window.
    What could not be read is left out.

    Args:
        series: of all sources.
        window: the part of them that energy is known for.
        max_gap_ns: see `account`.
    """
    by_name = dict[str, Reading]()
    for gauge in series:
        known = [float(raw) for raw in gauge.raw if raw is not None]
        if _is_load_or_temperature(gauge.source) and known:
            by_name[_name(gauge.source)] = Reading(statistics.fmean(known), gauge.source.unit)
    summed = [s for s in series if s.source.summed]
    for domain in dict.fromkeys(s.source.domain for s in summed):
        parts = [s for s in summed if s.source.domain == domain]
        whole = total([account(s, window, max_gap_ns=max_gap_ns) for s in parts])
        if whole is not None and whole.joules is not None:
            by_name[f"{domain} power"] = Reading(whole.joules / window.duration_s, "W")
    return by_name


def _is_load_or_temperature(source: Source) -> bool:
    is_load = source.id.endswith("utilization_percentage")
    return source.kind == "gauge" and (is_load or source.unit == "C")


def _name(source: Source) -> str:
    """`gpu_0_temperature_celsius` is `gpu 0 temperature`."""
    return source.id.rpartition("_")[0].replace("_", " ")


def _rest(sampler: Sampler, look_s: float, file: Path | None) -> dict[str, Level]:
    """The machine at rest, from the file, or else as it is now."""
    if file is not None and file.exists():
        return read_json(file, Rest).levels
    levels = _levels(sampler, look_s)
    if file is not None:
        write_json(file, Rest(levels=levels))
    return levels


def _levels(sampler: Sampler, look_s: float) -> dict[str, Level]:
    """The machine as it is now: the quantities that every look has."""
    looks = [_look(sampler, look_s) for _ in range(_REST_LOOKS)]
    levels = dict[str, Level]()
    for name, (_, unit) in looks[0].items():
        values = [look[name].value for look in looks if name in look]
        if len(values) == len(looks):
            levels[name] = Level(mean=statistics.fmean(values), highest=max(values), unit=unit)
    return levels


def _look(sampler: Sampler, look_s: float) -> dict[str, Reading]:
    """Sample for a while in which no trial runs."""
    with scratch() as folder:
        file = folder / "samples.jsonl"
        sampler.begin(os.getpid(), file, slow=False)
        start_ns = time.monotonic_ns()
        time.sleep(look_s)
        window = Window(name="gate", start_ns=start_ns, end_ns=time.monotonic_ns())
        sampler.end()
        series, _ = read_samples(file)
    return readings(series, window, round(sampler.measurement.max_gap_s * 1e9))


def _within(now: Mapping[str, Reading], limits: Mapping[str, float]) -> bool:
    return all(name in now and now[name].value <= limit for name, limit in limits.items())
