"""Simulated recordings of modelled sensors: the readings of a meter, and the true energy.

A scene is a sensor that observes a waveform: it lags, averages, rounds and wraps as its `Source`
states. `record` reads it as the sampler would, with jitter. `faults.py` then breaks the recording.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from fractions import Fraction

from slm_energy.record import Series, Source, Unit, Window
from slm_energy.sampler.schedule import tracker_for
from slm_energy.testing.waveform import Waveform

PJ_PER_UNIT = {
    "uJ": Fraction(10**6),
    "mJ": Fraction(10**9),
    "J/2^32": Fraction(10**12, 2**32),
}
"""Steps of counters, exact, in the unit of `Waveform.energy_pj`."""

_JITTER = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A sensor, the power that it observes, and the schedule of its readings.

    Attributes:
        name: name in tables.
        source: the sensor.
        waveform: the true power.
        window: the span to account.
        step_ns: time between readings, jittered by a fifth.
        followed: the sampler follows the counter's ticks instead (`sampler/schedule.py`).
        cost_ns: duration of one reading.
        first_raw: value of a counter at time 0.
    """

    name: str
    source: Source
    waveform: Waveform
    window: Window
    step_ns: int
    followed: bool = False
    cost_ns: int = 20_000
    first_raw: int = 0

    def raw(self, time_ns: int) -> int:
        """Value that the sensor shows at a moment."""
        source = self.source
        published = time_ns // (source.update_period_ns or 1) * (source.update_period_ns or 1)
        if source.kind == "power":
            return self._power_mw(published)
        used = self.waveform.energy_pj(published - source.lag_ns)
        counted = used // PJ_PER_UNIT[source.unit]
        counted = (counted + self.first_raw) // source.quantum * source.quantum
        return counted % source.modulus if source.modulus else counted

    def _power_mw(self, time_ns: int) -> int:
        length_ns = self.source.averaging_ns
        if not length_ns:
            return self.waveform.power_mw(time_ns)
        waveform = self.waveform
        return (waveform.energy_pj(time_ns) - waveform.energy_pj(time_ns - length_ns)) // length_ns


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One reading; `at_ns` is the true moment at which the sensor was read."""

    at_ns: int
    before_ns: int
    after_ns: int
    raw: int | None
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Readings of a scene, and the window over which the joules are known to be `truth_j`."""

    scene: Scene
    rows: tuple[Row, ...]
    window: Window
    truth_j: float

    @property
    def opening(self) -> int:
        """The row that opens the window: the last that ended before its start."""
        return max(i for i, row in enumerate(self.rows) if row.after_ns <= self.window.start_ns)

    @property
    def closing(self) -> int:
        """The row that closes the window: the first that certainly covers all of it."""
        source = self.scene.source
        lag_ns = (source.update_period_ns or 0) + source.lag_ns + source.lag_error_ns
        end_ns = self.window.end_ns + (lag_ns if source.kind == "counter" else 0)
        return min(i for i, row in enumerate(self.rows) if row.before_ns >= end_ns)

    @property
    def series(self) -> Series:
        """The readings as a meter returns them."""
        return Series(
            source=self.scene.source,
            before_ns=tuple(row.before_ns for row in self.rows),
            raw=tuple(row.raw for row in self.rows),
            after_ns=tuple(row.after_ns for row in self.rows),
            errors={str(i): row.error for i, row in enumerate(self.rows) if row.error},
        )


def record(scene: Scene, *, spare: int, seed: int = 0) -> Recording:
    """Read a scene from before its window until after it.

    Args:
        scene: the scene to read.
        spare: readings kept before the one that opens the window, and after the one that closes it.
        seed: of the jitter.
    """
    jitter = random.Random(seed)
    # A sensor that averages or lags needs that much time after the window.
    source = scene.source
    tail_ns = (source.update_period_ns or 0) + source.averaging_ns
    tail_ns += source.lag_ns + source.lag_error_ns
    tracker = tracker_for(scene.source, None) if scene.followed else None
    rows, time_ns = list[Row](), scene.window.start_ns - 20 * scene.step_ns
    while time_ns < scene.window.end_ns + tail_ns + 20 * scene.step_ns:
        row = reading(scene, time_ns)
        rows.append(row)
        time_ns += round(scene.step_ns * jitter.uniform(1 - _JITTER, 1 + _JITTER))
        if tracker is not None and row.raw is not None:
            tracker.saw(row.before_ns, row.raw, row.after_ns)
            time_ns = max(row.after_ns, tracker.next_ns(row.after_ns))
    whole = _recording(scene, rows)
    return _recording(scene, rows[whole.opening - spare : whole.closing + spare + 1])


def reading(scene: Scene, time_ns: int) -> Row:
    """Read a scene once."""
    at_ns, after_ns = time_ns + scene.cost_ns // 2, time_ns + scene.cost_ns
    return Row(at_ns=at_ns, before_ns=time_ns, after_ns=after_ns, raw=scene.raw(at_ns))


def _recording(scene: Scene, rows: Sequence[Row]) -> Recording:
    window = scene.window
    truth_j = scene.waveform.joules(window.start_ns, window.end_ns)
    return Recording(scene=scene, rows=tuple(rows), window=window, truth_j=truth_j)


S, MS = 10**9, 10**6


def _load(watts: float, stretch: int = 1) -> Waveform:
    """A varying load around `watts`; its cycle of 2.6 s may be stretched."""
    steps = ((830 * MS, 0.6), (1370 * MS, 1.4), (410 * MS, 0.9))
    return Waveform(
        steps=tuple((length * stretch, round(share * watts * 1000)) for length, share in steps)
    )


def _window(seconds: int) -> Window:
    return Window(name="serve", start_ns=100 * S + 37 * MS, end_ns=(100 + seconds) * S + 51 * MS)


def _counter(
    name: str,
    domain: str,
    unit: Unit,
    watts: float,
    period_ms: int,
    *,
    max_power_w: float | None = 2000,
    modulus: int | None = None,
    wrap_in_s: int = 0,
    step_ms: int = 100,
    followed: bool = False,
    lag_ms: int = 0,
) -> Scene:
    """A counter of a processor or a GPU; it wraps `wrap_in_s` after time 100 s, 0 for never."""
    source = Source(
        id=name,
        kind="counter",
        domain=domain,
        unit=unit,
        modulus=modulus,
        update_period_ns=period_ms * MS,
        update_period_measured=True,
        max_power_w=max_power_w,
        lag_ns=lag_ms * MS,
        lag_error_ns=lag_ms * MS,
        summed=True,
    )
    load = _load(watts)
    until_wrap = load.energy_pj((100 + wrap_in_s) * S) // PJ_PER_UNIT[unit]
    return Scene(
        name=name,
        source=source,
        waveform=load,
        window=_window(10),
        step_ns=step_ms * MS,
        followed=followed,
        first_raw=(modulus or 0) - until_wrap if wrap_in_s else 10**10,
    )


def _power(
    name: str, watts: float, period_ms: int, averaging_ms: int, *, max_power_w: float | None
) -> Scene:
    """A GPU's power, read twice per publication."""
    source = Source(
        id=name,
        kind="power",
        domain="gpu",
        unit="mW",
        update_period_ns=period_ms * MS,
        update_period_measured=True,
        averaging_ns=averaging_ms * MS,
        gain_pct=5.0,
        max_power_w=max_power_w,
        summed=True,
    )
    step_ms = min(100, max(20, period_ms // 2))
    return Scene(
        name=name, source=source, waveform=_load(watts), window=_window(10), step_ns=step_ms * MS
    )


_WALL_POWER = Scene(
    name="wall meter, power",
    source=Source(
        id="wall/power",
        kind="power",
        domain="wall",
        unit="mW",
        update_period_ns=S,
        gain_pct=1.0,
        summed=False,
    ),
    waveform=_load(300, stretch=7),
    window=_window(120),
    step_ns=S,
    cost_ns=30 * MS,
)

_WALL_COUNTER = Scene(
    name="wall meter, 1 Wh steps",
    source=Source(
        id="wall/energy",
        kind="counter",
        domain="wall",
        unit="mJ",
        update_period_ns=S,
        resolution=3_600_000,
        quantum=3_600_000,
        gain_pct=1.0,
        summed=False,
    ),
    waveform=_load(300, stretch=7),
    window=_window(1800),
    step_ns=S,
    cost_ns=30 * MS,
    first_raw=10**9,
)

_INTEL = 262_143_328_851

SCENES: tuple[Scene, ...] = (
    _counter("package", "cpu_package", "uJ", 150, 1, modulus=_INTEL),
    _counter("package, wraps", "cpu_package", "uJ", 150, 1, modulus=_INTEL, wrap_in_s=3),
    _counter("dram", "dram", "uJ", 8, 1, modulus=65_712_999_614),
    _counter("AMD, wraps", "cpu_package", "uJ", 150, 1, modulus=65_532_610_988, wrap_in_s=7),
    _counter("perf", "cpu_package", "J/2^32", 150, 1),
    _counter("GPU, 20 ms", "gpu", "mJ", 250, 20, max_power_w=700),
    _counter("GPU, 100 ms", "gpu", "mJ", 250, 100, max_power_w=700, step_ms=30),
    _counter("GPU, ticks followed", "gpu", "mJ", 250, 100, max_power_w=700, followed=True),
    _counter("GPU, no limit known", "gpu", "mJ", 250, 100, max_power_w=None, step_ms=30),
    _counter("GPU, late", "gpu", "mJ", 250, 20, max_power_w=700, lag_ms=50),
    _power("GPU power, instant", 250, 20, 0, max_power_w=700),
    _power("GPU power, 1 s mean", 250, 100, 1000, max_power_w=700),
    _power("GPU power, part-time", 250, 100, 25, max_power_w=700),
    _power("GPU power, no limit known", 250, 100, 0, max_power_w=None),
    _WALL_POWER,
    _WALL_COUNTER,
)
"""One sensor of each kind."""
