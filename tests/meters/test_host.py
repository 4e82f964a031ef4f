"""Gauges of the machine and of the worker."""

import os
import time

import psutil
import pytest

from slm_energy.config import MeasurementConfig
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.host import open_host


@pytest.fixture
def meter():
    return open_host(MeasurementConfig(name="test")).meter


def read(meter, name):
    (place,) = [i for i, source in enumerate(meter.sources) if source.id == name]
    return meter.read(place)


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_all_sources_are_gauges_with_distinct_names(meter):
    assert {source.kind for source in meter.sources} == {"gauge"}
    assert len({source.id for source in meter.sources}) == len(meter.sources)
    assert not any(source.summed for source in meter.sources)


@pytest.mark.parametrize("name", ["cpu_utilization_percentage", "process_cpu_percentage"])
def test_a_share_of_time_needs_two_readings(meter, name):
    meter.watch(os.getpid())
    with pytest.raises(ReadFailed, match="no earlier reading"):
        read(meter, name)
    spin(0.1)
    assert 0 < read(meter, name) <= 100 * psutil.cpu_count()


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


def test_a_worker_that_has_gone_is_a_failed_reading(meter):
    with psutil.Popen(["sleep", "30"]) as child:
        meter.watch(child.pid)
        child.kill()
    with pytest.raises(ReadFailed, match="NoSuchProcess"):
        read(meter, "process_memory_megabytes")
    meter.watch(child.pid)
    with pytest.raises(ReadFailed, match="has gone"):
        read(meter, "process_memory_megabytes")
