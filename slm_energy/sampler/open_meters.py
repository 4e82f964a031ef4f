"""All that can be read on this machine: every meter opened, its sources cut and calibrated."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

from slm_energy.config.groups import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.meters.amd.meter import open_amd
from slm_energy.meters.base import Meter, MeterFactory, Opened
from slm_energy.meters.codecarbon import open_codecarbon
from slm_energy.meters.domains import cut
from slm_energy.meters.host import open_host
from slm_energy.meters.nvml.meter import open_nvml
from slm_energy.meters.rapl import open_rapl
from slm_energy.meters.wall import open_wall
from slm_energy.record import Source
from slm_energy.sampler.calibration import Channel, calibrate

BUILT_IN: dict[str, MeterFactory] = {
    "rapl": open_rapl,
    "nvml": open_nvml,
    "amd": open_amd,
    "wall": open_wall,
    "host": open_host,
}
_GROUP = "slm_energy.meters"
_CONTRACT = ("sources", "slow", "watch", "read", "close")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Instruments:
    """Open meters.

    Attributes:
        meters: in the order in which they were opened.
        sources: theirs, one meter after the other, with measured update periods, and `summed` set
            for the disjoint cut of all of them.
        notes: what could not be opened, measured or summed, with the remedy; one line each.
    """

    meters: tuple[Meter, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

    @property
    def channels(self) -> Iterator[Channel]:
        """How each source is read: its meter, its number there, and the source itself."""
        return _channels(self.meters, self.sources)

    def close(self) -> None:
        """Release all handles."""
        for meter in self.meters:
            meter.close()


def open_instruments(measurement: MeasurementConfig) -> Instruments:
    """Open every meter, built in or from the entry-point group `slm_energy.meters`; calibrate.

    An entry point names a `MeterFactory`. CodeCarbon's estimate is opened only if no source that
    belongs to the sum was found. Takes up to 3 s, in which the counters' ticks are timed.

    Raises:
        MeterError: `measurement.mode=strict` and nothing can be measured; two meters claim one id
            or one device; a meter lacks a part of the contract.
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
        sources, more = _calibrated(meters)
        notes += more
        if not any(source.summed for source in sources):
            estimate = _estimate(measurement, notes)
            notes += estimate.notes
            if estimate.meter is not None:
                meters.append(estimate.meter)
                sources += estimate.meter.sources
        on_error.pop_all()
    return Instruments(meters=tuple(meters), sources=sources, notes=tuple(notes))


def _factories() -> list[tuple[str, MeterFactory]]:
    others = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return [*BUILT_IN.items(), *((point.name, point.load()) for point in others)]


def _check(name: str, meter: Meter) -> None:
    if missing := [part for part in _CONTRACT if not hasattr(meter, part)]:
        raise MeterError(
            f"the meter {name!r} has no `{missing[0]}`: update the package that provides it in"
            f" {_GROUP}; slm_energy.meters.base.Meter is the contract"
        )


def _calibrated(meters: Sequence[Meter]) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Measure the sources of all meters, and cut them."""
    claimed = [source for meter in meters for source in meter.sources]
    ids = [source.id for source in claimed]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise MeterError(f"two meters claim the source {twice[0]}: uninstall one of them")
    candidates, _ = cut(claimed)
    measured, mirrors, stood_still = calibrate([*_channels(meters, candidates)])
    sources, notes = cut(measured, mirrors)
    return sources, (*stood_still, *notes)


def _estimate(measurement: MeasurementConfig, notes: Sequence[str]) -> Opened:
    if measurement.mode == "strict":
        why = "; ".join(notes)
        raise MeterError(f"measurement.mode=strict, and no energy can be measured here: {why}")
    return open_codecarbon(measurement)


def _channels(meters: Sequence[Meter], sources: Sequence[Source]) -> Iterator[Channel]:
    places = [(meter, place) for meter in meters for place in range(len(meter.sources))]
    for (meter, place), source in zip(places, sources, strict=True):
        yield meter, place, source
