"""RAPL through powercap, what a broken file does, and where perf events stand in."""

import os
import struct
import time

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.meters import rapl_perf
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.domains import clones, cut
from slm_energy.meters.rapl import open_rapl
from slm_energy.testing.perf import write_events
from slm_energy.testing.powercap import PowercapTree, Zone, amd, client, server
from slm_energy.testing.waveform import constant
from tests.metering import read, sources

ONE = (Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),)
BUSY = constant(50)


@pytest.fixture
def sysfs(tmp_path):
    (tmp_path / "class/powercap").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def machine(sysfs):
    """A powercap tree of the given zones; it ends with the test."""
    trees = []

    def start(zones, **more):
        trees.append(PowercapTree(sysfs / "class/powercap", zones, **more))
        return trees[-1].__enter__()

    yield start
    for tree in trees:
        tree.__exit__(None, None, None)


@pytest.fixture
def opened(sysfs):
    """Open what there is; it is closed after the test."""
    meters = []

    def open_now():
        result = open_rapl(
            MeasurementConfig(name="test", powercap_root=str(sysfs / "class/powercap"))
        )
        meters.extend([result.meter] if result.meter else [])
        return result

    yield open_now
    for meter in meters:
        meter.close()


@pytest.fixture
def granted(monkeypatch):
    """A kernel that grants every perf event, and gives each a count of 7."""

    def grant(kind, config, cpu):
        reader, writer = os.pipe()
        os.write(writer, struct.pack("QQQ", 7, 5, 5))
        os.close(writer)
        return reader

    monkeypatch.setattr(rapl_perf, "perf_event_open", grant)


def ids(result):
    return [source.id for source in sources(result.meter)]


def an_amd_processor(sysfs):
    (sysfs / "devices/system/cpu").mkdir(parents=True, exist_ok=True)
    (sysfs / "devices/system/cpu/modalias").write_text("cpu:type:x86,ven0002fam0019mod0021:\n")


def test_every_zone_is_a_source_that_says_what_it_covers(machine, opened):
    machine(client(BUSY))
    meter = opened().meter
    assert {s.id: (s.domain, s.device) for s in sources(meter)} == {
        "rapl/intel-rapl:0": ("cpu_package", "package-0"),
        "rapl/intel-rapl:0:0": ("cpu_core", "package-0/core"),
        "rapl/intel-rapl:0:1": ("cpu_uncore", "package-0/uncore"),
        "rapl/intel-rapl:0:2": ("dram", "package-0/dram"),
        "rapl/intel-rapl:1": ("psys", "psys"),
        "rapl/intel-rapl-mmio:0": ("cpu_package", "package-0"),
    }
    assert not any(source.summed for source in sources(meter))
    assert not meter.slow


def test_a_source_knows_its_counter(machine, opened):
    machine(server(BUSY, BUSY))
    memory = opened().meter.channels[3].source
    assert memory.device == "package-1/dram"
    assert (memory.kind, memory.unit, memory.modulus) == ("counter", "uJ", 262_143_328_851)
    assert memory.path.endswith("intel-rapl:1:0/energy_uj")


def test_dies_and_platforms_are_told_apart(machine, opened):
    names = ["package-0-die-0", "package-0-die-1", "psys", "psys-1"]
    machine([Zone(folder=f"intel-rapl:{i}", name=n, waveform=BUSY) for i, n in enumerate(names)])
    claimed = sources(opened().meter)
    assert [source.device for source in claimed] == names
    assert [source.domain for source in claimed] == ["cpu_package"] * 2 + ["psys"] * 2


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (client(BUSY), ["rapl/intel-rapl:0", "rapl/intel-rapl:0:2"]),
        (server(BUSY, BUSY), [f"rapl/intel-rapl:{zone}" for zone in ("0", "0:0", "1", "1:0")]),
        (amd(BUSY), ["rapl/intel-rapl:0"]),
    ],
    ids=["client", "server", "AMD"],
)
def test_the_zones_of_a_machine_are_summed_without_overlap(machine, opened, zones, expected):
    machine(zones)
    decided, _ = cut(sources(opened().meter))
    assert [source.id for source in decided if source.summed] == expected


def test_mirrored_dies_are_found_by_their_values(machine, opened, sysfs):
    an_amd_processor(sysfs)
    machine(amd(BUSY, dies=2), period_s=0.02)
    meter = opened().meter
    values = {source.id: [] for source in sources(meter)}
    for _ in range(20):
        for name, seen in values.items():
            seen.append(read(meter, name))
        time.sleep(0.025)
    assert clones(values) == {"rapl/intel-rapl:1": "rapl/intel-rapl:0"}


def test_sockets_at_equal_power_are_no_mirrors(machine, opened):
    machine(server(BUSY, BUSY), period_s=0.02)
    meter = opened().meter
    values = {"rapl/intel-rapl:0": [], "rapl/intel-rapl:1": []}
    for _ in range(12):
        values["rapl/intel-rapl:0"].append(meter.channels[0].read())
        values["rapl/intel-rapl:1"].append(meter.channels[2].read())
        time.sleep(0.025)
    assert clones(values) == {}


def test_the_core_zone_of_amd_is_left_out_and_the_note_says_model(machine, opened, sysfs):
    an_amd_processor(sysfs)
    machine(amd(BUSY))
    result = opened()
    assert ids(result) == ["rapl/intel-rapl:0"]
    assert result.notes == ("rapl: AMD's counters follow a model of activity (arXiv 2108.00808)",)


def test_the_counter_is_read_while_it_counts(machine, opened):
    machine(ONE)
    meter = opened().meter
    first = meter.channels[0].read()
    time.sleep(0.05)
    assert meter.channels[0].read() > first


def test_a_replaced_file_is_opened_again(machine, opened):
    tree = machine(ONE)
    meter = opened().meter
    first = meter.channels[0].read()
    tree.set_fault("intel-rapl:0", "replaced")
    time.sleep(0.05)
    assert meter.channels[0].read() > first


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("denied", "EACCES"),
        ("missing", "ENOENT"),
        ("unreadable", "EISDIR"),
        ("io_error", "EIO"),
        ("lost", "ENOENT"),
        ("empty", "not a number: b''"),
        ("truncated", "not a number"),
        ("garbage", "not a number"),
        ("negative", "not a number"),
        ("huge", "beyond the counter's range"),
    ],
)
def test_a_broken_file_is_a_failed_reading_and_may_recover(machine, opened, fault, message):
    tree = machine(ONE)
    meter = opened().meter
    before = meter.channels[0].read()
    tree.set_fault("intel-rapl:0", fault)
    with pytest.raises(ReadFailed, match=message):
        meter.channels[0].read()
    tree.set_fault("intel-rapl:0", None)
    assert meter.channels[0].read() >= before


def test_the_largest_value_of_the_range_is_a_value(machine, opened):
    still = constant(0)
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=still, range_uj=999, first_uj=999)
    tree = machine([zone])
    meter = opened().meter
    assert meter.channels[0].read() == 999
    tree.set_fault("intel-rapl:0", "frozen")
    tree.file("intel-rapl:0").write_text("1000\n")
    with pytest.raises(ReadFailed, match="1000 uJ is beyond the counter's range"):
        meter.channels[0].read()


def test_without_permission_one_note_has_the_command(machine, opened):
    tree = machine(server(BUSY, BUSY))
    for folder in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "intel-rapl:1:0"):
        tree.set_fault(folder, "denied")
    result = opened()
    assert result.meter is None
    (note,) = result.notes
    assert "intel-rapl:0/energy_uj, " in note
    assert "intel-rapl:1:0/energy_uj cannot be read (EACCES): sudo chmod a+r /sys/class/" in note
    assert 'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"' in note
    assert "\n" not in note


@pytest.mark.parametrize("fault", ["denied", "io_error", "garbage"])
def test_one_unreadable_socket_stays_in_the_sum_and_fails(machine, opened, fault):
    machine(server(BUSY, BUSY)).set_fault("intel-rapl:1", fault)
    result = opened()
    decided, _ = cut(sources(result.meter))
    index = ids(result).index("rapl/intel-rapl:1")
    assert decided[index].summed
    with pytest.raises(ReadFailed):
        result.meter.channels[index].read()
    assert "intel-rapl:1/energy_uj cannot be read" in result.notes[0]


def test_one_unreadable_die_stays_though_the_other_can_be_read(machine, opened):
    machine(amd(BUSY, dies=2)).set_fault("intel-rapl:1", "io_error")
    assert "rapl/intel-rapl:1" in ids(opened())


def test_the_mmio_copy_stands_in_for_a_register_that_cannot_be_read(machine, opened):
    machine(client(BUSY)).set_fault("intel-rapl:0", "denied")
    result = opened()
    assert "rapl/intel-rapl:0" not in ids(result)
    decided, _ = cut(sources(result.meter))
    assert [s.id for s in decided if s.summed] == ["rapl/intel-rapl-mmio:0", "rapl/intel-rapl:0:2"]
    assert result.notes == ()


def test_a_machine_without_counters_says_so(sysfs, opened):
    (sysfs / "class/powercap").rmdir()
    result = opened()
    assert result.meter is None
    (note,) = result.notes
    assert "measurement.powercap_root" in note
    assert "a container or virtual machine hides them" in note


def test_a_root_that_is_no_folder_says_so(sysfs, opened):
    (sysfs / "class/powercap").rmdir()
    (sysfs / "class/powercap").write_text("")
    result = opened()
    assert result.meter is None
    assert "Not a directory" in result.notes[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "max_energy_range_uj cannot be read (ENOENT)"),
        ("", "max_energy_range_uj is ''"),
        ("0\n", "max_energy_range_uj is 0"),
        ("-1\n", "max_energy_range_uj is -1"),
    ],
)
def test_a_zone_without_a_range_stays_and_the_note_warns_of_its_wraps(
    machine, opened, content, reason
):
    tree = machine(ONE)
    file = tree.root / "intel-rapl:0/max_energy_range_uj"
    file.unlink() if content is None else file.write_text(content)
    result = opened()
    assert result.meter.channels[0].source.modulus is None
    assert result.meter.channels[0].read() >= 0
    (note,) = result.notes
    assert note.endswith(
        f"intel-rapl:0 may wrap at an unknown value, as {reason}: a window in which it wraps is"
        " invalid"
    )


def twins(second):
    """Two zones of one name."""
    return [
        Zone(folder=f"intel-rapl:{number}", name="package-0", waveform=waveform, first_uj=10**9)
        for number, waveform in enumerate((BUSY, second))
    ]


def test_two_zones_of_one_name_that_show_one_counter_are_one_zone(machine, opened):
    machine(twins(BUSY))
    result = opened()
    assert ids(result) == ["rapl/intel-rapl:0"]
    assert result.notes == (
        "rapl: rapl/intel-rapl:1 and rapl/intel-rapl:0 have one name and show one counter: it is"
        " counted once",
    )


def test_two_zones_of_one_name_with_different_counters_are_not_summed(machine, opened):
    machine(twins(constant(70)))
    result = opened()
    assert ids(result) == ["rapl/intel-rapl:0", "rapl/intel-rapl:1"]
    with pytest.raises(MeterError, match="are two zones named package-0 with different counters"):
        cut(sources(result.meter))


def test_a_zone_that_cannot_be_read_is_not_replaced_by_another_of_its_name(machine, opened):
    machine(twins(constant(70))).set_fault("intel-rapl:1", "denied")
    with pytest.raises(MeterError, match="intel-rapl:1 are two zones named package-0"):
        cut(sources(opened().meter))


def test_two_platforms_of_one_name_are_named_apart_by_their_folders(machine, opened):
    machine(
        [
            Zone(folder=f"intel-rapl:{number}", name="psys", waveform=constant(50 + number))
            for number in (1, 2)
        ]
    )
    with pytest.raises(MeterError, match="rapl/intel-rapl:1 and rapl/intel-rapl:2 are two zones"):
        cut(sources(opened().meter))


def test_a_zone_without_a_name_is_left_out(machine, opened):
    tree = machine(server(BUSY, BUSY))
    (tree.root / "intel-rapl:0:0/name").unlink()
    result = opened()
    assert "rapl/intel-rapl:0:0" not in ids(result)
    assert "intel-rapl:0:0 is left out" in result.notes[0]


def test_perf_stands_in_where_there_is_no_powercap(sysfs, opened, granted):
    write_events(sysfs, events={"energy-pkg": 2, "energy-ram": 3})
    result = opened()
    assert ids(result) == ["perf/energy-pkg/package-0", "perf/energy-ram/package-0"]
    assert [channel.read() for channel in result.meter.channels] == [7, 7]
    assert "no zones below measurement.powercap_root" in result.notes[0]


def test_perf_replaces_what_cannot_be_read_and_nothing_else(machine, opened, sysfs, granted):
    tree = machine(server(BUSY, BUSY))
    tree.set_fault("intel-rapl:0:0", "denied")
    tree.set_fault("intel-rapl:1", "denied")
    write_events(sysfs, events={"energy-pkg": 2, "energy-ram": 3}, packages=(0, 1))
    result = opened()
    assert ids(result) == [
        "rapl/intel-rapl:0",
        "rapl/intel-rapl:1:0",
        "perf/energy-pkg/package-1",
        "perf/energy-ram/package-0",
    ]
    assert result.notes == ()
    decided, _ = cut(sources(result.meter))
    assert all(source.summed for source in decided)


def test_perf_knows_that_the_dies_of_amd_share_a_register(sysfs, opened, granted):
    an_amd_processor(sysfs)
    write_events(sysfs, packages=(0, 0))
    assert ids(opened()) == ["perf/energy-pkg/package-0"]


def test_perf_is_left_alone_where_powercap_can_be_read(machine, opened, sysfs, granted):
    machine(ONE)
    write_events(sysfs, events={"energy-pkg": 2, "energy-psys": 5})
    assert ids(opened()) == ["rapl/intel-rapl:0"]


def test_perf_does_not_add_a_package_to_one_of_its_dies(machine, opened, sysfs, granted):
    machine(amd(BUSY, dies=2)).set_fault("intel-rapl:1", "denied")
    write_events(sysfs)
    assert not any(name.startswith("perf/energy-pkg") for name in ids(opened()))


def test_perf_replaces_all_dies_by_their_package(machine, opened, sysfs, granted):
    tree = machine(amd(BUSY, dies=2))
    for folder in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1", "intel-rapl:1:0"):
        tree.set_fault(folder, "denied")
    an_amd_processor(sysfs)
    write_events(sysfs)
    assert ids(opened()) == ["perf/energy-pkg/package-0"]


def test_where_perf_is_refused_too_both_remedies_are_told(machine, opened, sysfs, monkeypatch):
    def refuse(kind, config, cpu):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(rapl_perf, "perf_event_open", refuse)
    machine(ONE).set_fault("intel-rapl:0", "denied")
    write_events(sysfs)
    result = opened()
    assert result.meter is None
    refused, unreadable = result.notes
    assert "perf_event_paranoid=0" in refused
    assert "chmod a+r" in unreadable


@pytest.fixture
def accuracies(tmp_path):
    """What is stated of the sources of a machine with this processor: domain to gain and noise."""
    trees = []

    def stated(zones, vendor, flags="fpu"):
        powercap, cpu = tmp_path / "sys/class/powercap", tmp_path / "sys/devices/system/cpu"
        for folder in (powercap, cpu, tmp_path / "proc"):
            folder.mkdir(parents=True)
        (tmp_path / "proc/cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n\n")
        number = {"GenuineIntel": "0000", "AuthenticAMD": "0002"}[vendor]
        (cpu / "modalias").write_text(f"cpu:type:x86,ven{number}fam0019mod0021:feature:,0000\n")
        trees.append(PowercapTree(powercap, zones))
        trees[-1].__enter__()
        result = open_rapl(MeasurementConfig(name="test", powercap_root=str(powercap)))
        result.meter.close()
        known = {s.domain: (s.gain_pct, s.step_noise_pct) for s in sources(result.meter)}
        return known, result.notes

    yield stated
    for tree in trees:
        tree.__exit__(None, None, None)


def test_each_domain_of_intel_has_the_gain_of_its_class(accuracies):
    known, notes = accuracies(client(BUSY), "GenuineIntel")
    assert known["cpu_package"] == known["cpu_core"] == (5.0, 0.0)
    assert (known["dram"], known["psys"]) == ((20.0, 0.0), (10.0, 0.0))
    assert not [note for note in notes if "filter" in note]


def test_the_energy_filter_of_intel_is_named_and_its_noise_stated(accuracies):
    known, notes = accuracies(ONE, "GenuineIntel", "fpu sgx")
    assert known == {"cpu_package": (5.0, 50.0)}
    assert any("Intel's energy filter is on" in note for note in notes)


def test_amd_follows_a_model_and_has_no_filter(accuracies):
    known, _ = accuracies(ONE, "AuthenticAMD", "fpu sgx")
    assert known == {"cpu_package": (15.0, 0.0)}
