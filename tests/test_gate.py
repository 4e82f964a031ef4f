"""The gate on the real sampling process; GPU and counters are fakes, the busy processes are real."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slm_energy import checks, fields, trial
from slm_energy.config import EngineConfig, GateConfig, MeasurementConfig, RunConfig
from slm_energy.gate import Gate, Level, Rest, readings
from slm_energy.meters.host import HostMeter
from slm_energy.meters.sampler import Sampler
from slm_energy.plain import write_json
from slm_energy.record import CheckResult, GateQuantity, GateReport, Series, Window
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.captures import a_capture
from tests.conftest import a_cell, a_trial

COOL = {
    "gpu 0 temperature": Level(mean=45, highest=45, unit="C"),
    "gpu power": Level(mean=70, highest=70, unit="W"),
}
IDLE = {"cpu utilization": Level(mean=0, highest=85, unit="pct")}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine with a package at 50 W and one GPU, and the sampling process that reads them."""

    folder: Path
    sampler: Sampler

    def gpu(self, temperature_c: int = 45, watts: int = 70, **more: Any) -> None:
        """From now on the GPU is like this."""
        describe_gpu(self.folder, temperature_c, watts, **more)


def describe_gpu(folder: Path, temperature_c: int = 45, watts: int = 70, **more: Any) -> None:
    gpu = FakeGpu(uuid="GPU-1", waveform=constant(watts), temperature_c=temperature_c, **more)
    write_library(FakeNvml(gpus=(gpu,)), folder)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "powercap").mkdir()
    describe_gpu(folder)
    measurement = MeasurementConfig(
        name="test",
        mode="strict",
        target_error=1.0,
        powercap_root=str(folder / "powercap"),
        baseline_s=0.05,
        warmup_requests=1,
        serve_s=0.1,
    )
    package = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    with pytest.MonkeyPatch.context() as patch, PowercapTree(folder / "powercap", [package]):
        patch.setenv("LD_LIBRARY_PATH", str(folder))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with Sampler(measurement, folder) as sampler:
            yield Machine(folder=folder, sampler=sampler)


@pytest.fixture
def machine(started: Machine) -> Machine:
    started.gpu()
    return started


class Watcher:
    """Remembers what the gate says it waits for, and does something when it first says so."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self._then = then
        self.waits: list[str] = []

    def __call__(self, phase: str, share: float) -> None:
        if phase.startswith("gate, "):
            if not self.waits:
                self._then()
            self.waits.append(phase)


@contextlib.contextmanager
def every_processor_busy() -> Iterator[Callable[[], None]]:
    """Give a function that ends it."""
    code = "print(flush=True)\nwhile True: pass"
    command = [sys.executable, "-c", code]
    busy = [
        subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)
    ]

    def end() -> None:
        for each in busy:
            each.kill()
            each.communicate()

    try:
        for each in busy:
            assert each.stdout is not None
            each.stdout.readline()
        yield end
    finally:
        end()


def kept(folder: Path, rest: dict[str, Level]) -> Path:
    """A file that says how the machine is at rest."""
    write_json(folder / "rest.json", Rest(levels=rest))
    return folder / "rest.json"


def by_name(report: GateReport | None) -> dict[str, GateQuantity]:
    assert report is not None
    return {each.name: each for each in report.quantities}


def test_it_waits_while_other_processes_run_and_passes_when_they_are_gone(
    machine: Machine, tmp_path: Path
) -> None:
    """95 % is what no machine has whose processors all spin, and any that has 5 % to spare."""
    config = GateConfig(at_most_s=120, load_pct=10)
    gate = Gate(config, machine.sampler, kept(tmp_path, IDLE))
    with every_processor_busy() as end:
        progress = Watcher(then=end)
        report = gate.wait(progress)
    load = by_name(report)["cpu utilization"]
    assert load.limit == 95
    assert load.first is not None
    assert load.first > 95
    assert load.at_rest
    assert "cpu utilization 100 % (rest 0, limit 95)" in progress.waits[0]


def test_it_waits_for_a_gpu_to_cool_down_and_tells_what_decided(machine: Machine, tmp_path: Path) -> None:
    machine.gpu(temperature_c=70, watts=200)
    progress = Watcher(then=machine.gpu)
    gate = Gate(GateConfig(), machine.sampler, kept(tmp_path, COOL))
    found = by_name(gate.wait(progress))
    heat, power = found["gpu 0 temperature"], found["gpu power"]
    assert (heat.first, heat.last, heat.rest, heat.limit, heat.unit) == (70, 45, 45, 50, "C")
    assert power.first == pytest.approx(200, rel=0.1)
    assert power.last == pytest.approx(70, rel=0.1)
    assert power.limit == 84
    assert "gpu 0 temperature 70 °C" in progress.waits[0]


def test_a_machine_that_cannot_come_to_rest_costs_the_longest_wait_once(machine: Machine, tmp_path: Path) -> None:
    """70 °C is as far as waiting brings it; for 80 °C, the gate waits again."""
    machine.gpu(temperature_c=70)
    gate = Gate(GateConfig(at_most_s=0.9), machine.sampler, kept(tmp_path, COOL))
    first, again = Watcher(), Watcher()
    for progress in (first, again):
        assert not by_name(gate.wait(progress))["gpu 0 temperature"].at_rest
    assert first.waits
    assert not again.waits
    machine.gpu(temperature_c=80)
    hotter = Watcher(then=machine.gpu)
    assert by_name(gate.wait(hotter))["gpu 0 temperature"].at_rest


def test_what_cannot_be_read_any_more_is_not_at_rest(machine: Machine, tmp_path: Path) -> None:
    machine.gpu(errors={"nvmlDeviceGetTemperature": "Unknown"})
    gate = Gate(GateConfig(at_most_s=0.1), machine.sampler, kept(tmp_path, COOL))
    report = gate.wait(Watcher())
    heat = by_name(report)["gpu 0 temperature"]
    assert heat.last is None
    assert not heat.at_rest
    assert by_name(report)["gpu power"].at_rest


def test_the_processor_s_temperature_counts_where_the_kernel_tells_it(tmp_path: Path) -> None:
    for name, text in (("name", "coretemp"), ("temp1_input", "43500"), ("temp2_input", "41000")):
        (tmp_path / "hwmon0").mkdir(exist_ok=True)
        (tmp_path / "hwmon0" / name).write_text(f"{text}\n")
    meter = HostMeter(hwmon=tmp_path)
    [place] = [i for i, source in enumerate(meter.sources) if source.unit == "C"]
    read = Series(
        source=meter.sources[place],
        before_ns=(1, 3),
        raw=(meter.read(place), None),
        after_ns=(2, 4),
        errors={"1": "EIO"},
    )
    look = Window(name="gate", start_ns=2, end_ns=3)
    assert readings([read], look, 10**9) == {"cpu temperature": (43.5, "C")}


def test_rest_is_how_the_machine_was_and_the_record_tells_what_was_waited_for(
    machine: Machine, config: RunConfig, tmp_path: Path
) -> None:
    entry = a_trial(
        config,
        cell=a_cell(
            config,
            engine=EngineConfig(name="scripted"),
            measurement=machine.sampler.measurement,
        ),
    )
    generous = GateConfig(pause_s=0.1, load_pct=100, power_pct=1000)
    gate = Gate(generous, machine.sampler)
    record = trial.run(entry, tmp_path, machine.sampler, Watcher(), gate)
    assert record.capture is not None
    found = by_name(record.capture.gate)
    assert {"cpu utilization", "cpu_package power", "gpu power"} <= found.keys()
    assert found["gpu 0 temperature"].rest == 45
    assert found["cpu_package power"].rest == pytest.approx(50, rel=0.3)
    assert fields.metrics(record)["time/phase_gate_s"] >= 0.1
    assert rested(record.checks).passed
    assert "at rest after" in rested(record.checks).detail


def test_the_rest_that_a_job_found_is_what_the_next_one_on_that_node_waits_for(
    machine: Machine, tmp_path: Path
) -> None:
    """The second begins hot; by itself it would take that for rest."""
    config, file = GateConfig(at_most_s=0.1), tmp_path / "rest.json"
    Gate(config, machine.sampler, file)
    machine.gpu(temperature_c=70)
    heat = by_name(Gate(config, machine.sampler, file).wait(Watcher()))["gpu 0 temperature"]
    assert (heat.rest, heat.last, heat.at_rest) == (45, 70, False)


def rested(results: tuple[CheckResult, ...]) -> CheckResult:
    return next(each for each in results if each.name == "rested")


def test_a_trial_that_did_not_begin_at_rest_is_flagged_with_the_figures(config: RunConfig) -> None:
    heat = GateQuantity(name="cpu temperature", unit="C", rest=41, limit=46, first=80, last=52.5)
    report = GateReport(pause_s=0, waited_s=60.2, at_most_s=60, quantities=(heat,))

    def verdict(gate: GateReport | None) -> CheckResult:
        return rested(checks.run(a_trial(config), a_capture(gate=gate), ()))

    hot = verdict(report)
    assert (hot.passed, hot.flagged) == (True, True)
    assert hot.detail == (
        "not at rest after 60.2 s: cpu temperature 52.5 °C (rest 41, limit 46);"
        " study.gate.at_most_s=60"
    )
    cool = dataclasses.replace(report, quantities=(dataclasses.replace(heat, last=46),))
    assert (verdict(cool).passed, verdict(cool).flagged) == (True, False)
    assert verdict(None).passed is None


def test_a_fixed_pause_needs_no_meters_and_no_gate_does_nothing() -> None:
    told: list[str] = []
    pause = Gate(GateConfig(pause_s=0.05, at_most_s=0), None)
    report = pause.wait(lambda phase, share: told.append(phase))
    assert report == GateReport(pause_s=0.05, waited_s=0, at_most_s=0, quantities=())
    assert told == ["pause"]
    assert Gate(GateConfig(at_most_s=0), None).wait(Watcher()) is None
