"""How often the truth lies in the interval, and how wide the interval is.

    python benchmarks/coverage.py [--each 150] [--seed 0] [--only NAME] [--baseline]

Random loads of eight families, seen by modelled sensors and read as the sampler reads them, without
waiting: readings are computed. Prints, per sensor and family, the share of windows whose true
energy lies in the reported interval, the median full width of the interval, and the median and 95th
percentile of the figure's error, all relative to the energy. The default is 20,400 windows.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from slm_energy.derive.energy.accounting import account
from slm_energy.derive.energy.steadiness import unsteadiness_j
from slm_energy.record import EnergyFigure, Series, Source, Window
from slm_energy.testing.waveform import Polyline, Sine, Waveform, constant, stairs

S, MS, US = 10**9, 10**6, 10**3
READ_NS = 30 * US
POLL_NS = 1 * MS
BEGIN_NS = 20 * S
"""No window begins before this."""


class Curve(Protocol):
    """The true power."""

    def power_mw(self, time_ns: int) -> int:
        """Power at a moment."""

    def energy_pj(self, time_ns: int) -> int:
        """Energy since some moment."""

    def joules(self, start_ns: int, end_ns: int) -> float:
        """Energy between two moments."""


Family = Callable[[random.Random, Window], Curve]
Shown = Callable[[int], int]


def steady(rng: random.Random, window: Window) -> Curve:
    """Constant power."""
    return constant(rng.uniform(10, 400))


def steps(rng: random.Random, window: Window) -> Curve:
    """Jumps to a random power at random times, 0.5 s apart on average."""
    time_ns, levels = window.start_ns - 8 * S, []
    while time_ns < window.end_ns + 8 * S:
        levels.append((time_ns, rng.randrange(20_000, 400_000)))
        time_ns += 10 * MS + round(rng.expovariate(1 / (0.5 * S)))
    return stairs(levels)


def sine(rng: random.Random, window: Window) -> Curve:
    """A swing of 0.1 to 5 Hz."""
    mean = rng.randrange(100_000, 300_000)
    period_ns = round(S / 10 ** rng.uniform(-1, 0.7))
    swing = round(mean * rng.uniform(0.1, 0.8))
    return Sine(mean_mw=mean, swing_mw=swing, period_ns=period_ns, start_ns=rng.randrange(S))


def square(rng: random.Random, window: Window) -> Curve:
    """60 W and 300 W in turns, five times a second."""
    half_ns = 100 * MS
    return Waveform(steps=((half_ns, 60_000), (half_ns, 300_000)), start_ns=rng.randrange(S))


def bursts(rng: random.Random, window: Window) -> Curve:
    """Decoding: 10 ms of every 23 ms at full power, a little early or late; else idle."""
    time_ns, levels = window.start_ns, [(window.start_ns - 8 * S, 60_000)]
    while time_ns + 25 * MS < window.end_ns:
        levels += [(time_ns, 300_000), (time_ns + 10 * MS, 60_000)]
        time_ns += round(23 * MS * rng.uniform(0.95, 1.05))
    return stairs(levels)


def idle_load_idle(rng: random.Random, window: Window) -> Curve:
    """Load exactly as long as the window, idle before and after."""
    idle, load = rng.randrange(10_000, 80_000), rng.randrange(100_000, 400_000)
    return stairs([(0, idle), (window.start_ns, load), (window.end_ns, idle)])


def in_step(rng: random.Random, window: Window) -> Curve:
    """50 ms at full power in every 100 ms; each repetition, of three, is shifted."""
    time_ns, levels = window.start_ns - 8 * S, [(window.start_ns - 9 * S, 60_000)]
    while time_ns < window.end_ns + 8 * S:
        for _ in range(3):
            levels += [(time_ns, 300_000), (time_ns + 50 * MS, 60_000)]
            time_ns += 100 * MS
        time_ns += rng.randrange(100 * MS)
    return stairs(levels)


def random_walk(rng: random.Random, window: Window) -> Curve:
    """Straight lines between powers that wander, a knot every 50 ms."""
    times = range(window.start_ns - 8 * S, window.end_ns + 8 * S, 50 * MS)
    powers, power = [], 200_000
    for _ in times:
        power = min(400_000, max(20_000, power + round(rng.gauss(0, 15_000))))
        powers.append(power)
    return Polyline(times_ns=tuple(times), powers_mw=tuple(powers))


FAMILIES: dict[str, Family] = {
    "constant": steady,
    "steps": steps,
    "sine": sine,
    "square 5 Hz": square,
    "decode bursts": bursts,
    "idle-load-idle": idle_load_idle,
    "10 Hz, shifted": in_step,
    "random walk": random_walk,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sensor:
    """A sensor and how it is read.

    Attributes:
        name: what the table calls it.
        source: what it says of itself.
        length_ns: of the windows.
        aligned: windows begin right after a tick.
        late_ns: the device's values are late by a constant time between these two.
        polled: it is read once per update period and at no mark, as a meter behind a network is.
    """

    name: str
    source: Source
    length_ns: int = 10 * S
    aligned: bool = False
    late_ns: tuple[int, int] = (0, 0)
    polled: bool = False


def _counter(period_ns: int, **more: Any) -> Source:
    return Source(
        id="gpu/energy",
        kind="counter",
        domain="gpu",
        unit="mJ",
        update_period_ns=period_ns,
        update_period_measured=True,
        max_power_w=800.0,
        **more,
    )


def _power(period_ns: int, averaging_ns: int = 0, **more: Any) -> Source:
    return Source(
        id="gpu/power",
        kind="power",
        domain="gpu",
        unit="mW",
        update_period_ns=period_ns,
        averaging_ns=averaging_ns,
        **more,
    )


RAPL = Source(
    id="rapl",
    kind="counter",
    domain="cpu_package",
    unit="uJ",
    modulus=262_143_328_851,
    update_period_ns=MS,
    max_power_w=2000.0,
)

FILTERED = dataclasses.replace(RAPL, step_noise_pct=50.0)
LATE = {"lag_ns": 50 * MS, "lag_error_ns": 50 * MS}
LATE_WALL = {"lag_ns": 1500 * MS, "lag_error_ns": 1500 * MS}

SENSORS = (
    Sensor(name="1 ms, marked", source=RAPL),
    Sensor(name="20 ms, aligned", source=_counter(20 * MS), aligned=True),
    Sensor(name="20 ms", source=_counter(20 * MS)),
    Sensor(name="100 ms, aligned", source=_counter(100 * MS), aligned=True),
    Sensor(name="100 ms", source=_counter(100 * MS)),
    Sensor(name="1500 ms, aligned", source=_counter(1500 * MS), length_ns=30 * S, aligned=True),
    Sensor(name="1500 ms", source=_counter(1500 * MS), length_ns=30 * S),
    Sensor(name="instant power", source=_power(20 * MS)),
    Sensor(name="1 s mean power", source=_power(100 * MS, S)),
    Sensor(name="25 of 100 ms", source=_power(100 * MS, 25 * MS)),
    Sensor(
        name="20 ms, late",
        source=_counter(20 * MS, **LATE),
        aligned=True,
        late_ns=(25 * MS, 100 * MS),
    ),
    Sensor(
        name="100 ms, late",
        source=_counter(100 * MS, **LATE),
        aligned=True,
        late_ns=(25 * MS, 100 * MS),
    ),
    Sensor(name="power, late", source=_power(20 * MS, **LATE), late_ns=(25 * MS, 100 * MS)),
    Sensor(
        name="counter, 25 of 100", source=_counter(100 * MS, averaging_ns=25 * MS), aligned=True
    ),
    Sensor(
        name="wall power, late",
        source=_power(S, S, **LATE_WALL),
        length_ns=100 * S,
        late_ns=(S, 3 * S),
        polled=True,
    ),
    Sensor(
        name="wall energy, late",
        source=_counter(S, quantum=3600, **LATE_WALL),
        length_ns=100 * S,
        late_ns=(S, 3 * S),
        polled=True,
    ),
    Sensor(name="RAPL, filtered", source=FILTERED),
)


BURSTS = ((0.02, 0.2), (0.05, 0.45), (0.1, 1.0), (0.3, 1.5), (0.5, 2.0))
"""Mean lengths in seconds of bursts and of rests between them, in a bursty idle."""


def figure_of(
    sensor: Sensor, family: Family, rng: random.Random, stated: Source | None = None
) -> tuple[EnergyFigure, float]:
    """One random window: what is reported, and the truth in joules.

    Args:
        sensor: what is simulated.
        family: of the load.
        rng: decides the rest.
        stated: what the accounting is given as the source, if not the sensor's.
    """
    ticks = _ticks(sensor, rng)
    start_ns = BEGIN_NS + rng.randrange(2 * S)
    tracked = _slow(sensor.source) and not sensor.polled
    asked = _tracked(ticks, sensor, rng) if tracked else _polled(sensor, rng)
    if sensor.aligned:
        # The sampler has seen the tick, reads once more and answers; the worker then begins.
        tick = next(i for i, t in enumerate(ticks) if t >= start_ns)
        start_ns = next(t for t in asked if t >= ticks[tick]) + READ_NS + rng.randrange(300 * US)
    end_ns = start_ns + sensor.length_ns + rng.randrange(S // 2)
    window = Window(name="serve", start_ns=start_ns, end_ns=end_ns)
    if not sensor.polled:
        asked = sorted({*asked, *_marks(window, sensor, rng)})
    apart = [asked[0]]
    for time_ns in asked[1:]:
        if time_ns > apart[-1] + READ_NS:
            apart.append(time_ns)
    curve = family(rng, window)
    shown = _shown(sensor.source, curve, ticks, rng.randint(*sensor.late_ns), rng)
    series = _series(sensor.source, shown, ticks, apart)
    figure = account(
        dataclasses.replace(series, source=stated or sensor.source), window, max_gap_ns=S
    )
    return figure, curve.joules(start_ns, end_ns)


def _slow(source: Source) -> bool:
    return source.kind == "counter" and (source.update_period_ns or 0) > 10 * MS


def _until_ns(sensor: Sensor) -> int:
    period_ns = sensor.source.update_period_ns or 0
    return BEGIN_NS + sensor.length_ns + 3 * S + 3 * period_ns + sensor.late_ns[1]


def _ticks(sensor: Sensor, rng: random.Random) -> list[int]:
    """When the sensor publishes: each tick 2 % early or late."""
    period_ns = sensor.source.update_period_ns or 0
    time_ns, ticks = BEGIN_NS - 6 * S - rng.randrange(period_ns), []
    while time_ns < _until_ns(sensor) + 8 * period_ns:
        ticks.append(time_ns)
        time_ns += round(period_ns * rng.uniform(0.98, 1.02))
    return ticks


def _tracked(ticks: Sequence[int], sensor: Sensor, rng: random.Random) -> list[int]:
    """Readings 1 ms apart around one tick in every 100 ms."""
    every = max(1, round(100 * MS / (sensor.source.update_period_ns or 1)))
    asked = []
    for tick in ticks[:-5:every]:
        ahead = rng.randrange(POLL_NS)
        asked += [tick - POLL_NS - ahead, tick - ahead, tick - ahead + POLL_NS]
    return asked


def _polled(sensor: Sensor, rng: random.Random) -> list[int]:
    """Readings at a jittered period."""
    pause_ns, period_ns = 100 * MS, sensor.source.update_period_ns or 0
    if sensor.polled:
        pause_ns = period_ns
    elif sensor.source.kind == "power":
        pause_ns = min(pause_ns, max(20 * MS, period_ns // 2))
    time_ns, asked = BEGIN_NS - 5 * S - rng.randrange(pause_ns), []
    while time_ns < _until_ns(sensor):
        asked.append(time_ns)
        time_ns += round(pause_ns * rng.uniform(0.8, 1.2))
    return asked


def _marks(window: Window, sensor: Sensor, rng: random.Random) -> list[int]:
    """A reading just before the start and one just after the end, and a few close after each."""
    period_ns = sensor.source.update_period_ns or 0
    before = window.start_ns - READ_NS - rng.randrange(100 * US)
    after = window.end_ns + rng.randrange(100 * US)
    if sensor.source.kind == "power":
        return [before, after]
    follow = range(POLL_NS, 2 * period_ns + 5 * MS + sensor.late_ns[1], POLL_NS)
    followed = sensor.late_ns[1] or not _slow(sensor.source)
    starts = [before + t for t in follow] if followed else []
    return [before, *starts, after, *(after + t for t in follow)]


def _series(source: Source, shown: Shown, ticks: Sequence[int], asked: Sequence[int]) -> Series:
    raw, at = [], 0
    for time_ns in asked:
        while ticks[at + 1] <= time_ns + READ_NS // 2:
            at += 1
        raw.append(shown(at))
    return Series(
        source=source,
        before_ns=tuple(asked),
        raw=tuple(raw),
        after_ns=tuple(t + READ_NS for t in asked),
    )


def _shown(
    source: Source, curve: Curve, ticks: Sequence[int], late_ns: int, rng: random.Random
) -> Shown:
    """What is published at the tick of a number."""
    if source.kind == "power":
        return lambda at: _power_mw(source, curve, ticks[at] - late_ns)
    if not source.averaging_ns and not source.step_noise_pct:
        return lambda at: _count(source, curve.energy_pj(ticks[at] - late_ns))
    times = [tick - late_ns for tick in ticks]
    steps_pj = [
        _step_pj(source, curve, begin, end) * _distortion(source, rng)
        for begin, end in pairwise(times)
    ]
    counted_pj = list(itertools.accumulate(steps_pj, initial=curve.energy_pj(times[0])))
    return lambda at: _count(source, counted_pj[at])


def _count(source: Source, energy_pj: float) -> int:
    value = int(energy_pj // {"uJ": 10**6, "mJ": 10**9}[source.unit])
    value = value // source.quantum * source.quantum
    return value % source.modulus if source.modulus else value + 10**9


def _step_pj(source: Source, curve: Curve, begin_ns: int, end_ns: int) -> int:
    """Energy that a counter adds at a tick; a part-time sensor takes its part for the whole."""
    seen_ns = source.averaging_ns or end_ns - begin_ns
    seen_pj = curve.energy_pj(end_ns) - curve.energy_pj(end_ns - seen_ns)
    return seen_pj * (end_ns - begin_ns) // seen_ns


def _distortion(source: Source, rng: random.Random) -> float:
    share = source.step_noise_pct / 100
    return rng.uniform(1 - share, 1 + share) if share else 1


def _power_mw(source: Source, curve: Curve, time_ns: int) -> int:
    if not source.averaging_ns:
        return curve.power_mw(time_ns)
    since = curve.energy_pj(time_ns) - curve.energy_pj(time_ns - source.averaging_ns)
    return round(since / source.averaging_ns)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a sensor made of a family of loads; widths and errors in percent of the energy."""

    covered: list[bool]
    widths_pct: list[float]
    errors_pct: list[float]

    def __str__(self) -> str:
        share = 100 * sum(self.covered) / len(self.covered)
        worst = sorted(map(abs, self.errors_pct))[len(self.errors_pct) * 95 // 100]
        return (
            f"{len(self.covered):>7}{share:>10.1f} %{statistics.median(self.widths_pct):>11.3f} %"
            f"{statistics.median(self.errors_pct):>10.3f} %{worst:>9.3f} %"
        )


def run(sensor: Sensor, family: Family, each: int, rng: random.Random) -> Row:
    """Many random windows of one family of loads, seen by one sensor."""
    row = Row(covered=[], widths_pct=[], errors_pct=[])
    for _ in range(each):
        figure, truth_j = figure_of(sensor, family, rng)
        if figure.joules is None or figure.low_j is None or figure.high_j is None:
            raise SystemExit(f"{sensor.name}: {figure.reasons}")
        row.covered.append(figure.low_j <= truth_j <= figure.high_j)
        row.widths_pct.append(100 * (figure.high_j - figure.low_j) / truth_j)
        row.errors_pct.append(100 * (figure.joules / truth_j - 1))
    return row


def bursty(rng: random.Random, burst_s: float, rest_s: float) -> tuple[Waveform, float]:
    """30 W, and 80 W in bursts, both for random times; and the mean power in the long run."""
    time_ns, levels, burst = -5 * S, [], rng.random() < burst_s / (burst_s + rest_s)
    while time_ns < 15 * S:
        levels.append((time_ns, 80_000 if burst else 30_000))
        time_ns += 1 + round(rng.expovariate(1 / (burst_s if burst else rest_s)) * S)
        burst = not burst
    return stairs(levels), (80 * burst_s + 30 * rest_s) / (burst_s + rest_s)


def baselines(each: int, seed: int) -> None:
    """How often the long-run energy of idle is in the interval of a baseline of 10 s."""
    print(f"{'idle, mean lengths':<36}{'windows':>7}{'covered':>12}{'without':>12}{'width':>13}")
    window = Window(name="baseline", start_ns=2 * S, end_ns=12 * S)
    for burst_s, rest_s in BURSTS:
        covered, without, widths_pct = 0, 0, list[float]()
        for number in range(each):
            rng = random.Random(f"{seed} {burst_s} {rest_s} {number}")
            curve, mean_w = bursty(rng, burst_s, rest_s)
            asked, time_ns = [], 0
            while time_ns < 14 * S:
                asked.append(time_ns)
                time_ns += round(100 * MS * rng.uniform(0.8, 1.2))
            ticks = range(0, 15 * S, MS)
            shown = _shown(RAPL, curve, ticks, 0, rng)
            series = _series(RAPL, shown, ticks, asked)
            figure = account(series, window, max_gap_ns=S)
            found = unsteadiness_j([series], window, max_gap_ns=S)
            if figure.low_j is None or figure.high_j is None or found is None:
                raise SystemExit(f"baseline: {figure.reasons}")
            (below_j, above_j), truth_j = found, mean_w * window.duration_s
            covered += figure.low_j - below_j <= truth_j <= figure.high_j + above_j
            without += figure.low_j <= truth_j <= figure.high_j
            widths_pct.append(100 * (below_j + above_j) / truth_j)
        print(
            f"{f'bursts {burst_s} s, rest {rest_s} s':<36}{each:>7}{100 * covered / each:>10.1f} %"
            f"{100 * without / each:>10.1f} %{statistics.median(widths_pct):>11.1f} %"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=150, help="windows per sensor and family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="sensors whose name contains this")
    parser.add_argument("--baseline", action="store_true", help="bursty idle instead of sensors")
    options = parser.parse_args()
    if options.baseline:
        baselines(options.each, options.seed)
        return
    heading = f"{'sensor':<20}{'load':<16}{'windows':>7}{'covered':>12}{'width':>13}{'bias':>12}"
    print(f"{heading}{'p95 error':>11}")
    rows = []
    for sensor in (each for each in SENSORS if options.only in each.name):
        for name, family in FAMILIES.items():
            rng = random.Random(f"{options.seed} {sensor.name} {name}")
            rows.append(run(sensor, family, options.each, rng))
            print(f"{sensor.name:<20}{name:<16}{rows[-1]}", flush=True)
    whole = Row(
        covered=[each for row in rows for each in row.covered],
        widths_pct=[each for row in rows for each in row.widths_pct],
        errors_pct=[each for row in rows for each in row.errors_pct],
    )
    print(f"{'all':<36}{whole}")


if __name__ == "__main__":
    main()
