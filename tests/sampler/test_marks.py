"""What a recording reads at a mark and at its end, on counters that follow the clock."""

import dataclasses
import json
import os
import time

import pytest

from slm_energy.record import Source
from slm_energy.sampler.channels import NumberedChannel
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.sampler.open_meters import Instruments
from slm_energy.sampler.recording import Recording
from slm_energy.sampler.slow_meters import SlowMeter
from tests.sampler.conftest import MS, config

FAST = Source(
    id="fast", kind="counter", domain="gpu", unit="mJ", update_period_ns=20 * MS, summed=True
)
SLOW = dataclasses.replace(FAST, id="slow", update_period_ns=90 * MS)
POWER = Source(id="power", kind="power", domain="gpu", unit="mW", update_period_ns=2000 * MS)
LATE = {"lag_ns": 150 * MS, "lag_error_ns": 100 * MS}


class Clockwork:
    """A meter whose counters count their ticks."""

    def __init__(self, *sources, slow=False):
        self.slow = slow
        self.channels = tuple(
            NumberedChannel(number=number, meter=self, source=source, read=self._reader(source))
            for number, source in enumerate(sources)
        )

    def _reader(self, source):
        return lambda: 1 + time.monotonic_ns() // source.update_period_ns

    def watch(self, pid):
        pass

    def close(self):
        pass


@pytest.fixture
def recording(tmp_path):
    """Begin to record these sources; `file` is where."""

    def begin(*sources, slow=False):
        meter = Clockwork(*sources, slow=slow)
        found = Instruments(meters=(meter,), channels=meter.channels, notes=())
        threads = [SlowMeter(meter, meter.channels)] if slow else []
        return Recording(
            found, threads, period_s=None, pid=os.getpid(), path=tmp_path / "samples.jsonl"
        )

    return begin


def until_answered(recording, request):
    """Make a request and run the loop of the service until it is answered; the time of that."""
    answers = []
    request(lambda: answers.append(time.monotonic_ns()))
    while not answers:
        time.sleep(recording.wait_s())
        recording.tick()
    return answers[0]


def rows(tmp_path, number):
    """(before, raw, after) of all readings of a channel so far."""
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    return [
        row[1:4] for line in lines if isinstance(line, list) for row in line if row[0] == number
    ]


@pytest.mark.parametrize("edge", ["start", "end"])
def test_a_mark_is_a_reading_of_every_source_at_once(recording, tmp_path, edge):
    sampling = recording(FAST, POWER)
    marked_ns = time.monotonic_ns()
    sampling.mark(edge, lambda: None)
    done_ns = time.monotonic_ns()
    for number in (0, 1):
        assert any(marked_ns <= b and a <= done_ns for b, _, a in rows(tmp_path, number))
    sampling.abandon()


@pytest.mark.parametrize("sources", [(FAST, SLOW), (SLOW, FAST)])
def test_a_window_waits_for_the_slowest_counter(recording, tmp_path, sources):
    sampling = recording(*sources)
    # Right after a tick of the slowest: the other one ticks before it does again.
    period_ns = SLOW.update_period_ns
    time.sleep((period_ns - time.monotonic_ns() % period_ns + 2 * MS) / 1e9)
    asked_ns = time.monotonic_ns()
    answered_ns = until_answered(sampling, lambda answer: sampling.mark("start", answer))
    sampling.abandon()
    values = {
        raw
        for b, raw, a in rows(tmp_path, sources.index(SLOW))
        if asked_ns <= b and a <= answered_ns
    }
    assert len(values) == 2


def test_a_late_counter_is_followed_for_as_long_as_it_is_late(recording):
    latest_ns = 250 * MS
    for source, least_ns in ((FAST, 20 * MS), (dataclasses.replace(FAST, **LATE), latest_ns)):
        sampling = recording(source)
        asked_ns = time.monotonic_ns()
        answered_ns = until_answered(sampling, lambda answer, s=sampling: s.mark("end", answer))
        sampling.abandon()
        assert answered_ns - asked_ns >= least_ns


@pytest.mark.parametrize("source", [FAST, POWER])
def test_a_recording_ends_when_all_values_show_its_end(recording, tmp_path, source):
    sampling = recording(dataclasses.replace(source, **LATE))
    asked_ns = time.monotonic_ns()
    until_answered(sampling, sampling.finish)
    series, report = read_samples(tmp_path / "samples.jsonl")
    assert report.finished
    assert series[0].before_ns[-1] - asked_ns >= 250 * MS


def test_a_slow_meter_is_read_for_as_long_as_it_is_late(recording, tmp_path):
    slow = dataclasses.replace(POWER, update_period_ns=50 * MS, **LATE)
    sampling = recording(slow, slow=True)
    asked_ns = time.monotonic_ns()
    until_answered(sampling, sampling.finish)
    (series,), _ = read_samples(tmp_path / "samples.jsonl")
    after = [t - asked_ns for t in series.before_ns if t > asked_ns]
    assert after[-1] >= 250 * MS
    assert len(after) >= 3


def test_the_shortest_window_is_that_of_the_most_demanding_source(tmp_path):
    sampling = Sampler(config(tmp_path), tmp_path)
    aside = dataclasses.replace(SLOW, id="aside", update_period_ns=500 * MS, summed=False)
    sampling.sources = (FAST, SLOW, aside)
    assert sampling.shortest_s(0.01) == pytest.approx(9.0)
    sampling.sources = ()
    assert sampling.shortest_s(0.01) == 0.0
