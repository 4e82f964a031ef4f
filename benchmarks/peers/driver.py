"""Feeds scripted counters to one other tool, in that tool's own environment.

    python driver.py TOOL FOLDER < cases.json > results.json

A case is what the counter's file holds `before` the tool is set up, and at each of the `ticks` 0 to
10, which are one second and 100 J apart. The tool measures from tick 0 to tick 10 with its own
classes; they are only told where to look, and `PATCHED` says how. Time is the script's, but for
Zeus, which polls in processes of its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from script import TICK_S, TICKS, Counter

Case = dict[str, Any]
Result = dict[str, Any]
Go = Callable[[int], None]
Measure = Callable[[Go], float | None]

PATCHED = {
    "codecarbon": "nothing: hardware.CPU takes rapl_dir",
    "perun": "backend.powercap_rapl.RAPL_PATH",
    "pyJoules": "device.rapl_device.RAPL_API_DIR",
    "pyRAPL": "PkgAPI._get_socket_directory_names, which has the path in it",
    "carbontracker": "components.cpu.intel.RAPL_DIR; its time.sleep moves the script on",
    "zeus": "device.cpu.rapl.RAPL_DIR",
}

ZEUS_AT_ONCE = 12
"""Zeus starts a process for each counter."""

POLL_S = 1.3
"""Zeus polls for wraps each second: what happens in between is given the time to be seen."""


def one_by_one(measure: Measure, cases: list[Case], counter: Counter) -> Iterator[Result]:
    """Measure cases one after the other, with a function that is given the script's clock."""
    for case in cases:
        counter.show(case["before"])

        def go(tick: int, texts: list[str] = case["ticks"]) -> None:
            counter.show(texts[tick])

        with heard() as said:
            result = attempt(partial(measure, go))
        yield {**result, "said": said}


def codecarbon(root: Path) -> Measure:
    """`hardware.CPU`, asked at each tick, its energies added up."""
    from codecarbon.external.hardware import CPU

    def measure(go: Go) -> float:
        cpu = CPU(
            output_dir=str(root),
            mode="intel_rapl",
            model="fake",
            tdp=100,
            rapl_dir=str(root / "intel-rapl"),
        )
        go(0)
        cpu.start()
        joules = 0.0
        for tick in range(1, TICKS + 1):
            go(tick)
            _, energy = cpu.measure_power_and_energy(last_duration=TICK_S)
            joules += energy.kWh * 3.6e6
        return joules

    return measure


def perun(root: Path) -> Measure:
    """Its sensor, read at each tick, and its `processEnergyData`."""
    import numpy
    from perun.backend import powercap_rapl
    from perun.data_model.data import RawData
    from perun.data_model.measurement_type import Magnitude, MetricMetaData, Unit
    from perun.processing import processEnergyData

    powercap_rapl.RAPL_PATH = str(root)
    (sensor,) = powercap_rapl.PowercapRAPLBackend().devices.values()
    single = numpy.dtype("float32")
    seconds = MetricMetaData(
        Unit.SECOND, Magnitude.ONE, single, numpy.float32(0), numpy.finfo(single).max, -1
    )

    def measure(go: Go) -> float:
        values = []
        for tick in range(TICKS + 1):
            go(tick)
            values.append(sensor.read())
        times = numpy.arange(TICKS + 1, dtype=single) * TICK_S
        raw = RawData(times, numpy.array(values), seconds, sensor.dataType)
        return float(processEnergyData(raw)[0])

    return measure


def pyjoules(root: Path) -> Measure:
    """Its `EnergyMeter` from the first tick to the last."""
    from pyJoules.device import rapl_device
    from pyJoules.energy_meter import EnergyMeter

    rapl_device.RAPL_API_DIR = str(root / "intel-rapl")

    def measure(go: Go) -> float:
        device = rapl_device.RaplDevice()
        device.configure([rapl_device.RaplPackageDomain(0)])
        meter = EnergyMeter([device])
        go(0)
        meter.start()
        go(TICKS)
        meter.stop()
        return meter.get_trace()[0].energy["package_0"] / 1e6

    return measure


def pyrapl(root: Path) -> Measure:
    """Its `Measurement` from the first tick to the last."""
    import pyRAPL

    folder = str(root / "intel-rapl" / "intel-rapl:0")
    pyRAPL.PkgAPI._get_socket_directory_names = lambda self: [(folder, 0)]
    pyRAPL.setup(devices=[pyRAPL.Device.PKG], socket_ids=[0])

    def measure(go: Go) -> float | None:
        measurement = pyRAPL.Measurement("case")
        go(0)
        measurement.begin()
        go(TICKS)
        measurement.end()
        return measurement.result.pkg[0] / 1e6 if measurement.result.pkg else None

    return measure


def carbontracker(root: Path) -> Measure:
    """Its `Component`: mean power of the seconds it measured, times the time."""
    from carbontracker.components.component import Component
    from carbontracker.components.cpu import intel

    intel.RAPL_DIR = str(root)

    def measure(go: Go) -> float:
        ticks = iter(range(TICKS + 1))
        intel.time = types.SimpleNamespace(sleep=lambda seconds: go(next(ticks)))
        log = logging.getLogger("carbontracker")
        component = Component("cpu", [], False, types.SimpleNamespace(err_critical=log.error))
        component.init()
        # Its thread measures for a second, then waits for a second.
        for _ in range(TICKS // 2):
            go(next(ticks))
            component.collect_power_usage(epoch=1)
        return float(component.energy_usage([TICKS * TICK_S])[0]) * 3.6e6

    return measure


def zeus(cases: list[Case], root: Path) -> Iterator[Result]:
    """`ZeusMonitor`'s windows, many at once: its processes need real time to see what happens."""
    for start in range(0, len(cases), ZEUS_AT_ONCE):
        yield from zeus_batch(cases[start : start + ZEUS_AT_ONCE], root / f"batch{start}")


def zeus_batch(cases: list[Case], root: Path) -> list[Result]:
    """One window for each case, all in the same real time."""
    from zeus.device import cpu
    from zeus.monitor import ZeusMonitor

    counters = [Counter(root, number) for number in range(len(cases))]
    for case, counter in zip(cases, counters, strict=True):
        counter.show(case["before"])
    cpu.rapl.RAPL_DIR = str(root / "intel-rapl")
    cpu._cpus = cpu.rapl.RAPLCPUs()
    trackers = [each.rapl_file.wraparound_tracker for each in cpu._cpus.cpus]
    wait_until_idle([tracker.process.pid for tracker in trackers])
    monitors = [ZeusMonitor(gpu_indices=[], cpu_indices=[n]) for n in range(len(cases))]
    results = []
    for case, counter, monitor in zip(cases, counters, monitors, strict=True):
        counter.show(case["ticks"][0])
        with heard() as said:
            begun = attempt(partial(monitor.begin_window, "case", sync_execution=False))
        results.append({**begun, "said": said})
    for tick in (TICKS // 2 - 1, TICKS // 2, TICKS // 2 + 1, TICKS - 1):
        for case, counter in zip(cases, counters, strict=True):
            counter.show(case["ticks"][tick])
        time.sleep(POLL_S)
    for number, (case, monitor) in enumerate(zip(cases, monitors, strict=True)):
        counters[number].show(case["ticks"][TICKS])
        if results[number]["error"] is None:
            with heard() as said:
                ended = attempt(partial(end_window, monitor, number))
            results[number] = {**ended, "said": results[number]["said"] + said}
    for tracker in trackers:
        tracker._stop()
    return results


def end_window(monitor: Any, number: int) -> float:
    """Joules of the one CPU that a ZeusMonitor watches."""
    return float(monitor.end_window("case", sync_execution=False).cpu_energy[number])


def wait_until_idle(pids: list[int]) -> None:
    """Wait until all these processes have stopped computing for two seconds."""
    last: list[int] = []
    while (now := [busy(pid) for pid in pids]) != last:
        last = now
        time.sleep(2)


def busy(pid: int) -> int:
    """Processor time of a process, in the kernel's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def attempt(measure: Callable[[], Any]) -> Result:
    """Measure, or tell the error."""
    try:
        return {"joules": measure(), "error": None}
    except Exception as error:
        return {"joules": None, "error": f"{type(error).__name__}: {error}"}


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect every warning, and every log line of a warning's weight or more."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    # CodeCarbon's logger does not pass its lines on.
    loggers = [logging.getLogger(), logging.getLogger("codecarbon")]
    for logger in loggers:
        logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # That a file was left open is no word about its content.
        warnings.simplefilter("ignore", ResourceWarning)
        yield said
    for logger in loggers:
        logger.removeHandler(handler)
    said.extend(str(warning.message) for warning in caught)


TOOLS: dict[str, Callable[[Path], Measure]] = {
    "codecarbon": codecarbon,
    "perun": perun,
    "pyJoules": pyjoules,
    "pyRAPL": pyrapl,
    "carbontracker": carbontracker,
}


def main() -> None:
    """Read cases, write results."""
    tool, root = sys.argv[1], Path(sys.argv[2])
    cases: list[Case] = json.load(sys.stdin)
    # Only the results go to standard output.
    answers = os.dup(1)
    os.dup2(2, 1)
    if tool == "zeus":
        results = list(zeus(cases, root))
    else:
        counter = Counter(root)
        results = list(one_by_one(TOOLS[tool](root), cases, counter))
    answer = {"version": version(tool), "patched": PATCHED[tool], "results": results}
    os.write(answers, json.dumps(answer).encode())


if __name__ == "__main__":
    main()
