"""The sampling process: `python -m slm_energy.meters.sampling CONFIG`, which `Sampler` starts.

Requests come as JSON lines on standard input, replies go as JSON lines to standard output. Between
`begin` and `end` every source is read each period, which is jittered so that a load with a rhythm
of its own is not always met at the same phase. The process ends when its input is closed, which is
also what happens when its parent dies.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from slm_energy.config import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.meters.base import Meter, MeterFactory, ReadFailed
from slm_energy.meters.codecarbon import open_codecarbon
from slm_energy.meters.host import open_host
from slm_energy.meters.nvml import open_nvml
from slm_energy.meters.rapl import open_rapl
from slm_energy.plain import Json, from_plain, to_plain
from slm_energy.record import ClockAnchor, Source

BUILT_IN: dict[str, MeterFactory] = {"rapl": open_rapl, "nvml": open_nvml, "host": open_host}

_JITTER = 0.2
_ENOUGH_CPUS = 4


def open_meters(measurement: MeasurementConfig) -> tuple[list[Meter], list[str]]:
    """Open every meter, built in or from the entry-point group `slm_energy.meters`.

    An entry point names a `MeterFactory`. CodeCarbon's estimate is opened only if no source that
    belongs to the sum was found.

    Returns:
        The meters, and notes on what could not be opened.

    Raises:
        MeterError: `measurement.mode=strict` and nothing can be measured; two meters claim one id.
    """
    others = {point.name: point for point in entry_points(group="slm_energy.meters")}
    factories = BUILT_IN | {name: others[name].load() for name in sorted(others)}
    meters, notes = list[Meter](), list[str]()
    for factory in factories.values():
        opened = factory(measurement)
        notes += opened.notes
        meters += [opened.meter] if opened.meter else []
    if not any(source.summed for meter in meters for source in meter.sources):
        if measurement.mode == "strict":
            why = "; ".join(notes)
            raise MeterError(f"measurement.mode=strict, and no energy can be measured here: {why}")
        estimate = open_codecarbon(measurement)
        notes += estimate.notes
        meters += [estimate.meter] if estimate.meter else []
    ids = [source.id for meter in meters for source in meter.sources]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise MeterError(f"two meters claim the source {twice[0]}: uninstall one of them")
    return meters, notes


class Recording:
    """One trial's samples on their way to a file."""

    def __init__(
        self,
        meters: Sequence[Meter],
        notes: Sequence[str],
        *,
        period_s: float,
        pid: int,
        path: Path,
    ) -> None:
        self._channels = [(meter, i) for meter in meters for i in range(len(meter.sources))]
        self._sources = [source for meter in meters for source in meter.sources]
        self._due_ns = [0] * len(self._sources)
        self._period_s = period_s
        self._file = path.open("wb")
        self._random = random.Random()
        for meter in meters:
            meter.watch(pid)
        clock = ClockAnchor(monotonic_ns=time.monotonic_ns(), unix_ns=time.time_ns())
        head = {"period_s": period_s, "sources": self._sources, "notes": notes, "clock": clock}
        self._write(to_plain(head))
        self._began_cpu_s, self._began_ns = time.process_time(), time.monotonic_ns()
        self._next_ns = self._began_ns
        self.tick()

    def wait_s(self) -> float:
        """Seconds until the next tick."""
        return max(0.0, (self._next_ns - time.monotonic_ns()) / 1e9)

    def tick(self, *, everything: bool = False) -> None:
        """Read what is due and write it down."""
        now = time.monotonic_ns()
        factor = 1 + self._random.uniform(-_JITTER, _JITTER)
        self._next_ns = now + round(self._period_s * factor * 1e9)
        rows = []
        for index, source in enumerate(self._sources):
            if everything or now >= self._due_ns[index]:
                self._due_ns[index] = now + _pause_ns(source)
                rows.append(self._row(index))
        self._write(rows)

    def finish(self) -> None:
        """Take a last reading that is sure to know all that was counted before now."""
        stale = [s.update_period_ns or 0 for s in self._sources if s.kind == "counter"]
        time.sleep(max(stale, default=0) / 1e9)
        self.tick(everything=True)
        cpu_s = time.process_time() - self._began_cpu_s
        self._write({"cpu_s": cpu_s, "wall_s": (time.monotonic_ns() - self._began_ns) / 1e9})
        self._file.close()

    def abandon(self) -> None:
        """Stop without a last line: nobody asked for the end."""
        self._file.close()

    def _row(self, index: int) -> list[Json]:
        meter, place = self._channels[index]
        before = time.monotonic_ns()
        try:
            raw = meter.read(place)
        except ReadFailed as failure:
            return [index, before, None, time.monotonic_ns(), str(failure)]
        return [index, before, raw, time.monotonic_ns()]

    def _write(self, line: Json) -> None:
        self._file.write(json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def _pause_ns(source: Source) -> int:
    """Gauges and estimates are read as often as they change; counters and power at every tick."""
    return (source.update_period_ns or 0) if source.kind in ("gauge", "estimate") else 0


def serve(requests: int, replies: int, measurement: MeasurementConfig) -> None:
    """Answer requests until their pipe is closed.

    Args:
        requests: file descriptor to read JSON lines from.
        replies: file descriptor that the answers go to.
        measurement: what to meter.
    """
    try:
        meters, notes = open_meters(measurement)
    except MeterError as error:
        _send(replies, {"error": str(error)})
        return
    sources = [to_plain(source) for meter in meters for source in meter.sources]
    _send(replies, {"sources": sources, "notes": list(notes)})
    recording: Recording | None = None
    received = b""
    while True:
        ready, _, _ = select.select([requests], [], [], recording.wait_s() if recording else None)
        if not ready and recording:
            recording.tick()
            continue
        chunk = os.read(requests, 65536)
        if not chunk:
            break
        *lines, received = (received + chunk).split(b"\n")
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            if recording and "end" in request:
                recording.finish()
                recording = None
            elif "begin" in request:
                if recording:
                    recording.abandon()
                recording = Recording(
                    meters,
                    notes,
                    period_s=measurement.period_s,
                    pid=request["begin"],
                    path=Path(request["file"]),
                )
            _send(replies, {"done": True})
    if recording:
        recording.abandon()
    for meter in meters:
        meter.close()


def _send(replies: int, reply: dict[str, Json]) -> None:
    os.write(replies, json.dumps(reply).encode() + b"\n")


def _keep_away() -> None:
    """Leave the workload's processors alone where there are some to spare."""
    if sys.platform == "linux":
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) >= _ENOUGH_CPUS:
            os.sched_setaffinity(0, cpus[-1:])


def main() -> None:
    """Run as a process of its own."""
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_away()
    # Libraries may print: only replies go to the parent.
    replies = os.dup(1)
    os.dup2(2, 1)
    serve(0, replies, from_plain(MeasurementConfig, json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
