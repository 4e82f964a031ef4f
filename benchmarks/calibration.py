"""How often the intervals of `slm-energy calibrate` contain the true gain, offset and lag.

    python benchmarks/calibration.py [--runs 200] [--rounds 5] [--phase 20]

Simulated calibrations: loads that fluctuate, sensors with a known gain, offset and lag that publish
at their own pace, average and round, and a reference with noise of its own. 95 % are promised. The
lag's interval also covers when a publication is seen, which is the same at every step of a run: it
contains the truth more often.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slm_energy.doctor.calibration_curves import Phase
from slm_energy.doctor.calibration_fit import Fit, fit
from slm_energy.record import Fitted, Series, Source
from slm_energy.testing.scenes import Scene
from slm_energy.testing.waveform import Polyline

S, MS = 10**9, 10**6
START_NS = 100 * S
GRID_NS = 100 * MS
MAX_GAP_NS = 3 * S
GPU = "GPU-1"

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sensor:
    """A sensor, what it does to the true power, and when it is read."""

    source: Source
    gain: float = 1.0
    offset_w: float = 0.0
    lag_s: float = 0.0
    noise_w: float = 0.0
    step_ns: int = 100 * MS
    jitter: float = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """What a fit should contain: by source, gain, offset (None: not fitted) and lag."""

    gain: float
    offset_w: float | None
    lag_s: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """Sources, a reference, the loads they see, and the truth about each source.

    Attributes:
        loads_w: load to full power above idle.
        idle_w: by load, power when idle.
        sensors: load to its sensors; each sees all of it.
        shares: share of the load's power that each of its sensors sees.
        same: sensors and reference measure the same device.
    """

    loads_w: Mapping[str, float]
    idle_w: Mapping[str, float]
    sensors: Mapping[str, Sequence[Sensor]]
    shares: Mapping[str, Sequence[float]]
    reference: Sensor
    efficiency: Mapping[str, float]
    rest_w: float = 0.0
    same: bool = False


def source(name: str, domain: str, kind: str, unit: str, period_ms: int, **more: int) -> Source:
    """A source; its period is in ms."""
    return Source(
        id=name, kind=kind, domain=domain, unit=unit, update_period_ns=period_ms * MS, **more
    )


RAPL = Sensor(source=source("rapl/intel-rapl:0", "cpu_package", "counter", "uJ", 1))
DRAM = Sensor(source=source("rapl/intel-rapl:0:0", "dram", "counter", "uJ", 1))
NVML = Sensor(
    source=source("nvml/GPU-1/energy", "gpu", "counter", "mJ", 100), lag_s=0.06, step_ns=30 * MS
)
WALL = Sensor(
    source=source("wall/power", "wall", "power", "mW", 1000, averaging_ns=S),
    lag_s=1.5,
    noise_w=1.0,
    step_ns=S,
    jitter=0.0,
)
SCENARIOS: dict[str, Scenario] = {
    "RAPL and DRAM against a wall meter": Scenario(
        loads_w={"processors": 100},
        idle_w={"processors": 20},
        sensors={"processors": (RAPL, DRAM)},
        shares={"processors": (0.9, 0.1)},
        reference=WALL,
        efficiency={"processors": 0.8},
        rest_w=35,
    ),
    "RAPL and a GPU against a wall meter": Scenario(
        loads_w={"processors": 100, GPU: 250},
        idle_w={"processors": 20, GPU: 30},
        sensors={"processors": (RAPL,), GPU: (NVML,)},
        shares={"processors": (1.0,), GPU: (1.0,)},
        reference=WALL,
        efficiency={"processors": 0.8, GPU: 0.9},
        rest_w=35,
    ),
    "RAPL against a wall counter, 1 mWh": Scenario(
        loads_w={"processors": 100},
        idle_w={"processors": 20},
        sensors={"processors": (RAPL,)},
        shares={"processors": (1.0,)},
        reference=dataclasses.replace(
            WALL, source=source("wall/energy", "wall", "counter", "mJ", 1000, quantum=3600)
        ),
        efficiency={"processors": 0.8},
        rest_w=35,
    ),
    "GPU power against the GPU's counter": Scenario(
        loads_w={GPU: 250},
        idle_w={GPU: 30},
        sensors={
            GPU: (
                Sensor(
                    source=source("nvml/GPU-1/power", "gpu", "power", "mW", 100),
                    gain=1.05,
                    offset_w=3.0,
                    lag_s=0.15,
                    noise_w=1.0,
                    step_ns=50 * MS,
                ),
            )
        },
        shares={GPU: (1.0,)},
        reference=NVML,
        efficiency={GPU: 1.0},
        same=True,
    ),
}


def phases(loads: Sequence[str], *, rounds: int, phase_s: float) -> tuple[Phase, ...]:
    """Idle, then half and full load of each kind, in alternating order."""
    length_ns, made = round(phase_s * S), list[Phase]()
    for number in range(rounds):
        levels = (0.5, 1.0) if number % 2 else (1.0, 0.5)
        plan = [("idle", 0.0), *((load, level) for load in loads for level in levels)]
        for load, level in plan:
            start_ns = START_NS + len(made) * length_ns
            made.append(
                Phase(
                    load=load,
                    level=level,
                    start_ns=start_ns,
                    end_ns=start_ns + length_ns,
                )
            )
    return tuple(made)


def simulate(
    scenario: Scenario, seed: int, *, rounds: int, phase_s: float
) -> tuple[Fit, dict[str, Truth]]:
    """One calibration, and the truth about its sources."""
    rng = np.random.default_rng(seed)
    plan = phases(tuple(scenario.loads_w), rounds=rounds, phase_s=phase_s)
    times = np.arange(plan[0].start_ns - 20 * S, plan[-1].end_ns + 20 * S, GRID_NS)
    true_w = {load: _load(scenario, load, plan, times, rng) for load in scenario.loads_w}
    reference_w = scenario.rest_w + sum(
        watts / scenario.efficiency[load] for load, watts in true_w.items()
    )
    ours, span = scenario.reference, (plan[0].start_ns - 10 * S, plan[-1].end_ns + 10 * S)
    reference = _series(ours, np.asarray(reference_w), times, span, rng)
    shown: dict[str, list[Series]] = {}
    truths: dict[str, Truth] = {}
    for load, sensors in scenario.sensors.items():
        for sensor, share in zip(sensors, scenario.shares[load], strict=True):
            shown.setdefault(load, []).append(
                _series(sensor, share * true_w[load], times, span, rng)
            )
            truths[sensor.source.id] = Truth(
                gain=sensor.gain * scenario.efficiency[load],
                offset_w=sensor.offset_w if scenario.same else None,
                lag_s=sensor.lag_s - ours.lag_s,
            )
    same = [series for some in shown.values() for series in some] if scenario.same else []
    parts = {} if scenario.same else shown
    return fit(reference, same, parts, plan, max_gap_ns=MAX_GAP_NS), truths


def _load(
    scenario: Scenario, load: str, plan: Sequence[Phase], times: Floats, rng: np.random.Generator
) -> Floats:
    """True power: idle, or a share of the load, that fluctuates by 2 % of the range."""
    level = np.zeros(len(times))
    for phase in plan:
        if phase.load == load:
            # From the first point that is surely within: every sensor sees the same ramp.
            level[(times >= phase.start_ns) & (times < phase.end_ns)] = phase.level
    full_w = scenario.loads_w[load]
    return scenario.idle_w[load] + full_w * level + _wander(len(times), 0.02 * full_w, rng)


def _wander(n: int, sd: float, rng: np.random.Generator) -> Floats:
    """Correlated noise of this standard deviation; it decays within about 2 s."""
    kept = 0.95
    noise, values = rng.normal(0, sd * np.sqrt(1 - kept**2), n), np.zeros(n)
    for at in range(1, n):
        values[at] = kept * values[at - 1] + noise[at]
    return values


def _series(
    sensor: Sensor, true_w: Floats, times: Floats, span: tuple[int, int], rng: np.random.Generator
) -> Series:
    shown_w = sensor.offset_w + sensor.gain * true_w + _wander(len(times), sensor.noise_w, rng)
    moved = (times + round(sensor.lag_s * S)).tolist()
    powers_mw = np.maximum(0, np.round(1000 * shown_w)).astype(int).tolist()
    waveform = Polyline(times_ns=tuple(moved), powers_mw=tuple(powers_mw))
    scene = Scene(
        name="", source=sensor.source, waveform=waveform, window=None, step_ns=sensor.step_ns
    )  # type: ignore[arg-type]
    steps = rng.uniform(1 - sensor.jitter, 1 + sensor.jitter, (span[1] - span[0]) // sensor.step_ns)
    at = span[0] + rng.integers(sensor.step_ns) + np.cumsum(steps * sensor.step_ns).astype(int)
    before = [int(time) for time in at]
    return Series(
        source=sensor.source,
        before_ns=tuple(before),
        raw=tuple(scene.raw(time + 10_000) for time in before),
        after_ns=tuple(time + 20_000 for time in before),
    )


def covered(fitted: Fitted, truth: float) -> bool:
    """Whether an interval has the truth."""
    return fitted.low <= truth <= fitted.high


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--phase", type=float, default=20.0, help="length of a phase, s")
    options = parser.parse_args()
    print(f"{options.runs} calibrations of {options.rounds} rounds, phases of {options.phase:g} s")
    print(f"{'':<34}{'':<20}{'covered, %':>10}{'half width':>12}{'bias':>10}")
    for name, scenario in SCENARIOS.items():
        runs = [
            simulate(scenario, seed, rounds=options.rounds, phase_s=options.phase)
            for seed in range(options.runs)
        ]
        _print(name, runs)


def _print(name: str, runs: Sequence[tuple[Fit, dict[str, Truth]]]) -> None:
    quantities: dict[str, Callable[[object], object]] = {
        "gain": lambda of: of.gain,  # type: ignore[attr-defined]
        "offset_w": lambda of: of.offset_w,  # type: ignore[attr-defined]
        "lag_s": lambda of: of.lag_s,  # type: ignore[attr-defined]
    }
    print(name)
    for source_id in runs[0][1]:
        for label, quantity in quantities.items():
            pairs = [
                (quantity(each), quantity(truths[source_id]))
                for result, truths in runs
                for each in result.sources
                if each.source == source_id
            ]
            if not pairs or pairs[0][1] is None:
                continue
            hits = statistics.fmean(covered(fitted, truth) for fitted, truth in pairs)
            half = statistics.fmean((fitted.high - fitted.low) / 2 for fitted, _ in pairs)
            bias = statistics.fmean(fitted.best - truth for fitted, truth in pairs)
            print(f"  {source_id:<32}{label:<20}{100 * hits:>10.1f}{half:>12.4f}{bias:>10.4f}")
    for result, _ in runs:
        for source_id, why in result.left_out.items():
            print(f"  {source_id} was left out: {why}")


if __name__ == "__main__":
    main()
