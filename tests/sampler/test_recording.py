"""Windows in a recording: their edges at ticks, and the marks that a worker sends."""

import os
import signal
import socket
import time

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.exchange import Marks
from slm_energy.record import Window
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant
from tests.sampler.conftest import MS, figures, holds


@pytest.fixture
def slow_tree(machine):
    """A counter that ticks every 60 ms."""
    zones = (Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),)
    with PowercapTree(machine(), zones, period_s=0.06) as tree:
        yield tree


def usual(root):
    return MeasurementConfig(name="test", powercap_root=str(root))


def package(file, start_ns, end_ns):
    """What was read of the counter in that time."""
    series, _ = read_samples(file)
    values = next(s for s in series if s.source.id == "rapl/intel-rapl:0")
    columns = zip(values.before_ns, values.raw, values.after_ns, strict=True)
    return [raw for before, raw, after in columns if start_ns <= before and after <= end_ns]


def test_a_window_starts_right_after_a_tick_and_its_end_is_followed(slow_tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with Sampler(usual(slow_tree.root), tmp_path) as sampling:
        counter = next(s for s in sampling.sources if s.id == "rapl/intel-rapl:0")
        assert counter.update_period_measured
        assert counter.update_period_ns > 50 * MS
        assert sampling.shortest_s(0.01) == counter.update_period_ns / 1e9 / 0.01
        sampling.begin(os.getpid(), file)
        marks = Marks(sampling.marks)
        asked = time.monotonic_ns()
        marks.mark("start")
        start = time.monotonic_ns()
        time.sleep(0.3)
        end = time.monotonic_ns()
        marks.mark("end")
        known = time.monotonic_ns()
        marks.close()
        sampling.end()
    waiting = package(file, asked, start)
    # Read at once, then until it ticked, then everything was read: the tick is the last but one.
    assert waiting[-3] < waiting[-2] == waiting[-1]
    after = package(file, end, known)
    # Two ticks, if the fake was not starved for longer than the sampler's patience.
    assert len(set(after)) == 3 or slow_tree.longest_pause_s > 0.1
    serve = Window(name="serve", start_ns=start, end_ns=end)
    assert holds(
        figures(file, serve)[0]["rapl/intel-rapl:0"], slow_tree, 50 * (end - start) / 1e9, 50
    )


def test_a_fast_counter_lets_a_window_start_at_once_and_is_read_closely(tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with Sampler(usual(tree.root), tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        marks = Marks(sampling.marks)
        asked = time.monotonic_ns()
        marks.mark("start")
        start = time.monotonic_ns()
        time.sleep(0.07)
        later = time.monotonic_ns()
        marks.close()
        sampling.end()
    assert 1 <= len(package(file, asked, start)) <= 2
    # Before the next usual reading, which comes after 80 ms or later.
    assert len(package(file, start, later)) >= 2


def test_a_counter_that_stands_still_does_not_hold_a_window_up_for_ever(slow_tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with Sampler(usual(slow_tree.root), tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        slow_tree.set_fault("intel-rapl:0", "frozen")
        marks = Marks(sampling.marks)
        asked = time.monotonic_ns()
        marks.mark("start")
        marks.mark("end")
        answered = time.monotonic_ns()
        marks.close()
        sampling.end()
    assert len(set(package(file, asked, answered))) == 1


def test_marks_without_a_recording_or_after_its_end_are_answered(slow_tree, tmp_path):
    with Sampler(usual(slow_tree.root), tmp_path) as sampling:
        marks = Marks(sampling.marks)
        marks.mark("start")
        sampling.begin(os.getpid(), tmp_path / "samples.jsonl")
        sampling.end()
        marks.mark("end")
        marks.close()


def test_a_worker_that_dies_or_says_nonsense_does_not_disturb(slow_tree, tmp_path):
    file = tmp_path / "samples.jsonl"
    with Sampler(usual(slow_tree.root), tmp_path) as sampling:
        sampling.begin(os.getpid(), file)
        with socket.socket(socket.AF_UNIX) as dies:
            dies.connect(sampling.marks)
            dies.sendall(b"start\n")
        with socket.socket(socket.AF_UNIX) as babbles:
            babbles.connect(sampling.marks)
            babbles.sendall(b"halt\n")
            assert babbles.recv(16) == b""
        with socket.socket(socket.AF_UNIX) as halting:
            halting.connect(sampling.marks)
            halting.sendall(b"st")
            halting.sendall(b"art\n")
            assert halting.recv(16) == b"ok\n"
        sampling.end()
    assert read_samples(file)[1].finished


def test_a_replaced_sampler_listens_at_the_same_place_and_leaves_nothing(slow_tree, tmp_path):
    with Sampler(usual(slow_tree.root), tmp_path) as sampling:
        place = sampling.marks
        os.kill(sampling.pid, signal.SIGKILL)
        sampling.begin(os.getpid(), tmp_path / "samples.jsonl")
        assert sampling.marks == place
        marks = Marks(place)
        marks.mark("start")
        marks.close()
        assert os.path.exists(place)
    assert not os.path.exists(os.path.dirname(place))
