"""CodeCarbon's estimate, from the real library."""

import subprocess
import sys
import threading
import time

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.codecarbon import open_codecarbon
from tests.metering import sources


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
    (source,) = sources(opened.meter)
    assert (source.kind, source.domain, source.unit) == ("estimate", "machine", "uJ")
    assert not source.summed
    assert "estimate" in opened.notes[0]


def test_energy_grows_with_time_by_a_plausible_power(opened):
    start, first = time.monotonic(), opened.meter.read()
    time.sleep(0.3)
    middle = opened.meter.read()
    time.sleep(0.3)
    last, end = opened.meter.read(), time.monotonic()
    assert first < middle < last
    assert 1 < (last - first) / 1e6 / (end - start) < 10_000


def test_a_new_trial_goes_on_from_the_old_sum(opened):
    before = opened.meter.read()
    opened.meter.watch(1)
    assert opened.meter.read() >= before


def test_it_is_slow_so_that_it_delays_no_other(opened):
    assert opened.meter.slow


WATCHED = """
import signal, sys, threading
seen = []

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        seen.append((event, arguments))
    if event == "open" and isinstance(arguments[0], str) and set(str(arguments[1])) & set("wax+"):
        seen.append((event, arguments))

sys.addaudithook(hook)
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.codecarbon import open_codecarbon
meter = open_codecarbon(MeasurementConfig(name="test")).meter
meter.watch(1)
meter.read()
meter.read()
def others():
    return [one for one in threading.enumerate() if one is not threading.main_thread()]

assert {type(one) for one in others()} == {threading.Timer}, others()
meter.close()
for one in others():  # a timer that has rung may not have ended when the next one runs
    one.join(timeout=5)
assert threading.enumerate() == [threading.main_thread()]
assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
assert not seen, seen
"""


def test_it_writes_no_file_speaks_to_nobody_and_leaves_no_thread(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_config_file_of_codecarbon_does_not_change_the_estimate(opened, tmp_path, monkeypatch):
    (tmp_path / ".codecarbon.config").write_text(
        "[codecarbon]\nforce_cpu_power=100000\nforce_ram_power=100000\ntracking_mode=process\n"
    )
    monkeypatch.chdir(tmp_path)
    opened.meter.watch(1)
    start, before = time.monotonic(), opened.meter.read()
    time.sleep(0.2)
    watts = (opened.meter.read() - before) / 1e6 / (time.monotonic() - start)
    assert watts < 10_000


def test_a_broken_config_file_of_codecarbon_is_named(tmp_path, monkeypatch):
    (tmp_path / ".codecarbon.config").write_text("[codecarbon\n")
    monkeypatch.chdir(tmp_path)
    found = open_codecarbon(MeasurementConfig(name="test"))
    assert found.meter is None
    assert ".codecarbon.config" in found.notes[0]
