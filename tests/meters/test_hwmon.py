"""Sensors of Linux hwmon: which are used, what they cover, and what a broken one does."""

import dataclasses
import time
from pathlib import Path

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.meters import hwmon
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.domains import cut
from slm_energy.meters.hwmon import open_hwmon
from slm_energy.meters.hwmon_drivers import DRIVERS, metered_elsewhere
from slm_energy.record import Series, Source, Window
from slm_energy.testing.hwmon import (
    Chip,
    FakeSensor,
    HwmonTree,
    acpi_meter,
    altra,
    amd_gpu,
    grace,
    intel_arc,
    jetson_agx_orin,
    jetson_orin_nano,
)
from slm_energy.testing.waveform import Waveform, constant
from tests.metering import read, sources

LOAD = constant(100)
RAPL = Source(id="rapl/intel-rapl:0", kind="counter", domain="cpu_package", unit="uJ", device="p0")
AMD_SMI = Source(id="amd/GPU-1/power", kind="power", domain="gpu", unit="mW", device="GPU-1 Radeon")
BOARD = Chip(
    driver="nct6775",
    address="nct6775.656",
    sensors=(
        FakeSensor(channel="power1", waveform=LOAD),
        FakeSensor(channel="rail1", waveform=LOAD),
    ),
)


@pytest.fixture
def machine(tmp_path):
    """A tree with these devices; it ends with the test."""
    trees = []

    def start(*chips):
        trees.append(HwmonTree(tmp_path, chips))
        return trees[-1].__enter__()

    yield start
    for tree in trees:
        tree.__exit__(None, None, None)


def opened(tree):
    return open_hwmon(MeasurementConfig(name="test", hwmon_root=str(tree.root)))


def domains(result):
    """Channel's label to domain, of all sources."""
    return {source.device.partition(" ")[2]: source.domain for source in sources(result.meter)}


# --- what is used ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        pytest.param(intel_arc(LOAD), {"card": "gpu"}, id="Arc, xe"),
        pytest.param(intel_arc(LOAD, driver="i915"), {"energy1": "gpu"}, id="Arc, i915"),
        pytest.param(amd_gpu(LOAD), {"PPT": "gpu"}, id="Radeon"),
        pytest.param(amd_gpu(LOAD, apu=True), {"PPT": "cpu_package"}, id="APU"),
        pytest.param(
            grace(LOAD),
            {
                "Grace Power Socket 0": "cpu_package",
                "CPU Power Socket 0": "cpu_core",
                "SysIO Power Socket 0": "cpu_uncore",
            },
            id="Grace",
        ),
        pytest.param(jetson_orin_nano(LOAD), {"VDD_IN": "machine"}, id="Jetson Orin Nano"),
        pytest.param(
            jetson_agx_orin(LOAD),
            dict.fromkeys(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "machine"),
            id="Jetson AGX Orin",
        ),
        pytest.param(
            altra(LOAD),
            {
                "power1 CORE VRD": "cpu_package",
                "power2 SoC": "cpu_package",
                "power3 DIMM VRD1": "dram",
                "power4 DIMM VRD2": "dram",
                "power5 RCA VRD": "cpu_package",
            },
            id="Altra",
        ),
        pytest.param((acpi_meter(LOAD),), {"power1": "machine"}, id="server"),
    ],
)
def test_each_machine_gets_the_domains_that_its_driver_documents(machine, chips, expected):
    assert domains(opened(machine(*chips))) == expected


@pytest.mark.parametrize(
    ("chips", "total_w"),
    [
        (intel_arc(LOAD), 100),
        (grace(LOAD, LOAD), 200),
        (jetson_orin_nano(LOAD), 100),
        (jetson_agx_orin(LOAD), 100),
        (altra(LOAD), 100),
        ((*grace(LOAD), *intel_arc(LOAD)), 200),
    ],
)
def test_what_is_summed_is_the_whole_and_nothing_twice(machine, chips, total_w):
    result = opened(machine(*chips))
    summed = [source for source in cut(sources(result.meter))[0] if source.summed]
    powers_w = [
        read(result.meter, source.id) / 1e6
        if source.kind == "power"
        else _power_w(result.meter, source.id)
        for source in summed
    ]
    assert sum(powers_w) == pytest.approx(total_w, rel=0.05)


def _power_w(meter, name):
    first, began_ns = read(meter, name), time.monotonic_ns()
    time.sleep(0.5)
    return (read(meter, name) - first) * 1e3 / (time.monotonic_ns() - began_ns)


def test_a_card_without_a_counter_of_its_own_is_metered_by_its_package(machine):
    (card,) = intel_arc(LOAD)
    alchemist = dataclasses.replace(card, sensors=card.sensors[1:])
    (source,) = sources(opened(machine(alchemist)).meter)
    assert (source.domain, source.kind, source.unit) == ("gpu", "counter", "uJ")
    assert source.id == "hwmon/xe/0000:03:00.0/energy2"
    assert source.path.endswith("energy2_input: the GPU's package, without the card's rest")


def test_two_cards_of_one_driver_are_both_metered(machine):
    (one,) = intel_arc(LOAD)
    two = dataclasses.replace(one, address="0000:04:00.0")
    result = opened(machine(one, two))
    assert [source.device for source in sources(result.meter)] == [
        "0000:03:00.0 card",
        "0000:04:00.0 card",
    ]


# --- what is not used, and why -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chips", "reason"),
    [
        (intel_arc(LOAD), "xe 0000:03:00.0 pkg: it is a part of card"),
        (jetson_orin_nano(LOAD), "VDD_CPU_GPU_CV, ina3221 1-0040 VDD_SOC: it is a part of VDD_IN"),
        (jetson_agx_orin(LOAD), "ina3221 1-0041 VDDQ_VDD2_1V8AO: it is a part of VDD_GPU_SOC, VDD"),
        (grace(LOAD), "Module Power Socket 0: it has processor and GPU in one figure"),
        ((BOARD,), "nct6775 nct6775.656 power1: what this driver's sensors cover is not known"),
        ((acpi_meter(LOAD, battery=True),), "power1: it measures a battery"),
        ((acpi_meter(LOAD, label="Fan tray"),), "Fan tray: it is in no complete set of labels"),
        (
            (acpi_meter(LOAD), acpi_meter(LOAD, address="ACPI000D:01")),
            "2 sensors claim to cover the whole machine: they may overlap",
        ),
        (
            (acpi_meter(LOAD), *jetson_orin_nano(LOAD)),
            "ina3221 1-0040 VDD_IN: power_meter covers the machine too",
        ),
    ],
)
def test_a_sensor_that_is_not_used_is_named_with_the_reason(machine, chips, reason):
    notes = opened(machine(*chips)).notes
    assert any(note.startswith("hwmon: not used: ") and reason in note for note in notes), notes


def test_an_incomplete_set_of_rails_is_not_summed(machine):
    first, second = jetson_agx_orin(LOAD)
    result = opened(machine(dataclasses.replace(first, sensors=first.sensors[:2]), second))
    assert result.meter is None
    assert "in no complete set of labels" in result.notes[0]


def test_a_meter_of_named_devices_is_not_the_machines(machine, tmp_path):
    tree = machine(acpi_meter(LOAD))
    (tmp_path / "hwmon0/device/measures").mkdir()
    (tmp_path / "hwmon0/device/measures/LNXSYBUS:00").touch()
    assert domains(opened(tree)) == {"power1": "machine"}
    (tmp_path / "hwmon0/device/measures/device:07").touch()
    assert "it measures some of the devices only" in opened(tree).notes[0]


def test_temperatures_and_fans_need_no_note(machine):
    tree = machine(Chip(driver="nvme", address="nvme0", sensors=(), files={"temp1_input": "40000"}))
    result = opened(tree)
    assert (result.meter, result.notes) == (None, ())


def test_a_machine_without_the_tree_has_no_meter_and_no_note(tmp_path):
    result = open_hwmon(MeasurementConfig(name="test", hwmon_root=str(tmp_path / "none")))
    assert (result.meter, result.notes) == (None, ())


# --- never beside another meter of the same energy ---------------------------------------------


@pytest.mark.parametrize(
    ("chips", "other"),
    [
        (amd_gpu(LOAD), AMD_SMI),
        (amd_gpu(LOAD, apu=True), RAPL),
        (grace(LOAD), RAPL),
        (altra(LOAD), RAPL),
    ],
)
def test_another_meter_of_the_same_device_is_preferred(machine, chips, other):
    both = [*sources(opened(machine(*chips)).meter), other]
    assert other.id in {source.id for source in cut(both)[0] if source.summed}
    result, notes = cut(both, metered_elsewhere(both))
    assert [s.id for s in result if s.summed and s.domain == other.domain] == [other.id]
    assert any(f"shows the counter of {other.id}" in note for note in notes)


def test_meters_of_other_devices_stay_beside_each_other(machine):
    arc = sources(opened(machine(*intel_arc(LOAD))).meter)
    both = [*arc, AMD_SMI, RAPL]
    result, _ = cut(both, metered_elsewhere(both))
    assert all(source.summed for source in result)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("chips", [intel_arc(constant(120)), (acpi_meter(constant(300)),)])
def test_the_truth_is_in_the_interval(machine, chips):
    (channel,) = opened(machine(*chips)).meter.channels
    rows = []
    began_ns = time.monotonic_ns()
    while time.monotonic_ns() < began_ns + 1.5e9:
        before_ns, raw = time.monotonic_ns(), channel.read()
        rows.append((before_ns, raw, time.monotonic_ns()))
        time.sleep(0.01)
    before_ns, raw, after_ns = zip(*rows, strict=True)
    series = Series(source=channel.source, before_ns=before_ns, raw=raw, after_ns=after_ns)
    start_ns, end_ns = began_ns + 3 * 10**8, began_ns + 12 * 10**8
    window = Window(name="serve", start_ns=start_ns, end_ns=end_ns)
    figure = account(series, window, max_gap_ns=10**9)
    truth_j = chips[0].sensors[0].waveform.joules(start_ns, end_ns)
    assert figure.low_j <= truth_j <= figure.high_j
    assert figure.joules == pytest.approx(truth_j, rel=0.1)


def test_a_rail_is_the_product_of_voltage_and_current(machine):
    steps = ((10**9, 12_345),)
    result = opened(machine(*jetson_orin_nano(Waveform(steps=steps))))
    (source,) = sources(result.meter)
    assert (source.kind, source.unit, source.update_period_ns) == ("power", "uW", 10**7)
    # 12.345 W at 5 V are 2469 mA.
    assert read(result.meter, source.id) == 12_345_000


def test_an_average_and_an_accuracy_that_a_device_states_are_taken_over(machine):
    (source,) = sources(opened(machine(acpi_meter(LOAD))).meter)
    assert (source.averaging_ns, source.gain_pct) == (50_000_000, pytest.approx(0.5))
    assert source.id == "hwmon/power_meter/ACPI000D:00/power1"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("denied", "EACCES"),
        ("missing", "ENOENT"),
        ("io_error", "EIO"),
        ("empty", "not a number: b''"),
        ("garbage", "not a number: b'\\?"),
        ("negative", "not a number: b'-1"),
    ],
)
def test_a_broken_sensor_fails_with_the_reason_and_works_when_repaired(machine, fault, reason):
    tree = machine(acpi_meter(LOAD))
    result = opened(tree)
    (source,) = sources(result.meter)
    tree.set_fault(0, "power1", fault)
    with pytest.raises(ReadFailed, match=reason):
        read(result.meter, source.id)
    tree.set_fault(0, "power1", None)
    time.sleep(0.05)
    assert read(result.meter, source.id) == pytest.approx(100e6, rel=0.01)


def test_an_unreadable_part_of_the_sum_is_kept_and_fails(machine):
    tree = machine(*jetson_agx_orin(LOAD))
    tree.set_fault(0, "rail2", "io_error")
    result = opened(tree)
    assert len(sources(result.meter)) == 3
    assert any("VDD_CPU_CV cannot be read (EIO)" in note for note in result.notes)
    with pytest.raises(ReadFailed, match="EIO"):
        read(result.meter, "hwmon/ina3221/1-0040/rail2")


def test_a_sensor_without_permission_comes_with_the_command_that_gives_it(machine):
    tree = machine(acpi_meter(LOAD))
    tree.set_fault(0, "power1", "denied")
    (note,) = opened(tree).notes
    file = tree.file(0, "power1")
    assert note.endswith(f"cannot be read (EACCES): sudo chmod a+r {file} (until reboot)")


@pytest.mark.parametrize(("chips", "slow"), [((acpi_meter(LOAD),), True), (intel_arc(LOAD), False)])
def test_only_what_answers_slowly_is_read_in_a_thread_of_its_own(machine, monkeypatch, chips, slow):
    monkeypatch.setattr(hwmon, "_QUICK_S", 0.0)
    assert opened(machine(*chips)).meter.slow is slow


def test_where_nothing_can_be_read_there_is_no_meter(machine):
    tree = machine(*intel_arc(LOAD, driver="i915"))
    tree.set_fault(0, "energy1", "io_error")
    result = opened(tree)
    assert result.meter is None
    assert result.notes == ("hwmon: i915 0000:03:00.0 energy1 cannot be read (EIO)",)


# --- the table -----------------------------------------------------------------------------------


def test_the_documentation_has_a_row_for_each_driver():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "hwmon.md").read_text()
    for name, driver in DRIVERS.items():
        assert f"| `{name}` | {driver.devices} |" in text
