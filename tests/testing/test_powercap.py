"""The fake tree looks and behaves like the kernel's."""

import time

import pytest

from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

ZONES = (
    Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
    Zone(folder="intel-rapl:0:0", name="core", waveform=constant(30), first_uj=5),
)


@pytest.fixture
def tree(tmp_path):
    with PowercapTree(tmp_path, ZONES) as tree:
        yield tree


def value(tree, folder="intel-rapl:0"):
    return int(tree.file(folder).read_text())


def moved(tree, seconds=0.05):
    before = value(tree)
    time.sleep(seconds)
    return value(tree) - before


def test_zones_lie_within_each_other_and_are_linked_from_the_root(tree):
    nested = tree.root / "intel-rapl" / "intel-rapl:0" / "intel-rapl:0:0"
    assert (nested / "name").read_text() == "core\n"
    assert (tree.root / "intel-rapl:0:0").resolve() == nested.resolve()


def test_the_counter_follows_the_waveform(tree):
    start = time.monotonic_ns()
    first = value(tree)
    time.sleep(0.1)
    counted = value(tree) - first
    assert 0 < counted <= constant(50).joules(start, time.monotonic_ns()) * 1e6 + 50 * 0.1 * 1e6


def test_a_file_kept_open_sees_new_values(tree):
    with tree.file("intel-rapl:0").open() as file:
        first = int(file.read())
        time.sleep(0.05)
        file.seek(0)
        assert int(file.read()) > first


def test_the_counter_wraps_after_its_range(tmp_path):
    zone = Zone(
        folder="intel-rapl:0",
        name="package-0",
        waveform=constant(1),
        range_uj=10**6,
        first_uj=10**6,
    )
    with PowercapTree(tmp_path, [zone]) as tree:
        time.sleep(0.05)
        assert value(tree) < 500_000
        assert (tmp_path / "intel-rapl:0/max_energy_range_uj").read_text() == "1000000\n"


def test_faults_come_and_go(tree):
    tree.set_fault("intel-rapl:0", "unreadable")
    with pytest.raises(OSError, match="directory"):
        value(tree)
    tree.set_fault("intel-rapl:0", "garbage")
    with pytest.raises(ValueError, match="invalid literal"):
        value(tree)
    tree.set_fault("intel-rapl:0", "frozen")
    assert moved(tree) == 0
    tree.set_fault("intel-rapl:0", None)
    assert moved(tree) > 0


def test_it_tells_how_regularly_it_published(tree):
    time.sleep(0.05)
    assert 0.005 <= tree.longest_pause_s < 10


def test_a_reset_starts_from_zero(tmp_path):
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50), first_uj=10**11)
    with PowercapTree(tmp_path, [zone]) as tree:
        tree.set_fault("intel-rapl:0", "reset")
        assert value(tree) < 10**11
        assert moved(tree) > 0
