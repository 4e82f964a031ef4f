"""The gate on the real sampling process: sensors are fakes, the processes waited for are real."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slm_energy.config.groups import (
    EngineConfig,
    GateConfig,
    MeasurementConfig,
    RunConfig,
    WorkloadConfig,
)
from slm_energy.derive import checks
from slm_energy.meters.host import HostMeter
from slm_energy.record import CheckResult, GateQuantity, GateReport, Series, Window
from slm_energy.running import trial
from slm_energy.running.gate import Gate, Level, Rest, readings
from slm_energy.sampler.client import Sampler
from slm_energy.serialization import write_json
from slm_energy.store import mlflow_schema
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.captures import a_capture
from tests.conftest import a_cell, a_trial

LOOK_S = 0.2
METER_OF_ONE_PROCESS = """
import pathlib, psutil
from slm_energy.meters.base import Channel, Opened
from slm_energy.record import Source

def read():
    try:
        pid = int(pathlib.Path(__file__).with_name("pid").read_text())
        return 100.0 * (psutil.Process(pid).status() == "running")
    except (FileNotFoundError, psutil.NoSuchProcess):
        return 0.0

class OneProcess:
    slow, name = False, "child_utilization_percentage"
    source = Source(id=name, kind="gauge", domain="child", unit="pct")
    channels = (Channel(source=source, read=read),)

    def watch(self, pid): pass
    def close(self): pass

def open_it(measurement):
    return Opened(meter=OneProcess())
"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A package at 50 W, one GPU, and the sampling process, with a meter of one process too."""

    folder: Path
    sampler: Sampler

    def gpu(self, temperature_c: int = 45, watts: int = 70, **more: Any) -> None:
        """From now on the GPU is like this."""
        describe_gpu(self.folder, temperature_c, watts, **more)

    def gate(self, rest: dict[str, Level], at_most_s: float) -> Gate:
        """A gate that knows how this machine is at rest."""
        file = self.folder / "rest.json"
        write_json(file, Rest(levels=rest))
        return Gate(GateConfig(at_most_s=at_most_s), self.sampler, file, look_s=LOOK_S)


def describe_gpu(folder: Path, temperature_c: int = 45, watts: int = 70, **more: Any) -> None:
    gpu = FakeGpu(uuid="GPU-1", waveform=constant(watts), temperature_c=temperature_c, **more)
    write_library(FakeNvml(gpus=(gpu,)), folder)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    for name in ("powercap", "child-1.dist-info"):
        (folder / name).mkdir()
    info = folder / "child-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: child\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[slm_energy.meters]\nchild = child:open_it\n")
    (folder / "child.py").write_text(METER_OF_ONE_PROCESS)
    describe_gpu(folder)
    measurement = MeasurementConfig(
        name="test", mode="strict", powercap_root=str(folder / "powercap")
    )
    package = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
    with pytest.MonkeyPatch.context() as patch, PowercapTree(folder / "powercap", [package]):
        patch.setenv("LD_LIBRARY_PATH", str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with Sampler(measurement, folder) as sampler:
            yield Machine(folder=folder, sampler=sampler)


@pytest.fixture
def machine(started: Machine) -> Machine:
    started.gpu()
    return started


@pytest.fixture
def spinning(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """A process per processor that never rests; the first is the one that has a meter."""
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    busy = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    for each in busy:
        assert each.stdout is not None
        each.stdout.readline()
    (machine.folder / "pid").write_text(str(busy[0].pid))
    yield busy[0]
    (machine.folder / "pid").unlink()
    for each in busy:
        with each:
            each.kill()


class Waits:
    """What the gate says it waits for; `then` is done when it first says so."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self._then = then
        self.told: list[str] = []

    def __call__(self, phase: str, share: float) -> None:
        if phase.startswith("gate, "):
            self.told.append(phase)
            if len(self.told) == 1:
                self._then()


def by_name(report: GateReport | None) -> dict[str, GateQuantity]:
    assert report is not None
    return {each.name: each for each in report.quantities}


def test_it_waits_while_a_process_spins_and_passes_when_that_is_gone(
    machine: Machine, spinning: subprocess.Popen[bytes]
) -> None:
    """Whatever else this machine does: this load is the process's own."""
    idle = {"child utilization": Level(mean=0, highest=0, unit="pct")}

    def end() -> None:
        spinning.kill()
        spinning.wait()

    waits = Waits(then=end)
    found = by_name(machine.gate(idle, at_most_s=60).wait(waits))["child utilization"]
    assert (found.first, found.limit, found.last) == (100, 10, 0)
    assert "child utilization 100 % (rest 0, limit 10)" in waits.told[0]


@pytest.mark.usefixtures("spinning")
def test_the_machine_s_own_load_counts(machine: Machine) -> None:
    idle = {"cpu utilization": Level(mean=0, highest=80, unit="pct")}
    found = by_name(machine.gate(idle, at_most_s=0.1).wait(Waits()))["cpu utilization"]
    assert found.limit == 90
    assert not found.at_rest


COOL = {
    "gpu 0 temperature": Level(mean=45, highest=46, unit="C"),
    "gpu power": Level(mean=70, highest=75, unit="W"),
}


def test_a_machine_that_cannot_come_to_rest_costs_the_longest_wait_once(machine: Machine) -> None:
    """70 °C is as far as waiting brings it; from 80 °C, and once it was at rest, it waits again."""
    gate = machine.gate(COOL, at_most_s=1.0)
    machine.gpu(temperature_c=70)
    first, second = Waits(), Waits()
    for waits in (first, second):
        assert not by_name(gate.wait(waits))["gpu 0 temperature"].at_rest
    assert second.told == []
    machine.gpu(temperature_c=80, watts=200)
    third = Waits(then=machine.gpu)
    found = by_name(gate.wait(third))
    heat, power = found["gpu 0 temperature"], found["gpu power"]
    assert (heat.first, heat.last, heat.rest, heat.limit, heat.unit) == (80, 45, 45, 51, "C")
    assert "gpu 0 temperature 80 °C (rest 45, limit 51)" in third.told[0]
    assert power.first == pytest.approx(200, rel=0.2)
    assert power.last == pytest.approx(70, rel=0.2)
    assert power.limit == 90
    machine.gpu(temperature_c=70)
    fourth = Waits(then=machine.gpu)
    gate.wait(fourth)
    assert fourth.told


def test_what_cannot_be_read_any_more_is_not_at_rest(machine: Machine) -> None:
    """A limit is never less than 1 W above rest."""
    machine.gpu(errors={"nvmlDeviceGetTemperature": "Unknown"})
    rest = COOL | {"dram power": Level(mean=2, highest=2, unit="W")}
    found = by_name(machine.gate(rest, at_most_s=0.1).wait(Waits()))
    assert found["gpu power"].at_rest
    assert found["dram power"].limit == 3
    for name in ("gpu 0 temperature", "dram power"):
        assert found[name].last is None
        assert not found[name].at_rest
        assert f"{name} unreadable" in found[name].description


def test_rest_is_how_the_machine_was_and_a_later_process_may_know_it(
    machine: Machine, tmp_path: Path
) -> None:
    """The job that comes second begins hot; by itself it would take that for rest."""
    generous = GateConfig(at_most_s=0.1, load_pct=100, power_pct=1000)
    file = tmp_path / "rest.json"
    found = by_name(Gate(generous, machine.sampler, file, look_s=LOOK_S).wait(Waits()))
    assert {"cpu utilization", "gpu 0 utilization", "gpu power"} <= found.keys()
    assert found["cpu_package power"].rest == pytest.approx(50, rel=0.3)
    assert found["gpu 0 temperature"].limit == 50
    assert all(each.at_rest for each in found.values())
    machine.gpu(temperature_c=70)
    later = by_name(Gate(generous, machine.sampler, file, look_s=LOOK_S).wait(Waits()))
    assert [name for name, each in later.items() if not each.at_rest] == ["gpu 0 temperature"]


def test_the_processor_s_temperature_counts_where_the_kernel_tells_it(tmp_path: Path) -> None:
    (tmp_path / "hwmon0").mkdir()
    for name, text in (("name", "coretemp"), ("temp1_input", "43500"), ("temp2_input", "41000")):
        (tmp_path / "hwmon0" / name).write_text(f"{text}\n")
    meter = HostMeter(hwmon=tmp_path)
    [channel] = [channel for channel in meter.channels if channel.source.unit == "C"]
    read = Series(
        source=channel.source,
        before_ns=(1, 3),
        raw=(channel.read(), None),
        after_ns=(2, 4),
        errors={"1": "EIO"},
    )
    look = Window(name="gate", start_ns=2, end_ns=3)
    assert readings([read], look, 10**9) == {"cpu temperature": (43.5, "C")}


def test_a_trial_waits_before_its_worker_starts_and_its_record_says_so(
    config: RunConfig, tmp_path: Path
) -> None:
    """A fixed pause needs no meters."""
    short = MeasurementConfig(name="off", mode="off", baseline_s=0, warmup_requests=1, serve_s=0.1)
    few = WorkloadConfig(name="bundled", source="bundled", limit=3, new_tokens=4)
    scripted = EngineConfig(name="scripted")
    cell = a_cell(config, engine=scripted, measurement=short, workload=few)
    phases: list[str] = []
    record = trial.run(
        a_trial(config, cell=cell),
        tmp_path,
        None,
        lambda phase, share: phases.append(phase),
        Gate(GateConfig(pause_s=0.05), None),
    )
    assert phases[0] == "pause"
    assert record.capture is not None
    assert record.capture.gate == GateReport(pause_s=0.05, waited_s=0, at_most_s=60, quantities=())
    assert mlflow_schema.metrics(record)["time/phase_gate_s"] == 0.05
    assert Gate(GateConfig(), None).wait(Waits()) is None


def test_a_trial_that_did_not_begin_at_rest_is_flagged_with_the_figures(config: RunConfig) -> None:
    heat = GateQuantity(name="cpu temperature", unit="C", rest=41, limit=46, first=80, last=52.5)
    report = GateReport(pause_s=0, waited_s=60.2, at_most_s=60, quantities=(heat,))

    def verdict(gate: GateReport | None) -> CheckResult:
        results = checks.run(a_trial(config), a_capture(gate=gate), ())
        return next(each for each in results if each.name == "rested")

    hot = verdict(report)
    assert (hot.passed, hot.flagged) == (True, True)
    assert hot.detail == (
        "not at rest after 60.2 s: cpu temperature 52.5 °C (rest 41, limit 46);"
        " study.gate.at_most_s=60"
    )
    cool = dataclasses.replace(report, quantities=(dataclasses.replace(heat, last=46),))
    assert (verdict(cool).passed, verdict(cool).flagged) == (True, False)
    assert verdict(None).passed is None
