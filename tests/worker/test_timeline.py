"""Windows are marked over a real socket; the other side here only notes what it hears."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy.record import Metering
from slm_energy.worker.timeline import Timeline
from tests.clocks import FakeClocks


class Listener:
    """Answers marks like the sampler, until told to hang up."""

    def __init__(self, path: str) -> None:
        self.heard: list[tuple[str, int]] = []
        self.answers = 1000
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, self._socket:
            while self.answers > 0 and (word := connection.recv(16)):
                self.heard.append((word.decode().strip(), time.monotonic_ns()))
                self.answers -= 1
                connection.sendall(b"ok\n")


@pytest.fixture
def metering() -> Iterator[Metering]:
    with tempfile.TemporaryDirectory() as folder:
        yield Metering(shortest_s=0.0, marks=str(Path(folder) / "marks"))


def test_each_window_is_marked_before_it_begins_and_after_it_ends(metering: Metering) -> None:
    listener = Listener(metering.marks)
    timeline = Timeline(metering)
    with timeline.window("load"):
        pass
    with timeline.window("serve") as span:
        span.passes = 3
    timeline.close()
    listener.thread.join()

    load, serve = timeline.windows
    assert (load.name, load.passes, serve.name, serve.passes) == ("load", 0, "serve", 3)
    (_, opened), (_, ended), (_, reopened), (_, closed) = listener.heard
    assert [word for word, _ in listener.heard] == ["start", "end", "start", "end"]
    assert opened < load.start_ns <= load.end_ns < ended < reopened < serve.start_ns
    assert serve.end_ns < closed


def test_without_metering_nothing_is_marked() -> None:
    timeline = Timeline(None)
    with timeline.window("load"):
        pass
    assert [window.name for window in timeline.windows] == ["load"]


def test_a_sampler_that_was_never_there_does_not_stop_the_trial(
    metering: Metering, capsys: pytest.CaptureFixture[str]
) -> None:
    timeline = Timeline(metering)
    with timeline.window("load"):
        pass
    assert len(timeline.windows) == 1
    assert "sampler does not respond" in capsys.readouterr().err


def test_a_sampler_that_dies_does_not_stop_the_trial(
    metering: Metering, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = Listener(metering.marks)
    listener.answers = 1
    timeline = Timeline(metering)
    for name in ("load", "serve"):
        with timeline.window(name):
            listener.thread.join()
    assert [window.name for window in timeline.windows] == ["load", "serve"]
    assert "no longer responds" in capsys.readouterr().err


def test_a_window_records_for_how_long_the_machine_was_suspended_within_it() -> None:
    # The clocks are read at the four edges of two windows; the suspension is within the second.
    timeline = Timeline(None, FakeClocks(suspended_s=(3600, 0, 60, 7.5)))
    for name in ("load", "serve"):
        with timeline.window(name):
            pass
    load, serve = timeline.windows
    assert load.suspended_ns == pytest.approx(0, abs=10_000_000)
    assert serve.suspended_ns == pytest.approx(7_500_000_000, abs=10_000_000)


def test_what_raises_inside_leaves_no_window() -> None:
    timeline = Timeline(None)
    with pytest.raises(RuntimeError), timeline.window("load"):
        raise RuntimeError
    assert timeline.windows == []


def test_a_running_server_is_named_to_the_sampler(metering: Metering) -> None:
    listener = Listener(metering.marks)
    timeline = Timeline(metering)
    timeline.adopt(4711)
    timeline.close()
    listener.thread.join()
    assert [word for word, _ in listener.heard] == ["adopt 4711"]
