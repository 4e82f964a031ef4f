"""What is measured about a source, from scripted readings and from clockwork in real time."""

import dataclasses
import itertools
import random
import re
import time

import pytest

from slm_energy.meters.base import Channel, ReadFailed
from slm_energy.record import Source
from slm_energy.sampler.calibration import calibrate, rhythm

MS = 10**6


def polled(ticks, step_ns, rise=50):
    """Readings of a counter that rises at these moments, `step_ns` apart."""
    now, value = 0, 1000
    ticks = list(ticks)
    while ticks:
        now += step_ns
        while ticks and ticks[0] <= now:
            value += rise
            ticks.pop(0)
        yield now, value


def ticking(period_ns, count, jitter=0.0):
    chance = random.Random(7)
    return [round(period_ns * (n + chance.uniform(-jitter, jitter))) for n in range(1, count)]


@pytest.mark.parametrize("period_ms", [1, 5, 20, 100])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["counter", "power"])
def test_the_period_is_the_usual_time_between_changes(period_ms, jitter, kind):
    found = rhythm([*polled(ticking(period_ms * MS, 30, jitter), 200_000)], kind)
    assert found.period_ns == pytest.approx(period_ms * MS, rel=0.21)
    assert found.resolution == 50


def test_ticks_that_were_missed_do_not_make_it_longer():
    points = [*polled(ticking(5 * MS, 30), 200_000)]
    starved = [point for point in points if not 20 * MS < point[0] < 60 * MS]
    assert rhythm(starved, "counter").period_ns == pytest.approx(5 * MS, rel=0.1)


def test_reading_too_rarely_gives_a_longer_period_never_a_shorter_one():
    assert rhythm([*polled(ticking(MS, 60), 3 * MS)], "counter").period_ns == 3 * MS


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_changes_tell_no_period(count):
    found = rhythm([*polled(ticking(5 * MS, count), MS)], "counter")
    assert found.period_ns is None
    assert found.changes == count - 1


def test_power_that_stays_the_same_for_a_while_does_not_make_it_longer():
    every_third_or_so = [20 * MS * n for n in range(1, 60) if n % 5 in (0, 1, 3)]
    assert rhythm([*polled(every_third_or_so, MS)], "power").period_ns == 20 * MS
    steps_of_the_load = [300 * MS * n for n in range(1, 8)]
    assert rhythm([*polled(steps_of_the_load, MS)], "power").period_ns is None


def test_a_wrap_is_not_the_resolution():
    points = [(0, 900), (1, 990), (2, 80), (3, 170)]
    assert rhythm(points, "counter").resolution == 90


def clockwork(*periods_ms, kind="counter", fails=False, mirror=False):
    """Channels that show how many of their periods have passed, times 7; 0 never changes."""
    reads = itertools.count(1)

    def channel(number, period_ns):
        def read():
            if fails and next(reads) % 3 == 0:
                raise ReadFailed("EIO")
            passed = time.monotonic_ns() // period_ns if period_ns else 0
            return (0 if mirror else number * 10**6) + 7 * passed

        source = Source(
            id=f"{kind}/{number}",
            kind=kind,
            domain="cpu_package",
            unit="uJ",
            update_period_ns=33 * MS,
            summed=True,
            resolution=2,
        )
        return Channel(source=source, read=read)

    return [channel(number, period_ms * MS) for number, period_ms in enumerate(periods_ms)]


@pytest.mark.parametrize("fails", [False, True], ids=["reliable", "failing"])
def test_all_sources_are_timed_together(fails):
    sources, mirrors, notes = calibrate(clockwork(1, 5, 20, 100, fails=fails))
    assert not mirrors
    assert not notes
    for source, period_ms in zip(sources, (1, 5, 20, 100), strict=True):
        assert source.update_period_measured
        assert 0.8 * period_ms * MS < source.update_period_ns
        assert source.resolution >= 7
    periods = [source.update_period_ns for source in sources]
    assert periods == sorted(periods)
    assert periods[-1] < 150 * MS


def test_a_counter_that_does_not_change_keeps_its_documented_period_and_is_named():
    sources, _, notes = calibrate(clockwork(0))
    assert sources[0].update_period_ns == 33 * MS
    assert not sources[0].update_period_measured
    assert sources[0].resolution == 2
    (note,) = notes
    stayed = r"counter/0 stayed at 0 uJ for [\d.]+ s: either it is not counted on this machine, .*"
    remedy = r"; measurement.leave_out=\[counter/0\] leaves it out of the sum"
    assert re.fullmatch(stayed + remedy, note)


def test_a_counter_that_cannot_be_read_is_not_said_to_stand_still():
    (channel,) = clockwork(5)

    def lost():
        raise ReadFailed("GPU is lost")

    _, _, notes = calibrate([dataclasses.replace(channel, read=lost)])
    assert notes == ("counter/0 could not be read while update periods were being measured",)


def test_constant_power_is_nothing_to_note():
    sources, _, notes = calibrate(clockwork(0, kind="power"))
    assert not sources[0].update_period_measured
    assert not notes


def test_gauges_are_not_read():
    (gauge,) = clockwork(1, kind="gauge")
    never_read = dataclasses.replace(gauge, read=lambda: pytest.fail("it was read"))
    assert calibrate([never_read]) == ((gauge.source,), {}, ())


def test_counters_that_show_the_same_values_are_named():
    _, mirrors, _ = calibrate(clockwork(5, 5, mirror=True))
    assert mirrors == {"counter/1": "counter/0"}
    _, mirrors, _ = calibrate(clockwork(5, 5))
    assert mirrors == {}


def test_perf_events_are_never_taken_for_mirrors():
    """The kernel names one CPU per register, and all of them begin at zero."""
    same = [
        dataclasses.replace(c, source=dataclasses.replace(c.source, unit="J/2^32"))
        for c in clockwork(5, 5, mirror=True)
    ]
    _, mirrors, _ = calibrate(same)
    assert mirrors == {}
