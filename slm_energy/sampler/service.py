"""The sampling process: `python -m slm_energy.sampler.service CONFIG SOCKET`, started by `Sampler`.

Requests come as JSON lines on standard input, replies go as JSON lines to standard output; marks
come over a local socket (`exchange.py`). Between `begin` and `end` sources are read
(`recording.py`). One loop serves all three, and none of them blocks another. The process ends
when its input is closed, which is also what happens when its parent dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from slm_energy import sigint, source_code
from slm_energy.config.groups import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.exchange import Edge
from slm_energy.sampler.open_meters import Instruments, open_instruments
from slm_energy.sampler.recording import Recording, processors
from slm_energy.sampler.slow_meters import SlowMeter
from slm_energy.serialization import Json, from_plain, to_plain

_ENOUGH_CPUS = 4
_EDGES: dict[bytes, Edge] = {b"start": "start", b"end": "end"}


def serve(requests: int, replies: int, measurement: MeasurementConfig, marks: str) -> None:
    """Answer requests and marks until the requests' pipe is closed.

    Args:
        requests: file descriptor to read JSON lines from.
        replies: file descriptor that the answers go to.
        measurement: what to meter.
        marks: path of the socket to listen on.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        Path(marks).unlink(missing_ok=True)  # of a process that was killed
        listener.bind(marks)
        listener.listen()
        try:
            instruments = open_instruments(measurement)
        except MeterError as error:
            _send(replies, {"error": str(error)})
            return
        with contextlib.closing(instruments):
            sources, notes = to_plain(instruments.sources), to_plain(instruments.notes)
            _send(replies, {"sources": sources, "notes": notes, **source_code.report()})
            _Service(requests, replies, listener, instruments, measurement.period_s).run()
    # The parent removes them too, unless it was killed.
    shutil.rmtree(Path(marks).parent / source_code.FOLDER, ignore_errors=True)
    with contextlib.suppress(OSError):
        Path(marks).unlink()
        Path(marks).parent.rmdir()


class _Service:
    """The loop."""

    def __init__(
        self,
        requests: int,
        replies: int,
        listener: socket.socket,
        instruments: Instruments,
        period_s: float | None,
    ) -> None:
        self._requests, self._replies, self._listener = requests, replies, listener
        self._instruments, self._period_s = instruments, period_s
        self._slow = [
            SlowMeter(meter, channels)
            for meter in instruments.meters
            if meter.slow and (channels := [c for c in instruments.channels if c.meter is meter])
        ]
        self._recording: Recording | None = None
        self._open = True
        self._received: dict[int, bytes] = {}
        # select, not epoll: a ticking counter is looked for at every millisecond, and epoll's
        # waits are whole milliseconds.
        self._selector = selectors.SelectSelector()
        self._selector.register(requests, selectors.EVENT_READ, self._on_request)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        while self._open:
            timeout_s = self._recording.wait_s() if self._recording else None
            for key, _ in self._selector.select(timeout_s):
                key.data()
            if self._recording and not self._recording.closed:
                self._recording.tick()
            if self._recording and self._recording.closed:
                self._recording = None
        if self._recording:
            self._recording.abandon()

    def _on_request(self) -> None:
        chunk = os.read(self._requests, 65536)
        self._open = bool(chunk)
        for line in self._lines(self._requests, chunk):
            self._handle(json.loads(line))

    def _handle(self, request: dict[str, Any]) -> None:
        if "end" in request and self._recording:
            self._recording.finish(self._done)
            return
        if "begin" in request:
            if self._recording:
                self._recording.abandon()
            self._recording = Recording(
                self._instruments,
                self._slow if request["slow"] else (),
                period_s=self._period_s,
                pid=request["begin"],
                path=Path(request["file"]),
            )
        self._done()

    def _done(self) -> None:
        _send(self._replies, {"done": True})

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        caller.setblocking(False)
        self._selector.register(caller, selectors.EVENT_READ, lambda: self._on_mark(caller))

    def _on_mark(self, caller: socket.socket) -> None:
        try:
            chunk = caller.recv(64)
        except OSError:
            chunk = b""
        if not chunk:
            self._hang_up(caller)
            return
        for line in self._lines(caller.fileno(), chunk):
            if server := re.fullmatch(rb"adopt (\d+)", line):
                if self._recording:
                    self._recording.adopt(int(server[1]))
                _answer(caller)
                continue
            edge = _EDGES.get(line)
            if edge is None:
                self._hang_up(caller)
                return
            if self._recording:
                self._recording.mark(edge, lambda: _answer(caller))
            else:
                _answer(caller)

    def _hang_up(self, caller: socket.socket) -> None:
        self._selector.unregister(caller)
        self._received.pop(caller.fileno(), None)
        caller.close()

    def _lines(self, number: int, chunk: bytes) -> list[bytes]:
        """The complete lines received from one side."""
        *lines, self._received[number] = (self._received.get(number, b"") + chunk).split(b"\n")
        return lines


def _answer(caller: socket.socket) -> None:
    # A worker that has died needs no answer; its socket reports the end by itself.
    with contextlib.suppress(OSError):
        caller.sendall(b"ok\n")


def _send(replies: int, reply: dict[str, Json]) -> None:
    os.write(replies, json.dumps(reply).encode() + b"\n")


def _keep_away() -> None:
    """Stay off the workload's processors where there are enough of them."""
    cpus = processors()
    if len(cpus) >= _ENOUGH_CPUS:
        os.sched_setaffinity(0, cpus[-1:])


def main() -> None:
    """Run as a process of its own."""
    # Ctrl-C reaches every process of the terminal; the parent decides when this one ends.
    sigint.ignore()
    _keep_away()
    # Libraries may print, and only replies may go to the parent.
    replies = os.dup(1)
    os.dup2(2, 1)
    config, marks = sys.argv[1:]
    serve(0, replies, from_plain(MeasurementConfig, json.loads(config)), marks)


if __name__ == "__main__":
    main()
