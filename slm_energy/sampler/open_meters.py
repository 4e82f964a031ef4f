"""All that can be read on this machine: every meter opened, its sources calibrated and summed."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import shortest_window_s
from slm_energy.errors import MeterError
from slm_energy.meters.amd.meter import open_amd
from slm_energy.meters.base import Meter, MeterFactory, Opened
from slm_energy.meters.codecarbon import open_codecarbon
from slm_energy.meters.domains import cut
from slm_energy.meters.host import open_host
from slm_energy.meters.hwmon import open_hwmon
from slm_energy.meters.hwmon_drivers import metered_elsewhere
from slm_energy.meters.nvml.meter import open_nvml
from slm_energy.meters.rapl import open_rapl
from slm_energy.meters.wall import open_wall
from slm_energy.record import Source
from slm_energy.sampler.calibration import calibrate
from slm_energy.sampler.channels import NumberedChannel
from slm_energy.sampler.stored_calibrations import calibrated

BUILT_IN: dict[str, MeterFactory] = {
    "rapl": open_rapl,
    "nvml": open_nvml,
    "amd": open_amd,
    "hwmon": open_hwmon,
    "wall": open_wall,
    "host": open_host,
}
_GROUP = "slm_energy.meters"
_CONTRACT = ("channels", "slow", "watch", "close")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Instruments:
    """Open meters.

    Attributes:
        meters: in the order in which they were opened.
        channels: theirs, one meter after the other, with measured update periods, and `summed` set
            for the disjoint cut of all sources.
        notes: what could not be opened, measured or summed, with the remedy; one line each.
    """

    meters: tuple[Meter, ...]
    channels: tuple[NumberedChannel, ...]
    notes: tuple[str, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the channels read."""
        return tuple(channel.source for channel in self.channels)

    def close(self) -> None:
        """Release all handles."""
        for meter in self.meters:
            meter.close()


def open_instruments(measurement: MeasurementConfig) -> Instruments:
    """Open every meter, built in or from the entry-point group `slm_energy.meters`; calibrate.

    An entry point names a `MeterFactory`. CodeCarbon's estimate is opened only if no meter has a
    source that belongs to the sum. Takes up to 3 s, in which the counters' updates are timed.

    Raises:
        MeterError: `measurement.mode=strict` and nothing can be measured; the meter of
            `measurement.wall_meter` cannot be read; two meters claim one id or one device; a meter
            lacks a part of the contract; a pattern of `measurement.leave_out` matches no source.
    """
    with contextlib.ExitStack() as on_error:
        meters, notes = list[Meter](), list[str]()
        for name, factory in _factories():
            opened = factory(measurement)
            notes += opened.notes
            if opened.meter is not None:
                _check(name, opened.meter)
                on_error.callback(opened.meter.close)
                meters.append(opened.meter)
            elif factory is open_wall and measurement.wall_meter is not None:
                # Requested by name: going on without it would change what is summed.
                raise MeterError(
                    f"{'; '.join(opened.notes)} (measurement=auto runs without this meter)"
                )
        left_out = _left_out(meters, measurement.leave_out)
        notes += [f"measurement.leave_out: {name} is neither read nor summed" for name in left_out]
        sources, more = _calibrated(meters, left_out, measurement.target_error)
        notes += more
        if not any(source.summed for source in sources):
            estimate = _estimate(measurement, notes)
            notes += estimate.notes
            if estimate.meter is not None:
                meters.append(estimate.meter)
                sources += tuple(channel.source for channel in estimate.meter.channels)
        on_error.pop_all()
    channels = _numbered(meters, {source.id: source for source in sources})
    return Instruments(meters=tuple(meters), channels=channels, notes=tuple(notes))


def _factories() -> list[tuple[str, MeterFactory]]:
    others = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return [*BUILT_IN.items(), *((point.name, point.load()) for point in others)]


def _check(name: str, meter: Meter) -> None:
    missing = [part for part in _CONTRACT if not hasattr(meter, part)]
    if not missing:
        return
    old = missing == ["channels"] and hasattr(meter, "sources")
    remedy = "replace its `sources` and `read(index)` by `channels`, or " if old else ""
    raise MeterError(
        f"the meter {name!r} has no `{missing[0]}`: {remedy}update the package that provides it in"
        f" {_GROUP}; slm_energy.meters.base.Meter is the contract"
    )


def _left_out(meters: Sequence[Meter], patterns: Sequence[str]) -> list[str]:
    """Ids of the energy sources that a pattern matches; a gauge stays, as checks depend on it."""
    sources = [channel.source for meter in meters for channel in meter.channels]
    ids = [source.id for source in sources if source.kind != "gauge"]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in ids):
            there_are = ", ".join(ids) or "none"
            raise MeterError(
                f"measurement.leave_out: {pattern!r} matches no energy source; there are:"
                f" {there_are}"
            )
    return [name for name in ids if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _calibrated(
    meters: Sequence[Meter], left_out: Sequence[str], target_error: float
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Measure the sources of all meters that are quick to read, and decide what is summed."""
    claimed = [
        channel.source
        for meter in meters
        for channel in meter.channels
        if channel.source.id not in left_out
    ]
    ids = [source.id for source in claimed]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise MeterError(f"two meters claim the source {twice[0]}: uninstall one of them")
    candidates = {source.id: source for source in cut(claimed)[0]}
    quick = [
        dataclasses.replace(channel, source=candidates[channel.source.id])
        for meter in meters
        if not meter.slow
        for channel in meter.channels
        if channel.source.id in candidates
    ]
    measured, mirrors, unchanged = calibrate(quick)
    known = candidates | {source.id: source for source in measured}
    sources, notes = cut(list(known.values()), mirrors | metered_elsewhere(claimed))
    sources, calibrations = calibrated(sources)
    long = _long_windows(sources, target_error)
    return sources, (*unchanged, *notes, *calibrations, *long)


def _long_windows(sources: Sequence[Source], target_error: float) -> list[str]:
    """What a summed counter with coarse steps means for every trial."""
    coarse = [s for s in sources if s.summed and s.kind == "counter" and s.quantum > 1]
    lengths_s = {source.id: shortest_window_s(source, target_error) for source in coarse}
    return [
        f"{name}: its steps make windows of {length_s:,.0f} s necessary for"
        f" measurement.target_error={target_error:g}"
        for name, length_s in lengths_s.items()
        if length_s is not None
    ]


def _estimate(measurement: MeasurementConfig, notes: Sequence[str]) -> Opened:
    if measurement.mode == "strict":
        why = "; ".join(notes)
        raise MeterError(f"measurement.mode=strict, and no energy can be measured here: {why}")
    return open_codecarbon(measurement)


def _numbered(
    meters: Sequence[Meter], sources: Mapping[str, Source]
) -> tuple[NumberedChannel, ...]:
    channels = [
        (meter, channel)
        for meter in meters
        for channel in meter.channels
        if channel.source.id in sources
    ]
    return tuple(
        NumberedChannel(
            number=number, meter=meter, source=sources[channel.source.id], read=channel.read
        )
        for number, (meter, channel) in enumerate(channels)
    )
