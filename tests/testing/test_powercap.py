"""The fake tree looks and behaves like the kernel's."""

import errno
import itertools
import os
import time

import pytest

from slm_energy.testing.powercap import PowercapTree, Zone, amd, client, server
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


def moved(tree, seconds=0.05, folder="intel-rapl:0"):
    before = value(tree, folder)
    time.sleep(seconds)
    return value(tree, folder) - before


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


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("denied", errno.EACCES),
        ("missing", errno.ENOENT),
        ("unreadable", errno.EISDIR),
        ("io_error", errno.EIO),
        ("lost", errno.ENOENT),
    ],
)
def test_reading_can_be_made_to_fail_for_anybody(tree, fault, error):
    tree.set_fault("intel-rapl:0", fault)
    with pytest.raises(OSError, match=os.strerror(error)):
        tree.file("intel-rapl:0").read_bytes()
    time.sleep(0.05)
    tree.set_fault("intel-rapl:0", None)
    assert moved(tree) > 0


@pytest.mark.parametrize(
    ("fault", "text"),
    [("empty", ""), ("garbage", "?" * 20 + "\n"), ("negative", "-1\n"), ("huge", "9" * 19 + "\n")],
)
def test_the_text_can_be_made_wrong_under_the_same_file(tree, fault, text):
    with tree.file("intel-rapl:0").open() as file:
        tree.set_fault("intel-rapl:0", fault)
        time.sleep(0.05)
        assert file.read() == text
        tree.set_fault("intel-rapl:0", None)
        file.seek(0)
        assert int(file.read()) > 0


def test_a_truncated_value_lost_digits_and_its_line_break(tmp_path):
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(1), first_uj=123 * 10**9)
    with PowercapTree(tmp_path, [zone]) as tree:
        tree.set_fault("intel-rapl:0", "truncated")
        assert tree.file("intel-rapl:0").read_text() == "123000"


def test_a_frozen_value_comes_late_when_mended(tree):
    tree.set_fault("intel-rapl:0", "frozen")
    before = value(tree)
    assert moved(tree, 0.1) == 0
    tree.set_fault("intel-rapl:0", None)
    assert value(tree) - before >= 50 * 0.1 * 1e6


def test_a_lost_zone_takes_the_zones_inside_it_along(tree):
    tree.set_fault("intel-rapl:0", "lost")
    time.sleep(0.02)
    assert not (tree.root / "intel-rapl:0:0").exists()
    assert "intel-rapl:0" not in os.listdir(tree.root)
    tree.set_fault("intel-rapl:0", None)
    assert moved(tree, folder="intel-rapl:0:0") > 0


def test_a_mended_zone_is_whole_at_once(tmp_path):
    with PowercapTree(tmp_path, ZONES, period_s=60) as tree:
        tree.set_fault("intel-rapl:0", "lost")
        tree.set_fault("intel-rapl:0", None)
        assert value(tree) > 0
        assert value(tree, "intel-rapl:0:0") > 5


def test_a_replaced_file_counts_on_and_the_old_one_does_not(tree):
    with tree.file("intel-rapl:0").open() as file:
        tree.set_fault("intel-rapl:0", "replaced")
        old = file.read()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert moved(tree) > 0
        file.seek(0)
        assert file.read() == old


def test_a_step_back_is_one_joule(tmp_path):
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(0), first_uj=5 * 10**6)
    with PowercapTree(tmp_path, [zone]) as tree:
        tree.set_fault("intel-rapl:0", "backward")
        assert value(tree) == 4 * 10**6


def test_a_reset_starts_from_zero(tmp_path):
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50), first_uj=10**11)
    with PowercapTree(tmp_path, [zone]) as tree:
        tree.set_fault("intel-rapl:0", "reset")
        assert value(tree) < 10**11
        assert moved(tree) > 0


def test_it_tells_how_regularly_it_published(tree):
    time.sleep(0.05)
    assert 0.005 <= tree.longest_pause_s < 10


def pauses(tree, ticks):
    """Milliseconds between publications, told from the values: 1 W counts 1 uJ in 1 us."""
    seen = [value(tree)]
    while len(seen) <= ticks:
        if (now := value(tree)) != seen[-1]:
            seen.append(now)
    return [(b - a) / 1000 for a, b in itertools.pairwise(seen)]


def test_publications_are_jittered(tmp_path):
    zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(1))
    with PowercapTree(tmp_path, [zone], period_s=0.01, jitter=0.9) as tree:
        # A busy machine makes pauses longer, never shorter.
        assert min(pauses(tree, 20)) < 8
    steady = tmp_path / "steady"
    steady.mkdir()
    with PowercapTree(steady, [zone], period_s=0.01) as tree:
        assert min(pauses(tree, 10)) >= 9.9


def test_a_client_has_every_kind_of_zone(tmp_path):
    with PowercapTree(tmp_path, client(constant(20))) as tree:
        names = {entry: (tree.root / entry / "name").read_text().strip() for entry in listed(tree)}
        assert names == {
            "intel-rapl:0": "package-0",
            "intel-rapl:0:0": "core",
            "intel-rapl:0:1": "uncore",
            "intel-rapl:0:2": "dram",
            "intel-rapl:1": "psys",
            "intel-rapl-mmio:0": "package-0",
        }
        tree.set_fault("intel-rapl:0", "frozen")
        tree.set_fault("intel-rapl-mmio:0", "frozen")
        assert abs(value(tree) - value(tree, "intel-rapl-mmio:0")) < 20 * 10**6


def test_the_parts_of_a_client_are_less_than_the_package_and_psys_is_more():
    power_w = {zone.folder: zone.waveform.power_mw(0) / 1000 for zone in client(constant(100))}
    assert power_w == {
        "intel-rapl:0": 100,
        "intel-rapl:0:0": 70,
        "intel-rapl:0:1": 10,
        "intel-rapl:0:2": 15,
        "intel-rapl:1": 150,
        "intel-rapl-mmio:0": 100,
    }


def test_a_server_has_sockets_that_differ(tmp_path):
    with PowercapTree(tmp_path, server(constant(20), constant(20))) as tree:
        assert value(tree, "intel-rapl:1") - value(tree) > 5 * 10**8
        assert (tree.root / "intel-rapl:1:0/name").read_text() == "dram\n"
        assert len(listed(tree)) == 4


def test_dies_of_amd_mirror_their_socket(tmp_path):
    with PowercapTree(tmp_path, amd(constant(90), dies=2), period_s=0.2) as tree:
        pairs = []
        for _ in range(9):
            pairs.append((value(tree), value(tree, "intel-rapl:1")))
            time.sleep(0.05)
        assert sum(one == other for one, other in pairs) >= 6
        assert (tree.root / "intel-rapl:1/name").read_text() == "package-0-die-1\n"


def listed(tree):
    return [entry for entry in os.listdir(tree.root) if ":" in entry]
