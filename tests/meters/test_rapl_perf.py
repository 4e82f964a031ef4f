"""RAPL through perf events: the kernel's own clock event stands in for the energy counters.

Where a sandbox forbids the system call, the tests ask for the note with its remedy instead.
"""

import ctypes
import errno
import os
import struct
import time

import pytest

from slm_energy.meters import rapl_perf
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.rapl_perf import (
    EventCounter,
    domain_and_package,
    open_events,
    perf_event_open,
)
from slm_energy.record import Source
from slm_energy.testing.perf import CPU_CLOCK, SOFTWARE, write_events

EVERYTHING = {
    "energy-pkg": CPU_CLOCK,
    "energy-cores": CPU_CLOCK,
    "energy-ram": CPU_CLOCK,
    "energy-gpu": CPU_CLOCK,
    "energy-psys": CPU_CLOCK,
}


@pytest.fixture(scope="module")
def refusal():
    """Why the kernel forbids counting on a CPU, or None: asked without the code under test."""
    clock_on_cpu = struct.pack("IIQ", SOFTWARE, 64, CPU_CLOCK).ljust(64, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.syscall(ctypes.c_long(298), clock_on_cpu, *map(ctypes.c_long, (-1, 0, -1, 0)))
    if file < 0:
        return errno.errorcode[ctypes.get_errno()]
    os.close(file)
    return None


@pytest.fixture
def opened():
    """Open the events of a tree; they are closed after the test."""
    closers = []

    def open_tree(sysfs, covered=(), **more):
        counters, notes = open_events(sysfs, covered, **more)
        closers.extend(counter.close for counter in counters)
        return counters, notes

    yield open_tree
    for close in closers:
        close()


@pytest.fixture
def granted(monkeypatch):
    """A kernel that grants every event, and gives each a count of 7."""
    asked = []

    def grant(kind, config, cpu):
        asked.append((kind, config, cpu))
        return answering(7)

    monkeypatch.setattr(rapl_perf, "perf_event_open", grant)
    return asked


def answering(*numbers, enabled_ns=5, running_ns=5):
    """A descriptor that answers as the kernel does, once per number."""
    reader, writer = os.pipe()
    for number in numbers:
        os.write(writer, struct.pack("QQQ", number, enabled_ns, running_ns))
    os.close(writer)
    return reader


def test_the_kernel_counts(tmp_path, opened, refusal):
    write_events(tmp_path)
    start = time.monotonic_ns()
    counters, notes = opened(tmp_path)
    if refusal:
        assert counters == []
        assert_refused(notes, refusal)
        return
    first = counters[0].read()
    time.sleep(0.05)
    counted = counters[0].read() - first
    assert 50_000_000 <= counted <= time.monotonic_ns() - start
    assert notes == []


def test_the_sum_of_cores_is_one_counter(tmp_path, opened, refusal):
    cpus = min(2, os.cpu_count())
    write_events(tmp_path, pmu="power_core", events={"energy-core": CPU_CLOCK}, packages=[0] * cpus)
    counters, notes = opened(tmp_path)
    if refusal:
        assert_refused(notes, refusal)
        return
    before = counters[0].read()
    time.sleep(0.05)
    assert counters[0].read() - before >= cpus * 50_000_000
    assert counters[0].source.device == "package-0/core"
    assert len(counters) == 1


def assert_refused(notes, refusal):
    (note,) = notes
    assert f"({refusal})" in note
    if refusal in ("EACCES", "EPERM"):
        assert "sudo sysctl kernel.perf_event_paranoid=0" in note


def test_closing_closes_every_descriptor():
    files = [answering(1), answering(2)]
    EventCounter(a_source(), files).close()
    for file in files:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(file)


def test_an_event_source_that_does_not_exist_is_the_kernels_error():
    # A sandbox answers before the kernel looks.
    codes = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSYS)
    with pytest.raises(OSError, match="|".join(map(os.strerror, codes))):
        perf_event_open(2**31 - 1, 0, 0)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM])
def test_without_permission_the_note_has_the_command(tmp_path, opened, monkeypatch, error):
    def refuse(kind, config, cpu):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(rapl_perf, "perf_event_open", refuse)
    write_events(tmp_path, events=EVERYTHING)
    counters, notes = opened(tmp_path)
    assert counters == []
    (note,) = notes
    assert "refuses perf/energy-pkg/package-0, perf/energy-cores/package-0, " in note
    assert f"({errno.errorcode[error]}): sudo sysctl kernel.perf_event_paranoid=0, or" in note
    assert "CAP_PERFMON" in note
    assert "\n" not in note


def test_what_was_opened_of_a_refused_counter_is_closed(tmp_path, opened, monkeypatch):
    files = []

    def grant_first(kind, config, cpu):
        if files:
            raise OSError(errno.ENODEV, "offline")
        files.append(answering(1))
        return files[0]

    monkeypatch.setattr(rapl_perf, "perf_event_open", grant_first)
    write_events(tmp_path, pmu="power_core", events={"energy-core": 1}, packages=(0, 0))
    counters, notes = opened(tmp_path)
    assert counters == []
    assert notes == ["rapl: the kernel refuses perf/energy-core/package-0 (ENODEV)"]
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(files[0])


def test_sources_are_named_as_powercap_names_them(tmp_path, opened, granted):
    write_events(tmp_path, events=EVERYTHING, packages=(0, 1))
    counters, _ = opened(tmp_path)
    assert {c.source.id: (c.source.domain, c.source.device) for c in counters} == {
        "perf/energy-pkg/package-0": ("cpu_package", "package-0"),
        "perf/energy-pkg/package-1": ("cpu_package", "package-1"),
        "perf/energy-cores/package-0": ("cpu_core", "package-0/core"),
        "perf/energy-cores/package-1": ("cpu_core", "package-1/core"),
        "perf/energy-gpu/package-0": ("cpu_uncore", "package-0/uncore"),
        "perf/energy-gpu/package-1": ("cpu_uncore", "package-1/uncore"),
        "perf/energy-ram/package-0": ("dram", "package-0/dram"),
        "perf/energy-ram/package-1": ("dram", "package-1/dram"),
        "perf/energy-psys/package-0": ("psys", "psys"),
        "perf/energy-psys/package-1": ("psys", "psys-1"),
    }


def test_a_platform_counter_without_a_sensor_is_left_out(tmp_path, opened, monkeypatch):
    """Kernels list psys on every Sapphire Rapids; in a virtual machine it stays at 0."""
    monkeypatch.setattr(rapl_perf, "perf_event_open", lambda *event: answering(*[0] * 100))
    write_events(tmp_path, events={"energy-pkg": 2, "energy-psys": 5})
    counters, (note,) = opened(tmp_path)
    assert [counter.source.domain for counter in counters] == ["cpu_package"]
    assert note.startswith("rapl: perf/energy-psys/package-0 is left out: it counted nothing for")


def test_a_platform_counter_may_need_a_moment_for_its_first_step(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(rapl_perf, "perf_event_open", lambda *event: answering(0, 0, 0, 2**32))
    write_events(tmp_path, events={"energy-psys": 5})
    counters, notes = opened(tmp_path)
    assert [counter.source.domain for counter in counters] == ["psys"]
    assert notes == []


def test_a_source_says_what_it_is(tmp_path, opened, granted):
    write_events(tmp_path)
    source = opened(tmp_path)[0][0].source
    assert (source.kind, source.unit, source.modulus) == ("counter", "J/2^32", None)
    assert source.path == "perf_event_open power/energy-pkg/ on CPU 0"
    assert not source.summed


def test_dies_are_told_apart(tmp_path, opened, granted):
    write_events(tmp_path, packages=(0, 0))
    counters, _ = opened(tmp_path)
    assert [c.source.device for c in counters] == ["package-0-die-0", "package-0-die-1"]


def test_dies_of_amd_show_one_register(tmp_path, opened, granted):
    write_events(tmp_path, packages=(0, 0, 1))
    counters, _ = opened(tmp_path, amd=True)
    assert [c.source.device for c in counters] == ["package-0", "package-1"]


def test_events_that_amd_does_not_have_are_ignored(tmp_path, opened, granted):
    write_events(tmp_path, events=EVERYTHING)
    counters, notes = opened(tmp_path, amd=True)
    assert [c.source.domain for c in counters] == ["cpu_package"]
    assert notes == []


def test_the_event_is_asked_for_by_its_number_on_each_cpu(tmp_path, opened, granted):
    write_events(tmp_path, events={"energy-pkg": 2}, packages=(0, 1), kind=31)
    opened(tmp_path)
    assert granted == [(31, 2, 0), (31, 2, 1)]


def test_a_range_of_cpus_is_understood(tmp_path, opened, granted):
    write_events(tmp_path, packages=(0, 1, 2, 3))
    (tmp_path / "bus/event_source/devices/power/cpumask").write_text("0-1,3\n")
    counters, _ = opened(tmp_path)
    assert [c.source.device for c in counters] == ["package-0", "package-1", "package-3"]


def test_what_is_metered_already_is_left_out(tmp_path, opened, granted):
    write_events(tmp_path, events={"energy-pkg": 2, "energy-ram": 3}, packages=(0, 1))
    counters, _ = opened(tmp_path, {("cpu_package", "package-0"), ("dram", "package-1")})
    assert [c.source.id for c in counters] == [
        "perf/energy-pkg/package-1",
        "perf/energy-ram/package-0",
    ]


def test_a_die_covers_its_package():
    assert domain_and_package(a_source(device="package-0-die-1/dram")) == ("dram", "package-0")


def a_source(device="package-0/dram"):
    return Source(id="perf", kind="counter", domain="dram", unit="J/2^32", device=device)


def test_another_unit_is_left_out_and_the_others_stay(tmp_path, opened, granted):
    write_events(tmp_path, events={"energy-pkg": 2, "energy-ram": 3})
    folder = tmp_path / "bus/event_source/devices/power/events"
    (folder / "energy-pkg.unit").write_text("Watts\n")
    counters, notes = opened(tmp_path)
    assert [c.source.domain for c in counters] == ["dram"]
    (note,) = notes
    assert note.startswith("rapl: perf event power/energy-pkg/ is left out: it counts in 2.3283064")
    assert "Watts" in note


@pytest.mark.parametrize("scale", ["1.0", "2.3283064365386962890624e-9", "?"])
def test_another_scale_is_left_out(tmp_path, opened, granted, scale):
    write_events(tmp_path, scale=scale)
    counters, notes = opened(tmp_path)
    assert counters == []
    assert "is left out" in notes[0]


def test_a_damaged_tree_is_a_note(tmp_path, opened, granted):
    write_events(tmp_path)
    (tmp_path / "devices/system/cpu/cpu0/topology/physical_package_id").unlink()
    counters, notes = opened(tmp_path)
    assert counters == []
    assert "physical_package_id" in notes[0]


def test_a_machine_without_such_events_has_no_notes(tmp_path, opened):
    assert opened(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda: answering(), "has stopped the event"),
        (lambda: answering(9, enabled_ns=100, running_ns=60), "during 60 of 100 ns"),
        (lambda: os.open("/", os.O_RDONLY), "EISDIR"),
    ],
    ids=["stopped", "part of the time", "error"],
)
def test_what_is_no_whole_count_is_a_failed_reading(file, message):
    counter = EventCounter(a_source(), [answering(5), file()])
    with pytest.raises(ReadFailed, match=message):
        counter.read()
    counter.close()
