"""Gauges of the machine and of the worker."""

import os
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.host import HostMeter, open_host
from tests.metering import read, sources


@pytest.fixture
def meter():
    return open_host(MeasurementConfig(name="test")).meter


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_all_sources_are_gauges_with_distinct_names(meter):
    assert {source.kind for source in sources(meter)} == {"gauge"}
    assert len({source.id for source in sources(meter)}) == len(meter.channels)
    assert not any(source.summed for source in sources(meter))


@pytest.mark.parametrize(
    "name",
    [
        "cpu_utilization_percentage",
        "process_cpu_percentage",
        "foreign_cpu_percentage",
        "cpu_steal_percentage",
    ],
)
def test_a_share_of_time_needs_two_readings(meter, name):
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed, match="no earlier reading"):
        read(meter, name)
    spin(0.1)
    assert 0 <= read(meter, name) <= 100 * psutil.cpu_count()


def test_what_we_do_ourselves_is_seen(meter):
    meter.watch(os.getpid())
    for name in ("cpu_utilization_percentage", "process_cpu_percentage"):
        with pytest.raises(ReadFailed):
            read(meter, name)
    spin(0.2)
    assert read(meter, "cpu_utilization_percentage") > 0
    assert read(meter, "process_cpu_percentage") > 0


def test_a_reading_too_soon_is_no_reading_and_loses_nothing(meter):
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed):
        read(meter, "process_cpu_percentage")
    with pytest.raises(ReadFailed, match="too soon"):
        read(meter, "process_cpu_percentage")
    spin(0.2)
    assert read(meter, "process_cpu_percentage") > 0


def test_a_new_trial_starts_afresh(meter):
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed):
        read(meter, "process_cpu_percentage")
    spin(0.1)
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed, match="no earlier reading"):
        read(meter, "process_cpu_percentage")


def test_memory_is_in_megabytes(meter):
    meter.watch(os.getpid())
    own = psutil.Process().memory_info().rss / 1e6
    assert read(meter, "process_memory_megabytes") >= own / 2
    assert read(meter, "system_memory_usage_megabytes") <= psutil.virtual_memory().total / 1e6
    assert 0 < read(meter, "system_memory_usage_percentage") <= 100


def test_children_count_with_the_worker(meter):
    with psutil.Popen(["sleep", "30"]) as child:
        meter.watch(os.getpid())
        with_child = read(meter, "process_memory_megabytes")
        child.kill()
    meter.watch(os.getpid())
    assert with_child > psutil.Process().memory_info().rss / 1e6
    assert read(meter, "process_memory_megabytes") > 0


SPIN = "while True: pass"
CHILD_SPINS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
WAITS = "input()"
TICKS_S = 0.15
"""The machine's time is sampled in ticks of 10 ms, a process's is exact: they differ by some."""


@contextmanager
def process(code):
    with psutil.Popen([sys.executable, "-c", code], stdin=-1) as started:
        try:
            yield started
        finally:
            for one in [*started.children(recursive=True), started]:
                one.kill()


def child_of(worker):
    while not worker.children():
        time.sleep(0.01)
    return worker.children()[0]


def machine_s():
    """Processor seconds since the start of the machine: all, and those in use."""
    times = psutil.cpu_times()
    all_s = sum(times) - times.guest - times.guest_nice
    return all_s, all_s - times.idle - times.iowait - times.steal


def foreign_s(meter, busy):
    """What the meter says while `busy` uses 0.4 s; and what that and the machine used, in s."""
    all_before, used_before = machine_s()
    with pytest.raises(ReadFailed):
        read(meter, "foreign_cpu_percentage")
    began = busy.cpu_times().user
    while (spent := busy.cpu_times().user - began) < 0.4:
        time.sleep(0.02)
    share = read(meter, "foreign_cpu_percentage")
    all_after, used_after = machine_s()
    return share / 100 * (all_after - all_before), spent, used_after - used_before


def test_a_busy_process_that_is_not_the_worker_is_foreign(meter):
    with process(WAITS) as worker, process(SPIN) as other:
        meter.watch(worker.pid)
        foreign, spent, used = foreign_s(meter, other)
    assert spent - TICKS_S <= foreign <= used + TICKS_S


def test_the_worker_and_its_children_are_not_foreign(meter):
    """Whatever else this machine does: the spinning child's time is not in the foreign time."""
    with process(CHILD_SPINS) as worker:
        child = child_of(worker)
        meter.watch(worker.pid)
        foreign, spent, used = foreign_s(meter, child)
    assert foreign <= used - spent + TICKS_S


def test_the_sampler_itself_is_not_foreign(meter):
    with process(WAITS) as worker:
        meter.watch(worker.pid)
        all_before, used_before = machine_s()
        with pytest.raises(ReadFailed):
            read(meter, "foreign_cpu_percentage")
        spin(0.4)
        share = read(meter, "foreign_cpu_percentage")
        all_s, used_s = machine_s()
    assert share / 100 * (all_s - all_before) <= used_s - used_before - 0.4 + TICKS_S


@pytest.mark.parametrize("name", ["foreign_cpu_percentage", "process_cpu_percentage"])
def test_time_that_went_with_a_process_is_unknown_and_not_zero(meter, name):
    """A worker that ignores SIGCHLD never hears what its children used."""
    with process(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {SPIN!r}])\n"
        "input()"
    ) as worker:
        child = child_of(worker)
        while child.cpu_times().user < 0.3:
            time.sleep(0.01)
        meter.watch(worker.pid)
        with pytest.raises(ReadFailed, match="no earlier"):
            read(meter, name)
        child.kill()
        while child.is_running():
            time.sleep(0.01)
        time.sleep(0.1)
        with pytest.raises(ReadFailed, match="its time is lost"):
            read(meter, name)


def test_a_worker_that_has_gone_is_a_failed_reading(meter):
    with psutil.Popen(["sleep", "30"]) as child:
        meter.watch(child.pid)
        child.kill()
    with pytest.raises(ReadFailed, match="NoSuchProcess"):
        read(meter, "process_memory_megabytes")
    meter.watch(child.pid)
    with pytest.raises(ReadFailed, match="has exited"):
        read(meter, "process_memory_megabytes")


def write(root, name, text):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.fixture
def sysfs(tmp_path):
    """Two cores of one package, and their cpufreq policies."""
    for cpu in range(2):
        write(tmp_path, f"cpu{cpu}/topology/physical_package_id", 0)
        write(tmp_path, f"cpu{cpu}/topology/core_id", cpu)
        for part in ("core", "package"):
            write(tmp_path, f"cpu{cpu}/thermal_throttle/{part}_throttle_total_time_ms", 5000)
        write(tmp_path, f"cpufreq/policy{cpu}/scaling_governor", "powersave")
    write(tmp_path, "intel_pstate/no_turbo", 0)
    return tmp_path


@pytest.mark.parametrize(
    ("part", "slowed_ms", "least", "most"),
    [("core", 0, 0, 0), ("core", 50, 0.1, 50), ("package", 50, 0.1, 50), ("core", 10**6, 100, 100)],
)
def test_throttling_is_the_share_of_time_of_the_hottest_part(sysfs, part, slowed_ms, least, most):
    meter = HostMeter(sysfs)
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed, match="no earlier"):
        read(meter, "cpu_throttled_percentage")
    time.sleep(0.1)
    for cpu in (0, 1) if part == "package" else (1,):
        file = f"cpu{cpu}/thermal_throttle/{part}_throttle_total_time_ms"
        write(sysfs, file, 5000 + slowed_ms)
    assert least <= read(meter, "cpu_throttled_percentage") <= most


def test_changes_of_the_settings_are_counted_since_the_trial_began(sysfs):
    meter = HostMeter(sysfs)
    meter.watch(os.getpid())
    seen = [read(meter, "cpu_governor_changes"), read(meter, "cpu_governor_changes")]
    write(sysfs, "cpufreq/policy1/scaling_governor", "performance")
    seen.append(read(meter, "cpu_governor_changes"))
    write(sysfs, "intel_pstate/no_turbo", 1)
    seen += [read(meter, "cpu_governor_changes"), read(meter, "cpu_governor_changes")]
    assert seen == [0, 0, 1, 2, 2]
    meter.watch(os.getpid())
    assert read(meter, "cpu_governor_changes") == 0


@pytest.mark.parametrize(
    ("gauge", "file"),
    [
        ("cpu_governor_changes", "intel_pstate/no_turbo"),
        ("cpu_throttled_percentage", "cpu1/thermal_throttle/core_throttle_total_time_ms"),
    ],
)
def test_a_file_that_vanishes_is_a_failed_reading(sysfs, gauge, file):
    meter = HostMeter(sysfs)
    (sysfs / file).unlink()
    with pytest.raises(ReadFailed, match="FileNotFoundError"):
        read(meter, gauge)


def test_without_these_files_there_are_no_such_gauges(tmp_path):
    names = {source.id for source in sources(HostMeter(tmp_path))}
    assert "foreign_cpu_percentage" in names
    assert not names & {"cpu_throttled_percentage", "cpu_governor_changes"}


def test_the_gauges_are_quick_to_read(meter):
    assert not meter.slow


def test_a_running_server_that_is_adopted_is_not_foreign(meter):
    with process(WAITS) as worker, process(CHILD_SPINS) as server:
        busy = child_of(server)
        meter.watch(worker.pid)
        alone = read(meter, "process_memory_megabytes")
        meter.adopt(server.pid)
        assert read(meter, "process_memory_megabytes") > alone
        foreign, spent, used = foreign_s(meter, busy)
    assert foreign <= used - spent + TICKS_S


def test_what_a_server_used_before_it_was_adopted_does_not_count(meter):
    with process(WAITS) as worker, process(WAITS) as server:
        meter.watch(worker.pid)
        with pytest.raises(ReadFailed, match="no earlier"):
            read(meter, "process_cpu_percentage")
        meter.adopt(server.pid)
        with pytest.raises(ReadFailed, match="no earlier"):
            read(meter, "process_cpu_percentage")


def test_a_server_that_has_gone_leaves_the_gauges_of_the_trial_unknown(meter):
    with psutil.Popen(["true"]) as server:
        pass
    meter.watch(os.getpid())
    meter.adopt(server.pid)
    with pytest.raises(ReadFailed, match="the worker or its server has exited"):
        read(meter, "process_memory_megabytes")
