"""A meter between the wall and the machine that is read over HTTP as JSON.

Power or energy counted so far, anywhere in the response: a NETIO PowerBOX, a Shelly or Tasmota
plug, Home Assistant, Prometheus, a server's Redfish, or any device with such a response.

A counter of energy is watched for a moment as it is opened: whether its unit agrees with the power
beside it, and how large its steps are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import pairwise
from statistics import fmean
from urllib.parse import urlsplit

from slm_energy.config.groups import MeasurementConfig, WallMeterConfig
from slm_energy.counter_step import step_of
from slm_energy.errors import one_line
from slm_energy.meters import wall_answer
from slm_energy.meters.accuracy import WALL_LAG_S
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.meters.wall_answer import MAX_POWER_MW
from slm_energy.meters.wall_http import KEY, Device
from slm_energy.record import Source
from slm_energy.wall_units import POWERS, SCALES

_LOOK_PERIODS = 4
_LONGEST_LOOK_S = 3.0
_LOOKS_PER_PERIOD = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One response.

    Attributes:
        time_ns: monotonic time at which it was requested.
        value: as the device printed it.
        raw: in mW or mJ.
        power_mw: the power beside an energy; None if there is none.
        date: the device's own time; None if the response has none.
    """

    time_ns: int
    value: Decimal
    raw: int
    power_mw: int | None
    date: str | None


class WallMeter:
    """One value of one device: power or energy at the wall.

    Attributes:
        slow: True: a reading crosses a network.

    Raises:
        ReadFailed: it gives no plausible value.
    """

    slow = True

    def __init__(self, config: WallMeterConfig) -> None:
        self._config = config
        self._device = Device(config)
        self.where = self._device.where
        before_ns, before_s = time.monotonic_ns(), time.time()
        first = self._reading()
        self.round_trip_ms = (time.monotonic_ns() - before_ns) / 1e6
        self.clock = _clock(first.date, before_s, self.round_trip_ms / 1e3)
        self._unit_check = UnitCheck(config)
        source = self._power(first)
        if config.unit not in POWERS:
            source = self._counter(source, self._look(first))
        self.channels = (Channel(source=source, read=self.read),)

    def watch(self, pid: int) -> None:
        """Do nothing: the meter covers the whole machine."""

    def read(self) -> int:
        """Query the device; mW or mJ.

        Raises:
            ReadFailed: no response, an impossible value, or one that contradicts the power beside
                it.
        """
        reading = self._reading()
        self._unit_check.see(reading)
        return reading.raw

    def close(self) -> None:
        """Close the connection."""
        self._device.close()

    def _reading(self) -> Reading:
        config, where = self._config, self.where
        time_ns = time.monotonic_ns()
        body, date = self._device.ask()
        answer = wall_answer.parsed(body, where)
        wall_answer.refuse_stated_unit(answer, config.unit, where)
        value = wall_answer.value_at(answer, config.path, f"{KEY}.path")
        power_mw = None
        if config.unit not in POWERS:
            power_mw = wall_answer.power_mw(answer, config.path, config.power_path, where)
        return Reading(
            time_ns=time_ns,
            value=value,
            raw=wall_answer.raw(value, config.unit, where),
            power_mw=power_mw,
            date=date,
        )

    def _look(self, first: Reading) -> list[Reading]:
        """Watch a counter for some update periods.

        Raises:
            ReadFailed: what it counts contradicts the power beside it.
        """
        self._unit_check.see(first)
        readings, period_s = [first], self._config.period_s
        until = time.monotonic() + min(_LONGEST_LOOK_S, _LOOK_PERIODS * period_s)
        while time.monotonic() < until:
            time.sleep(min(_LONGEST_LOOK_S, period_s) / _LOOKS_PER_PERIOD)
            with contextlib.suppress(ReadFailed):  # one response that is late says nothing
                readings.append(self._reading())
            self._unit_check.see(readings[-1])
        return readings

    def _power(self, first: Reading) -> Source:
        period_ns = round(self._config.period_s * 1e9)
        # A latency that was measured is known as well as the meter updates its value.
        lag_s, lag_error_s = self._config.lag_s, self._config.period_s / 2
        if lag_s is None:
            lag_s = lag_error_s = WALL_LAG_S / 2
        return Source(
            id="wall/power",
            kind="power",
            domain="wall",
            unit="mW",
            update_period_ns=period_ns,
            resolution=float(self._printed_step(first)),
            averaging_ns=period_ns,
            gain_pct=self._config.gain_pct,
            lag_ns=round(lag_s * 1e9),
            lag_error_ns=round(lag_error_s * 1e9),
            max_power_w=float(MAX_POWER_MW / 1000),
            device=urlsplit(self.where).netloc,
            path=f"{self.where} {self._config.path}",
        )

    def _counter(self, source: Source, readings: Sequence[Reading]) -> Source:
        idle_w = _idle_w(readings)
        step_mj = step_of([reading.raw for reading in readings])
        if step_mj is None:
            # It did not move, so a step takes longer than that.
            watched_s = (readings[-1].time_ns - readings[0].time_ns) / 1e9
            printed = float(self._printed_step(readings[-1]))
            step_mj = math.ceil(max(printed, 1e3 * (idle_w or 0.0) * watched_s))
        return dataclasses.replace(
            source,
            id="wall/energy",
            kind="counter",
            unit="mJ",
            averaging_ns=0,
            resolution=step_mj,
            quantum=max(1, step_mj),
            idle_w=idle_w,
        )

    def _printed_step(self, reading: Reading) -> Decimal:
        """The last printed digit, in mW or mJ."""
        return wall_answer.printed_step(reading.value) * SCALES[self._config.unit]


class UnitCheck:
    """Compares what a counter counts with the power in the same responses.

    Args:
        config: states the unit.
    """

    def __init__(self, config: WallMeterConfig) -> None:
        self._unit = config.unit
        self._longest_ns = round(10e9 * config.period_s)
        self._last: Reading | None = None
        self._changes = 0
        self._since_mj = 0
        self._used_mj = 0.0
        self._wrong: str | None = None

    def see(self, reading: Reading) -> None:
        """Take one more response into account.

        Raises:
            ReadFailed: the counter has contradicted the power, at its third change or later.
        """
        self._compare(reading)
        if self._wrong is not None:
            raise ReadFailed(self._wrong)

    def _compare(self, reading: Reading) -> None:
        last, self._last = self._last, reading
        if last is None or last.power_mw is None or reading.power_mw is None:
            return
        apart_ns = reading.time_ns - last.time_ns
        if apart_ns > self._longest_ns or reading.raw < last.raw:
            self._changes = 0  # nobody looked, or the counter was reset: begin again
            return
        if self._changes:
            self._used_mj += (last.power_mw + reading.power_mw) / 2 * apart_ns / 1e9
        if reading.raw == last.raw:
            return
        self._changes += 1
        if self._changes == 1:
            self._since_mj, self._used_mj = reading.raw, 0.0
        elif self._changes > 2:
            counted_mj = reading.raw - self._since_mj
            wrong = wall_answer.contradiction(self._unit, counted_mj, self._used_mj)
            self._wrong = self._wrong or wrong


def open_wall(measurement: MeasurementConfig) -> Opened:
    """Take first readings of `measurement.wall_meter`, if there is one."""
    if measurement.wall_meter is None:
        return Opened(meter=None)
    try:
        meter = WallMeter(measurement.wall_meter)
    except ReadFailed as failure:
        return Opened(meter=None, notes=(f"wall: {failure}",))
    note = f"wall: {meter.where} responds in {meter.round_trip_ms:.3g} ms; {meter.clock}"
    return Opened(meter=meter, notes=(note, *_steps(meter.channels[0].source)))


def _idle_w(readings: Sequence[Reading]) -> float | None:
    """Mean power while a counter was watched: from the power beside it, else from its changes."""
    beside = [reading.power_mw for reading in readings if reading.power_mw is not None]
    if beside:
        return fmean(beside) / 1e3
    changes = [b for a, b in pairwise(readings) if b.raw > a.raw]
    if len(changes) < 2:
        return None
    first, last = changes[0], changes[-1]
    return (last.raw - first.raw) / (last.time_ns - first.time_ns) * 1e6


def _steps(source: Source) -> list[str]:
    """How long a counter takes for a step, if that is longer than its update period."""
    if source.kind != "counter":
        return []
    step_j = source.quantum / 1e3
    steps = f"wall: it counts in steps of {step_j:,.4g} J or more"
    if source.idle_w is None:
        return [f"{steps}; how long one takes is unknown, {KEY}.power_path tells the power"]
    return [f"{steps}: one takes {step_j / source.idle_w:,.3g} s at {source.idle_w:.3g} W"]


def _clock(date: str | None, before_s: float, round_trip_s: float) -> str:
    """The device's clock relative to ours, from the Date header, which has whole seconds."""
    if date is None:
        return "it reports no time"
    try:
        stated = parsedate_to_datetime(date)
    except ValueError:
        return f"it reports a time that cannot be read: {one_line(date, 40)}"
    stated_s = stated.replace(tzinfo=stated.tzinfo or UTC).timestamp() + 0.5
    offset_s, unsure_s = stated_s - before_s - round_trip_s / 2, 0.5 + round_trip_s / 2
    return f"its clock differs from ours by {offset_s:+.2f} s, give or take {unsure_s:.2f} s"
