"""A calibration from the load to the file, and what is refused."""

import contextlib
import dataclasses
import io
import time
from bisect import bisect_right
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from slm_energy.config.groups import LimitsConfig, MeasurementConfig
from slm_energy.config.options import CalibrateOptions
from slm_energy.doctor import calibrate as module
from slm_energy.doctor import contention, load
from slm_energy.doctor.calibrate import calibrate, relation
from slm_energy.doctor.contention import Usage
from slm_energy.doctor.load import running
from slm_energy.doctor.show_calibration import show
from slm_energy.errors import ConfigError, MeterError
from slm_energy.record import Source
from slm_energy.sampler.open_meters import open_instruments
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.wall import FakeWallMeter
from slm_energy.testing.waveform import constant

PACKAGE = "rapl/intel-rapl:0"
SHORT = CalibrateOptions(phase_s=1.2, rounds=3)


class Dial:
    """Power that a load turns up; a waveform for the fakes."""

    def __init__(self, idle_w, full_w):
        self.idle_w, self.full_w = idle_w, full_w
        self.points = [(time.monotonic_ns(), 0, round(idle_w * 1000))]

    def turn(self, level):
        now = time.monotonic_ns()
        watts = self.idle_w + level * (self.full_w - self.idle_w)
        self.points.append((now, self.energy_pj(now), round(watts * 1000)))

    def energy_pj(self, time_ns):
        place = max(0, bisect_right(self.points, time_ns, key=lambda point: point[0]) - 1)
        since, counted, power_mw = self.points[place]
        return counted + power_mw * (time_ns - since)


@pytest.fixture
def measurement(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("powercap", "hwmon"):
        (tmp_path / name).mkdir()
    return MeasurementConfig(
        name="test",
        powercap_root=str(tmp_path / "powercap"),
        hwmon_root=str(tmp_path / "hwmon"),
        # Tests run beside other programs.
        limits=LimitsConfig(foreign_cpu_pct=100.0),
    )


@contextlib.contextmanager
def a_machine(measurement, *dials):
    """A processor with this power, and a meter at the wall behind a supply of 80 %."""
    package, wall = dials
    zones = (Zone(folder="intel-rapl:0", name="package-0", waveform=package),)
    with (
        PowercapTree(Path(measurement.powercap_root), zones, period_s=0.002) as tree,
        FakeWallMeter(wall, period_s=0.05) as meter,
    ):
        yield dataclasses.replace(measurement, wall_meter=meter.config("power"))
        if tree.longest_pause_s > 0.2:
            pytest.skip("this machine is too busy to publish what a real counter would")


def calibrated(measurement, folder, dials, options=SHORT):
    @contextlib.contextmanager
    def turned(load, level):
        for dial in dials:
            dial.turn(level)
        yield

    lines = []
    with a_machine(measurement, *dials) as machine:
        result = calibrate(machine, options, folder, lines.append, turned)
        # What a trial's sampler sees from now on.
        instruments = open_instruments(machine)
        instruments.close()
    return result, lines, instruments


def test_a_processor_is_fitted_against_the_wall_and_carries_it_from_then_on(measurement, tmp_path):
    dials = (Dial(20, 100), Dial(35 + 20 / 0.8, 35 + 100 / 0.8))
    result, lines, instruments = calibrated(measurement, tmp_path, dials)
    assert result.fit.left_out == {}
    (package,) = result.fit.sources
    assert (package.source, package.relation) == (PACKAGE, "part")
    assert package.gain.best == pytest.approx(0.8, abs=0.02)
    assert package.gain.low < package.gain.best < package.gain.high
    assert result.fit.constant_w.best == pytest.approx(35, abs=3)
    assert len(lines) == 9
    assert lines[1] == "phase 2 of 9: processors at 50 %; 10 s left"

    (source,) = [source for source in instruments.sources if source.id == PACKAGE]
    assert source.calibration.gain == package.gain
    assert source.calibration.reference == "wall/power, including power supply losses"
    assert any(f"{PACKAGE}: calibrated against wall/power" in note for note in instruments.notes)

    text = io.StringIO()
    show(result, Console(file=text, width=120))
    assert "compared with wall/power, including power supply losses" in text.getvalue()
    assert "not separable" in text.getvalue()
    assert "W of the reference belong to no source" in text.getvalue()


# --- refused before anything is loaded ------------------------------------------------------------


def refused(measurement, folder, **options):
    """Calibrate with a load that fails the test; what is refused."""

    def never(load, level):
        pytest.fail("a load was started")

    with a_machine(measurement, constant(50), constant(100)) as machine:
        if options.pop("no_wall", False):
            machine = dataclasses.replace(machine, wall_meter=None)
        with pytest.raises((ConfigError, MeterError)) as error:
            calibrate(
                machine, dataclasses.replace(SHORT, **options), folder, lambda line: None, never
            )
    return str(error.value)


def test_without_a_wall_meter_a_reference_must_be_named(measurement, tmp_path):
    message = refused(measurement, tmp_path, no_wall=True)
    assert message.startswith("there is no reference: set measurement=wall")
    assert f"against= one of {PACKAGE}" in message


def test_an_unknown_reference_is_named_with_those_there_are(measurement, tmp_path):
    message = refused(measurement, tmp_path, against="rapl/none")
    assert message == f"against=rapl/none: this machine has {PACKAGE}, wall/power"


def test_a_reference_that_covers_less_is_refused(measurement, tmp_path):
    message = refused(measurement, tmp_path, against=PACKAGE)
    assert f"{PACKAGE} cannot be a reference: it covers cpu_package (package-0)" in message
    assert "wall/power: wall" in message


@pytest.mark.parametrize("levels", [(), (0.0, 1.0), (0.5, 1.5)])
def test_a_level_is_a_share(measurement, tmp_path, levels):
    assert "each is above 0 and at most 1" in refused(measurement, tmp_path, levels=levels)


def test_a_busy_machine_is_refused(measurement, tmp_path, monkeypatch):
    ticks = iter([(0,) * 8, (90, 0, 0, 10, 0, 0, 0, 0)])
    monkeypatch.setattr(
        contention,
        "usage",
        lambda: Usage(columns=next(ticks), processes={}, cpus=1, load="1.0"),
    )
    limited = dataclasses.replace(measurement, limits=LimitsConfig(foreign_cpu_pct=10.0))
    message = refused(limited, tmp_path)
    assert message.startswith("the machine is not idle (90.0 % of all processors")
    assert "measurement.limits.foreign_cpu_pct=10" in message


def test_a_gpu_without_a_torch_that_can_load_it_is_refused(measurement, tmp_path, monkeypatch):
    write_library(FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(200)),)), tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "gpus_can_be_loaded", lambda: False)
    message = refused(measurement, tmp_path, against="nvml/GPU-1/energy")
    assert "no load can be run on this GPU: set gpus=true" in message


# --- what a reference covers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "source", "expected"),
    [
        (("wall", "a"), ("gpu", "b"), "part"),
        (("wall", "a"), ("cpu_package", "b"), "part"),
        (("psys", "a"), ("cpu_package", "b"), "part"),
        (("psys", "a"), ("dram", "b"), None),
        (("cpu_package", "a"), ("gpu", "b"), None),
        (("cpu_package", "a"), ("wall", "b"), None),
        (("gpu", "a"), ("gpu", "a"), "same"),
        (("gpu", "a"), ("gpu", "b"), None),
    ],
)
def test_a_reference_covers_the_same_device_or_what_its_domain_contains(
    reference, source, expected
):
    one, other = (
        Source(id=device, kind="counter", domain=domain, unit="uJ", device=device)
        for domain, device in (reference, source)
    )
    assert relation(one, other) == expected


# --- the load ------------------------------------------------------------------------------------


def test_the_load_keeps_processors_busy_and_ends_with_the_context():
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    with running("processors", 0.01):
        (process,) = [child for child in me.children() if child.pid not in before]
        until = time.monotonic() + 20
        while sum(process.cpu_times()[:2]) < 0.5 and time.monotonic() < until:
            time.sleep(0.05)
        assert sum(process.cpu_times()[:2]) >= 0.5
    assert not process.is_running()


def test_a_gpu_is_loaded_by_a_process_that_sees_only_this_gpu(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(
        "import numpy\n"
        "def rand(rows, columns, device): return numpy.random.rand(64, 64)\n"
        "class cuda:\n"
        "    @staticmethod\n"
        "    def synchronize(): open(r'{}', 'a').write('x')\n".format(tmp_path / "rounds")
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    with running("GPU-1", 0.5):
        (process,) = [child for child in me.children() if child.pid not in before]
        until = time.monotonic() + 20
        while not (tmp_path / "rounds").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert (tmp_path / "rounds").read_text().startswith("x")
    assert not process.is_running()


def test_a_load_that_ends_by_itself_is_an_error(monkeypatch):
    monkeypatch.setattr(load, "_PROCESSOR", "raise SystemExit(0)")
    error = pytest.raises(MeterError, match="a process that keeps processors busy has ended")
    with error, running("processors", 0.01):
        time.sleep(1)
