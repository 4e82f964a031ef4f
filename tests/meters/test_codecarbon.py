"""CodeCarbon's estimate, from the real library."""

import threading
import time

import pytest

from slm_energy.config import MeasurementConfig
from slm_energy.meters.codecarbon import open_codecarbon


def timers():
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.fixture(scope="module")
def opened():
    opened = open_codecarbon(MeasurementConfig(name="test"))
    yield opened
    opened.meter.close()
    for timer in timers():
        timer.join(timeout=5)
    assert not timers()


def test_it_is_an_estimate_and_never_summed(opened):
    (source,) = opened.meter.sources
    assert (source.kind, source.domain, source.unit) == ("estimate", "machine", "uJ")
    assert not source.summed
    assert "estimate" in opened.notes[0]


def test_energy_grows_with_time_by_a_plausible_power(opened):
    start, first = time.monotonic(), opened.meter.read(0)
    time.sleep(0.3)
    middle = opened.meter.read(0)
    time.sleep(0.3)
    last, end = opened.meter.read(0), time.monotonic()
    assert first < middle < last
    assert 1 < (last - first) / 1e6 / (end - start) < 10_000


def test_a_new_trial_goes_on_from_the_old_sum(opened):
    before = opened.meter.read(0)
    opened.meter.watch(1)
    assert opened.meter.read(0) >= before
