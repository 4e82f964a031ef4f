"""RAPL through powercap: which zones are summed, and what a broken file does."""

import errno
import os
import time

import pytest

from slm_energy.config import MeasurementConfig
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.rapl import open_rapl
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

CLIENT = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "uncore",
    "intel-rapl:0:2": "dram",
    "intel-rapl:1": "psys",
    "intel-rapl-mmio:0": "package-0",
    "intel-rapl-mmio:0:0": "dram",
}
SERVER = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
}


@pytest.fixture
def opened(tmp_path):
    """Open a tree of the given zones; everything is closed after the test."""
    closers = []

    def open_tree(names, **fields):
        zones = [
            Zone(folder=folder, name=name, waveform=constant(50), **fields)
            for folder, name in names.items()
        ]
        tree = PowercapTree(tmp_path, zones)
        tree.__enter__()
        closers.append(lambda: tree.__exit__(None, None, None))
        result = open_rapl(config(tmp_path))
        if result.meter:
            closers.append(result.meter.close)
        return tree, result

    yield open_tree
    for close in reversed(closers):
        close()


def config(root):
    return MeasurementConfig(name="test", powercap_root=str(root))


def summed(result):
    return [source.id for source in result.meter.sources if source.summed]


def deny(monkeypatch, end):
    """Make opening files with this end fail as for a user without permission; root has it."""
    real = os.open

    def refuse(path, *rest, **more):
        if str(path).endswith(end):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize(
    ("zones", "cut"),
    [
        (CLIENT, ["rapl/intel-rapl:0", "rapl/intel-rapl:0:2"]),
        (SERVER, [f"rapl/{folder}" for folder in SERVER]),
        ({"intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}, ["rapl/intel-rapl:0"]),
        ({"intel-rapl:0": "psys"}, ["rapl/intel-rapl:0"]),
        ({"intel-rapl-mmio:0": "package-0"}, ["rapl/intel-rapl-mmio:0"]),
        (
            {"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1"},
            ["rapl/intel-rapl:0", "rapl/intel-rapl:1"],
        ),
    ],
    ids=["client", "two sockets", "AMD", "psys only", "MMIO only", "two dies"],
)
def test_only_a_disjoint_cut_is_summed(opened, zones, cut):
    _, result = opened(zones)
    assert summed(result) == cut
    assert len(result.meter.sources) == len(zones)


def test_a_source_says_what_it_covers(opened):
    _, result = opened(SERVER)
    memory = result.meter.sources[3]
    assert (memory.domain, memory.device) == ("dram", "package-1/dram")
    assert memory.modulus == 262_143_328_851
    assert memory.path.endswith("intel-rapl:1:0/energy_uj")


def test_the_counter_is_read_while_it_counts(opened):
    _, result = opened({"intel-rapl:0": "package-0"})
    first = result.meter.read(0)
    time.sleep(0.05)
    assert result.meter.read(0) > first


def test_a_replaced_file_is_opened_again(opened):
    tree, result = opened({"intel-rapl:0": "package-0"})
    result.meter.read(0)
    tree.set_fault("intel-rapl:0", "frozen")
    tree.file("intel-rapl:0").unlink()
    tree.file("intel-rapl:0").write_text("123\n")
    assert result.meter.read(0) == 123


@pytest.mark.parametrize(
    ("fault", "message"), [("unreadable", "EISDIR"), ("garbage", "not a number")]
)
def test_a_broken_file_is_a_failed_reading_and_may_recover(opened, fault, message):
    tree, result = opened({"intel-rapl:0": "package-0"})
    tree.set_fault("intel-rapl:0", fault)
    with pytest.raises(ReadFailed, match=message):
        result.meter.read(0)
    tree.set_fault("intel-rapl:0", None)
    assert result.meter.read(0) >= 0


def test_without_permission_the_note_has_the_command(opened, monkeypatch):
    deny(monkeypatch, "energy_uj")
    monkeypatch.setattr(PowercapTree, "_write", lambda *_: None)
    _, result = opened({"intel-rapl:0": "package-0"})
    assert result.meter is None
    (note,) = result.notes
    assert "is not readable (EACCES): sudo chmod a+r /sys/class/powercap" in note
    assert "\n" not in note


def test_one_unreadable_socket_stays_in_the_sum_and_fails(opened):
    tree, _ = opened(SERVER)
    tree.set_fault("intel-rapl:1", "unreadable")
    again = open_rapl(config(tree.root))
    assert "rapl/intel-rapl:1" in summed(again)
    assert any("intel-rapl:1/energy_uj is not readable (EISDIR)" in note for note in again.notes)
    again.meter.close()


def test_a_machine_without_counters_says_so(tmp_path):
    result = open_rapl(config(tmp_path / "nowhere"))
    assert result.meter is None
    assert "measurement.powercap_root" in result.notes[0]


def test_a_zone_without_a_range_is_left_out(opened, tmp_path):
    (tmp_path / "intel-rapl:7").mkdir()
    (tmp_path / "intel-rapl:7" / "name").write_text("package-7\n")
    _, result = opened({"intel-rapl:0": "package-0"})
    assert summed(result) == ["rapl/intel-rapl:0"]
    assert "intel-rapl:7 is left out" in result.notes[0]
