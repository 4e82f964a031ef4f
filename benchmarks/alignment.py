"""Idle, load, idle under a slow counter: what a short window's joules are worth.

    python benchmarks/alignment.py [--windows 20] [--simulated 2000]

A machine draws 60 W, 300 W for the 1 s of the window, and 60 W again; its counter is renewed every
100 ms. The difference of two readings at the window's edges is too small: the first is stale by
idle power, the last by load power, which does not average out. Ours is what marks and accounting
make of it. The first table is in real time, with the sampling process and a fake powercap tree; the
second is simulated, to see many windows.
"""

from __future__ import annotations

import argparse
import bisect
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.exchange import Marks
from slm_energy.record import Series, Source, Window
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.sampler.schedule import TickTracker
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import Polyline

S, MS = 10**9, 10**6
PERIOD_NS, WINDOW_NS = 100 * MS, S
IDLE_MW, LOAD_MW = 60_000, 300_000
MAX_GAP_NS = S
READING_NS, ANSWER_NS = 20_000, 100_000

Result = tuple[float, float | None, float | None]
"""Relative error of a window's joules, relative width of the interval, 1 if that has the truth."""


class Switch:
    """Power that is switched between idle and load; a waveform for the fake."""

    def __init__(self) -> None:
        self._times, self._counted = [time.monotonic_ns()], [0]

    def flip(self) -> int:
        """Switch now, and tell when that was."""
        now_ns = time.monotonic_ns()
        self._counted.append(self.energy_pj(now_ns))
        self._times.append(now_ns)
        return now_ns

    def energy_pj(self, time_ns: int) -> int:
        """Energy since the beginning."""
        place = bisect.bisect_right(self._times, time_ns) - 1
        power_mw = LOAD_MW if place % 2 else IDLE_MW
        return self._counted[place] + power_mw * (time_ns - self._times[place])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=20, help="in real time, 2 s each")
    parser.add_argument("--simulated", type=int, default=2000)
    options = parser.parse_args()
    _print_table(f"real time, {options.windows} windows", *_real(options.windows))
    _print_table(f"simulated, {options.simulated} windows", *_simulated(options.simulated))


def _print_table(title: str, *methods: list[Result]) -> None:
    names = ("difference of two readings", "ours without marks", "ours with marks")
    print(f"{title:<40}{'bias, %':>10}{'worst, %':>10}{'interval, %':>13}{'covered, %':>12}")
    for name, results in zip(names, methods, strict=True):
        errors = [100 * error for error, _, _ in results]
        worst = max(errors, key=abs)
        print(f"  {name:<38}{statistics.fmean(errors):>10.3f}{worst:>10.3f}", end="")
        widths = [100 * width for _, width, _ in results if width is not None]
        covered = [100 * inside for _, _, inside in results if inside is not None]
        if widths and covered:
            print(f"{statistics.median(widths):>13.3f}{statistics.fmean(covered):>12.1f}", end="")
        print()


def _judge(series: Series, window: Window, truth_j: float) -> Result:
    figure = account(series, window, max_gap_ns=MAX_GAP_NS)
    if figure.joules is None or figure.low_j is None or figure.high_j is None:
        raise SystemExit(f"no joules: {'; '.join(figure.reasons)}")
    error = figure.joules / truth_j - 1
    inside = float(figure.low_j <= truth_j <= figure.high_j)
    return error, (figure.high_j - figure.low_j) / figure.joules, inside


def _window(start_ns: int, end_ns: int) -> Window:
    return Window(name="serve", start_ns=start_ns, end_ns=end_ns)


def _real(count: int) -> tuple[list[Result], list[Result], list[Result]]:
    power = Switch()
    # Polyline and Switch have what the fake asks of a waveform.
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=power)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as place:
        root, file = Path(place) / "powercap", Path(place) / "samples.jsonl"
        root.mkdir()
        with (
            PowercapTree(root, [zone], period_s=PERIOD_NS / S) as tree,
            Sampler(MeasurementConfig(name="b", powercap_root=str(root)), Path(place)) as sampler,
        ):
            sampler.begin(0, file)
            time.sleep(0.5)
            counter = tree.file("intel-rapl:0")
            plain = [_load(power, lambda: int(counter.read_text())) for _ in range(count)]
            marks = Marks(sampler.marks)
            marked = [_marked_load(power, marks) for _ in range(count)]
            marks.close()
            sampler.end()
        series = next(s for s in read_samples(file)[0] if s.source.summed)
    truth_j = {window: _joules(power, window) for window in [*(w for w, _ in plain), *marked]}
    naive: list[Result] = [(uj / 1e6 / truth_j[w] - 1, None, None) for w, uj in plain]
    unmarked = [_judge(series, window, truth_j[window]) for window, _ in plain]
    return naive, unmarked, [_judge(series, window, truth_j[window]) for window in marked]


def _joules(power: Switch, window: Window) -> float:
    return (power.energy_pj(window.end_ns) - power.energy_pj(window.start_ns)) / 1e12


def _load(power: Switch, read: Callable[[], int]) -> tuple[Window, int]:
    """A window at any phase of the counter, and the difference of its readings."""
    time.sleep(random.uniform(0.5, 0.7))
    first, start_ns = read(), power.flip()
    time.sleep(WINDOW_NS / S)
    end_ns, last = power.flip(), read()
    return _window(start_ns, end_ns), last - first


def _marked_load(power: Switch, marks: Marks) -> Window:
    time.sleep(random.uniform(0.5, 0.7))
    marks.mark("start")
    start_ns = power.flip()
    time.sleep(WINDOW_NS / S)
    end_ns = power.flip()
    marks.mark("end")
    return _window(start_ns, end_ns)


def _simulated(count: int) -> tuple[list[Result], list[Result], list[Result]]:
    chance = random.Random(1)
    naive, unmarked, marked = list[Result](), list[Result](), list[Result]()
    for _ in range(count):
        asked_ns = 2 * S + chance.randrange(PERIOD_NS)
        for marks in (False, True):
            simulation = _Simulation(asked_ns, marks=marks)
            result = _judge(simulation.series, simulation.window, simulation.truth_j)
            (marked if marks else unmarked).append(result)
            if not marks:
                window = simulation.window
                difference_uj = simulation.raw(window.end_ns) - simulation.raw(window.start_ns)
                naive.append((difference_uj / 1e6 / simulation.truth_j - 1, None, None))
    return naive, unmarked, marked


class _Simulation:
    """One window, and the readings that the sampler would make, without waiting for them."""

    def __init__(self, asked_ns: int, *, marks: bool) -> None:
        self._power = Polyline(times_ns=(0,), powers_mw=(IDLE_MW,))
        self._rows: list[tuple[int, int]] = []
        self._tracker = TickTracker(PERIOD_NS)
        self._now_ns = 0
        self._read_until(asked_ns)
        start_ns = self._follow(asked_ns, 1) + ANSWER_NS if marks else asked_ns
        end_ns = start_ns + WINDOW_NS
        self._power = Polyline(
            times_ns=(0, start_ns, start_ns, end_ns, end_ns),
            powers_mw=(IDLE_MW, IDLE_MW, LOAD_MW, LOAD_MW, IDLE_MW),
        )
        self.window = _window(start_ns, end_ns)
        self.truth_j = self._power.joules(start_ns, end_ns)
        self._read_until(end_ns)
        if marks:
            self._follow(end_ns + ANSWER_NS, 2)
        self._read_until(end_ns + S)

    @property
    def series(self) -> Series:
        """All that was read."""
        source = Source(
            id="counter",
            kind="counter",
            domain="cpu_package",
            unit="uJ",
            update_period_ns=PERIOD_NS,
            max_power_w=2000.0,
        )
        return Series(
            source=source,
            before_ns=tuple(at for at, _ in self._rows),
            raw=tuple(raw for _, raw in self._rows),
            after_ns=tuple(at + READING_NS for at, _ in self._rows),
        )

    def raw(self, time_ns: int) -> int:
        """What the counter shows, in uJ."""
        return self._power.energy_pj(time_ns // PERIOD_NS * PERIOD_NS) // MS

    def _read_until(self, time_ns: int) -> None:
        while self._now_ns < time_ns:
            self._read()

    def _follow(self, time_ns: int, ticks: int) -> int:
        """A mark: read, follow so many ticks, read again; tell when the last one was seen."""
        self._now_ns = time_ns
        self._read()
        self._tracker.follow(time_ns)
        for _ in range(ticks):
            last = self._rows[-1][1]
            while self._rows[-1][1] == last:
                self._read()
        self._tracker.relax()
        return self._rows[-1][0] + READING_NS

    def _read(self) -> None:
        raw = self.raw(self._now_ns + READING_NS // 2)
        self._tracker.saw(self._now_ns, raw, self._now_ns + READING_NS)
        self._rows.append((self._now_ns, raw))
        self._now_ns = self._tracker.next_ns(self._now_ns + READING_NS)


if __name__ == "__main__":
    main()
