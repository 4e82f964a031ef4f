"""What the sources that were found can tell, and RAPL counters that cannot be read."""

import dataclasses
import os
import tempfile
from pathlib import Path

import pytest

from slm_energy.derive.energy.accounting import shortest_window_s
from slm_energy.doctor.sensors import measured, periods, powercap
from slm_energy.record import Source
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

MS = 10**6
COUNTER = Source(
    id="rapl/intel-rapl:0",
    kind="counter",
    domain="cpu_package",
    unit="uJ",
    update_period_ns=100 * MS,
    update_period_measured=True,
    summed=True,
)
POWER = dataclasses.replace(
    COUNTER, id="nvml/GPU-1/power", kind="power", unit="mW", averaging_ns=1000 * MS
)
ESTIMATE = dataclasses.replace(COUNTER, id="codecarbon/machine", kind="estimate", summed=False)


@pytest.mark.parametrize(
    ("source", "seconds"),
    [
        (COUNTER, 10.0),
        (POWER, 100.0),
        (dataclasses.replace(POWER, averaging_ns=0), 10.0),
        (dataclasses.replace(COUNTER, update_period_ns=None), None),
        (ESTIMATE, None),
        (dataclasses.replace(COUNTER, kind="gauge"), None),
    ],
)
def test_the_shortest_window_for_one_percent(source, seconds):
    assert shortest_window_s(source, 0.01) == (seconds and pytest.approx(seconds))


def test_measured_is_what_is_summed_and_no_estimate():
    beside = dataclasses.replace(POWER, summed=False)
    assert measured([COUNTER, beside, dataclasses.replace(ESTIMATE, summed=True)]) == (COUNTER,)


def test_update_periods_of_the_sum_are_measured_or_named():
    documented = dataclasses.replace(COUNTER, id="rapl/frozen", update_period_measured=False)
    assert periods([COUNTER, dataclasses.replace(documented, summed=False)]).verdict == "ok"
    found = periods([COUNTER, documented])
    assert found.verdict == "warn"
    assert found.detail.endswith(": rapl/frozen")
    assert periods([ESTIMATE]).verdict == "not applicable"


@pytest.fixture
def tree(tmp_path):
    zones = [
        Zone(folder=f"intel-rapl:0{part}", name=name, waveform=constant(10))
        for part, name in (("", "package-0"), (":0", "core"))
    ]
    with PowercapTree(tmp_path, zones) as tree:
        yield tree


def at(tree, folder="intel-rapl:0"):
    return dataclasses.replace(COUNTER, path=str(tree.root / folder / "energy_uj"))


def test_counters_that_can_be_read(tree):
    found = powercap(tree.root, [at(tree)])
    assert (found.verdict, found.detail) == ("ok", f"all 2 counters in {tree.root} can be read")


def test_no_powercap_tree(tmp_path):
    found = powercap(tmp_path / "none", [])
    assert found.verdict == "not applicable"
    assert "modprobe intel_rapl_msr" in found.remedy


def test_an_unreadable_counter_of_the_sum_fails(tree):
    tree.set_fault("intel-rapl:0", "unreadable")
    found = powercap(tree.root, [at(tree)])
    assert found.verdict == "fail"
    assert "1 of 2 counters" in found.detail
    assert "(EISDIR): the total would be unknown" in found.detail


def test_an_unreadable_counter_beside_the_sum_warns(tree):
    tree.set_fault("intel-rapl:0:0", "unreadable")
    assert powercap(tree.root, [at(tree)]).verdict == "warn"


def test_an_unreadable_tree_fails_unless_the_processor_is_metered_another_way(tree):
    tree.set_fault("intel-rapl:0", "unreadable")
    assert powercap(tree.root, []).verdict == "fail"
    assert powercap(tree.root, [dataclasses.replace(COUNTER, domain="gpu")]).verdict == "fail"
    perf = dataclasses.replace(COUNTER, id="perf/energy-pkg/package-0", path="perf_event_open")
    assert powercap(tree.root, [perf]).verdict == "warn"


def test_a_masked_tree_of_a_container(tmp_path):
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked")
    found = powercap(tmp_path, [])
    assert "(ENOENT)" in found.detail
    assert "docker run --security-opt systempaths=unconfined" in found.remedy


@pytest.fixture
def nobody():
    """Not root for the length of a test; a process that is not root may stay who it is."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.fixture
def private():
    """A counter that only its owner's group of rights, none, may read, in a place open to all."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "intel-rapl:0").mkdir()
        (root / "intel-rapl:0" / "energy_uj").write_text("1\n")
        root.chmod(0o755)
        (root / "intel-rapl:0" / "energy_uj").chmod(0)
        yield root


@pytest.mark.usefixtures("nobody")
def test_missing_permission_has_a_command_for_now_and_one_for_good(private):
    found = powercap(private, [])
    assert found.verdict == "fail"
    assert "(EACCES)" in found.detail
    assert f"sudo chmod a+r {private}/intel-rapl*/energy_uj" in found.remedy
    assert 'SUBSYSTEM=="powercap", ACTION=="add"' in found.remedy
    assert "/etc/udev/rules.d/" in found.remedy
