"""All meters of a machine, opened together."""

import dataclasses
import re

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.sampler.open_meters import open_instruments
from slm_energy.testing.hwmon import HwmonTree, acpi_meter, amd_gpu, intel_arc
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.powercap import PowercapTree, Zone, amd, client, server
from slm_energy.testing.wall import FakeWallMeter
from slm_energy.testing.waveform import constant
from tests.metering import sources

CHANNELS = "channels = (Channel(source=own, read=lambda: 9_000),)"
GPUS = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(300)),))


@pytest.fixture
def measurement(tmp_path, monkeypatch):
    (tmp_path / "powercap").mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "hwmon").mkdir()
    return MeasurementConfig(
        name="test",
        powercap_root=str(tmp_path / "powercap"),
        hwmon_root=str(tmp_path / "hwmon"),
    )


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """Install a distribution with a meter of this code."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(module, code):
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[slm_energy.meters]\nwall = {module}:open_it\n")
        (tmp_path / f"{module}.py").write_text(
            "from slm_energy.meters.base import Channel, Opened\n"
            "from slm_energy.record import Source\n"
            "class Meter:\n"
            "    own = Source(id='own', kind='power', domain='fans', unit='mW')\n"
            "    def watch(self, pid): pass\n"
            "    def close(self): pass\n"
            f"    {code}\n"
            "def open_it(measurement): return Opened(meter=Meter())\n"
        )

    return install


def opened(measurement):
    """What there is on this machine: ids in their order, ids of the sum, notes."""
    instruments = open_instruments(measurement)
    instruments.close()
    joules = [s for s in instruments.sources if s.kind != "gauge"]
    return [s.id for s in joules], {s.id for s in joules if s.summed}, instruments


def test_processor_gpu_and_wall_are_metered_and_no_joule_is_summed_twice(measurement, tmp_path):
    with (
        PowercapTree(tmp_path / "powercap", client(constant(30)), period_s=0.001),
        installed(GPUS),
        FakeWallMeter(constant(400)) as wall,
    ):
        measurement = dataclasses.replace(measurement, wall_meter=wall.config("power"))
        ids, summed, instruments = opened(measurement)
    # In the order of the meters: rapl, nvml, wall.
    assert ids.index("rapl/intel-rapl:1") < ids.index("nvml/GPU-1/energy") < ids.index("wall/power")
    assert summed == {"rapl/intel-rapl:0", "rapl/intel-rapl:0:2", "nvml/GPU-1/energy"}
    assert not any("shows the counter of" in note for note in instruments.notes)
    for number, channel in enumerate(instruments.channels):
        assert channel.number == number
        assert channel.source.id in [source.id for source in sources(channel.meter)]
    measured = {s.id: s for s in instruments.sources if s.update_period_measured}
    assert summed <= set(measured)
    assert measured["nvml/GPU-1/energy"].update_period_ns > 15e6


def test_hwmon_adds_the_gpu_that_no_other_meter_sees(measurement, tmp_path):
    chips = (*intel_arc(constant(150)), acpi_meter(constant(400)))
    with (
        PowercapTree(tmp_path / "powercap", server(constant(30)), period_s=0.001),
        HwmonTree(tmp_path / "hwmon", chips),
    ):
        _, summed, instruments = opened(measurement)
    card = "hwmon/xe/0000:03:00.0/energy1"
    assert summed == {"rapl/intel-rapl:0", "rapl/intel-rapl:0:0", card}
    (source,) = [s for s in instruments.sources if s.id == card]
    assert source.update_period_measured
    assert 5e6 < source.update_period_ns < 50e6  # the tree's is 10 ms


def test_a_processor_with_graphics_is_counted_by_rapl_alone(measurement, tmp_path):
    with (
        PowercapTree(tmp_path / "powercap", amd(constant(30)), period_s=0.001),
        HwmonTree(tmp_path / "hwmon", amd_gpu(constant(30), apu=True)),
    ):
        _, summed, instruments = opened(measurement)
    assert summed == {"rapl/intel-rapl:0"}
    assert any("shows the counter of rapl/intel-rapl:0" in note for note in instruments.notes)


def test_mirrored_dies_are_counted_once(measurement, tmp_path):
    tree = PowercapTree(tmp_path / "powercap", amd(constant(100), dies=2), period_s=0.005)
    with tree:
        _, summed, instruments = opened(measurement)
    assert summed == {"rapl/intel-rapl:0"}
    assert any("intel-rapl:1 shows the counter of" in note for note in instruments.notes)


def test_two_sockets_at_the_same_power_are_both_counted(measurement, tmp_path):
    tree = PowercapTree(tmp_path / "powercap", server(constant(100), constant(100)), period_s=0.005)
    with tree:
        _, summed, _ = opened(measurement)
    assert {"rapl/intel-rapl:0", "rapl/intel-rapl:1"} <= summed


def test_a_machine_without_sensors_gets_an_estimate(measurement):
    ids, summed, instruments = opened(measurement)
    assert ids == ["codecarbon/machine"]
    assert not summed
    assert instruments.notes[-1].startswith("codecarbon: nothing can be measured here")


def test_strict_takes_no_estimate(measurement):
    strict = dataclasses.replace(measurement, mode="strict")
    with pytest.raises(MeterError, match=r"measurement.mode=strict, and no energy .* rapl: "):
        open_instruments(strict)


def test_two_meters_of_one_name_from_elsewhere_do_not_replace_ours(
    measurement, entry_point, tmp_path
):
    entry_point("fans", f"{CHANNELS}; slow = False")
    with FakeWallMeter(constant(400)) as wall:
        ids, summed, _ = opened(dataclasses.replace(measurement, wall_meter=wall.config("power")))
    assert ids == ["wall/power", "own"]
    assert summed == {"wall/power"}


def test_a_wall_counter_that_is_the_only_sensor_states_the_windows_it_needs(measurement):
    with FakeWallMeter(constant(60), shape="netio", period_s=0.02) as wall:
        only = dataclasses.replace(measurement, wall_meter=wall.config("energy"))
        _, summed, instruments = opened(only)
    assert summed == {"wall/energy"}
    # A step takes 60 s at 60 W, and two of them 1 % of the window; the period was measured.
    [note] = [note for note in instruments.notes if "its steps make windows" in note]
    assert re.search(r"wall/energy: its steps make windows of 12,0\d\d s necessary for", note)


def test_a_meter_that_lacks_part_of_the_contract_is_named(measurement, entry_point):
    entry_point("fans_without_slow", CHANNELS)
    with pytest.raises(MeterError, match="the meter 'wall' has no `slow`: update the package"):
        open_instruments(measurement)


def test_a_meter_for_the_earlier_contract_hears_what_to_change(measurement, entry_point):
    entry_point("old_fans", "slow = False; sources = (own,); read = lambda self, index: 9_000")
    earlier = r"the meter 'wall' has no `channels`: replace its `sources` and `read\(index\)` by"
    with pytest.raises(MeterError, match=earlier):
        open_instruments(measurement)


def test_slow_meters_are_not_read_while_others_are_calibrated(measurement, entry_point):
    entry_point("slow_fans", f"{CHANNELS.replace('9_000', '1 / 0')}; slow = True")
    ids, _, _ = opened(measurement)
    assert "own" in ids


def test_a_source_that_is_left_out_is_neither_read_nor_summed_and_named(measurement, tmp_path):
    reduced = dataclasses.replace(measurement, leave_out=("rapl/intel-rapl:0:2", "nvml/*/power"))
    with (
        PowercapTree(tmp_path / "powercap", client(constant(30)), period_s=0.001) as tree,
        installed(GPUS),
    ):
        # It would fail, if it were read.
        tree.set_fault("intel-rapl:0:2", "frozen")
        ids, summed, instruments = opened(reduced)
        whole, _, _ = opened(measurement)
    assert set(whole) - set(ids) == {"rapl/intel-rapl:0:2", "nvml/GPU-1/power"}
    assert summed == {"rapl/intel-rapl:0", "nvml/GPU-1/energy"}
    assert not any("stayed at" in note for note in instruments.notes)
    assert {note for note in instruments.notes if "leave_out" in note} == {
        "measurement.leave_out: rapl/intel-rapl:0:2 is neither read nor summed",
        "measurement.leave_out: nvml/GPU-1/power is neither read nor summed",
    }


def test_a_pattern_that_matches_nothing_is_refused_with_the_ids_there_are(measurement, tmp_path):
    wrong = dataclasses.replace(measurement, leave_out=("rapl/intel-rapl:9", "*"))
    message = "'rapl/intel-rapl:9' matches no energy source; there are: rapl/intel-rapl-mmio:0, ra"
    with (
        PowercapTree(tmp_path / "powercap", client(constant(30))),
        pytest.raises(MeterError, match=message),
    ):
        open_instruments(wrong)


def test_gauges_stay_as_checks_depend_on_them(measurement, tmp_path):
    with PowercapTree(tmp_path / "powercap", client(constant(30))):
        instruments = open_instruments(dataclasses.replace(measurement, leave_out=("*",)))
        instruments.close()
    assert {s.kind for s in instruments.sources} == {"gauge", "estimate"}


def test_two_zones_of_one_name_can_be_told_apart_by_leaving_one_out(measurement, tmp_path):
    twins = [
        Zone(folder=f"intel-rapl:{number}", name="package-0", waveform=constant(30 + number))
        for number in range(2)
    ]
    one = dataclasses.replace(measurement, leave_out=("rapl/intel-rapl:1",))
    with PowercapTree(tmp_path / "powercap", twins, period_s=0.001):
        with pytest.raises(MeterError, match=r"measurement.leave_out=\[rapl/intel-rapl:1\]"):
            open_instruments(measurement)
        _, summed, _ = opened(one)
    assert summed == {"rapl/intel-rapl:0"}
