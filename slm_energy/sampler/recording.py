"""One trial's samples on their way to a file: what is read when, and what a mark adds.

Nothing here waits, except for the last readings of slow meters: the loop in `service.py` sleeps for
`wait_s` and then calls `tick`.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slm_energy.clocks import read_clocks
from slm_energy.derive.energy.latency import longest_latency_ns
from slm_energy.exchange import Edge
from slm_energy.meters.base import Adopts
from slm_energy.sampler.channels import NumberedChannel
from slm_energy.sampler.open_meters import Instruments
from slm_energy.sampler.schedule import POLL_NS, pause_ns, tracker_for
from slm_energy.sampler.slow_meters import SlowMeter
from slm_energy.serialization import Json, to_plain

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_JITTER = 0.2
_TOGETHER = {"counter": 0.4, "power": 0.1, "gauge": 0.1, "estimate": 0.1}
_TICKS_TOGETHER_NS = 500_000
"""Sources that are due within this share of their pause, or this time where a tick is looked for,
are read now, as waking up costs most. For a counter the time of reading matters less."""

_ALIGN_NS = 5_000_000
"""A window waits for the tick of a counter this slow; others tick often enough."""

_TICKS = 2
"""From this many ticks follows how much was counted up to an edge, and at what power after it.

They are counted from the moment at which the sensor surely shows the edge's energy."""

_SLOW_PATIENCE_NS = 4_000_000_000


class Recording:
    """One trial's samples.

    Args:
        instruments: what is read.
        slow: the threads of the slow meters among them.
        period_s: `measurement.period_s`.
        pid: the trial's worker.
        path: the file; see `client.py` for its format.
    """

    def __init__(
        self,
        instruments: Instruments,
        slow: Sequence[SlowMeter],
        *,
        period_s: float | None,
        pid: int,
        path: Path,
    ) -> None:
        self._channels = [
            _Scheduled(channel, period_s)
            for channel in instruments.channels
            if not channel.meter.slow
        ]
        self._energy = [c for c in self._channels if c.source.kind != "gauge"]
        counters = [c for c in self._channels if c.source.kind == "counter"]
        self._aligned = [c for c in counters if c.source.summed and c.tick_ns >= _ALIGN_NS]
        self._followed = [*self._aligned, *(c for c in counters if c.tick_ns < _ALIGN_NS)]
        self._edges: list[_Edge] = []
        self._random = random.Random()
        self._largest_pause_ns = 0
        self._file = path.open("wb")
        pauses = [c.pause_ns for c in self._energy or self._channels]
        self._write(
            {
                "period_s": min(pauses, default=0) / 1e9,
                "sources": to_plain(instruments.sources),
                "notes": to_plain(instruments.notes),
                "clock": to_plain(read_clocks()),
                "cpus": to_plain(processors()),
            }
        )
        self._began_cpu_s, self._began_ns = time.process_time(), time.monotonic_ns()
        self._quick = [meter for meter in instruments.meters if not meter.slow]
        for meter in self._quick:
            meter.watch(pid)
        self._slow = [(meter, meter.begin(pid)) for meter in slow]
        self._latest_ns = max((longest_latency_ns(c.source) for c in self._energy), default=0)
        self._read(self._channels)

    def adopt(self, pid: int) -> None:
        """Count a running server and its descendants as the trial's from now on."""
        for meter in self._quick:
            if isinstance(meter, Adopts):
                meter.adopt(pid)

    def wait_s(self) -> float:
        """Seconds until the next reading is due."""
        return max(0, self._due_ns() - time.monotonic_ns()) / 1e9

    def tick(self) -> None:
        """Read what is due and write it; answer the marks whose counters have ticked."""
        now_ns, due_ns = time.monotonic_ns(), self._due_ns()
        if now_ns < due_ns:
            return
        self._read([c for c in self._channels if c.due_ns - c.early_ns <= now_ns])
        self._largest_pause_ns = max(self._largest_pause_ns, time.monotonic_ns() - due_ns)
        self._settle()

    def mark(self, edge: Edge, answer: Callable[[], None]) -> None:
        """A window begins or ends: see `exchange.py` for what is done at each.

        Args:
            edge: which of the two.
            answer: called when the worker may continue.
        """
        self._read(self._energy)
        if edge == "end":
            self._edges.append(_Edge(self._follow(self._followed), answer))
        else:
            self._edges.append(_Edge(self._until_tick(), lambda: self._start(answer)))
        self._settle()

    def finish(self, answer: Callable[[], None]) -> None:
        """Read everything, follow the counters until all energy so far is counted, and close."""
        for _, session in self._slow:
            session.stopping.set()
        self._read(self._channels)
        waits_for = self._follow(self._followed)
        until_ns = time.monotonic_ns() + self._latest_ns
        self._edges.append(_Edge(waits_for, lambda: self._close(answer), until_ns))
        self._settle()

    @property
    def closed(self) -> bool:
        """The file is complete, or was abandoned."""
        return self._file.closed

    def abandon(self) -> None:
        """Stop without a last line, as no end was requested."""
        for _, session in self._slow:
            session.stopping.set()
        self._file.close()

    def _until_tick(self) -> list[_Scheduled]:
        """Follow the counters that tick slowly; return the one to wait for, the slowest."""
        slow = self._follow(self._aligned, next_tick=True)
        return sorted(slow, key=lambda c: c.tick_ns)[-1:]

    def _start(self, answer: Callable[[], None]) -> None:
        self._read(self._energy)
        answer()
        self._follow(self._followed)

    def _follow(
        self, channels: Sequence[_Scheduled], *, next_tick: bool = False
    ) -> list[_Scheduled]:
        """Look for each tick: the next one, or those that show the energy of this moment."""
        now_ns = time.monotonic_ns()
        for channel in channels:
            channel.follow(1 if next_tick else channel.ticks, now_ns)
        return list(channels)

    def _settle(self) -> None:
        """Release edges whose counters have ticked."""
        now_ns = time.monotonic_ns()
        ready = [edge for edge in self._edges if edge.ready(now_ns)]
        self._edges = [edge for edge in self._edges if edge not in ready]
        for edge in ready:
            edge.release()

    def _close(self, answer: Callable[[], None]) -> None:
        # A worker that still waits for a mark has ended, or its parent will end it.
        for edge in self._edges:
            edge.release()
        if self._latest_ns:
            self._read(self._energy)
        now_ns = time.monotonic_ns()
        for slow, mine in self._slow:
            until_ns = now_ns + _SLOW_PATIENCE_NS + slow.latest_ns + round(1e9 * slow.step_s)
            self._write(slow.last_rows(mine, until_ns))
        self._write(
            {
                "cpu_s": time.process_time() - self._began_cpu_s,
                "wall_s": (time.monotonic_ns() - self._began_ns) / 1e9,
                "largest_pause_s": self._largest_pause_ns / 1e9,
            }
        )
        self._file.close()
        answer()

    def _due_ns(self) -> int:
        return min((c.due_ns for c in self._channels), default=time.monotonic_ns() + 10**9)

    def _read(self, channels: Sequence[_Scheduled]) -> None:
        factor = 1 + self._random.uniform(-_JITTER, _JITTER)
        rows = [channel.read(factor) for channel in channels]
        for _, session in self._slow:
            rows += session.collect()
        if rows:
            self._write(rows)

    def _write(self, line: Json) -> None:
        self._file.write(_ENCODER.encode(line).encode() + b"\n")
        self._file.flush()


class _Edge:
    """A mark, or the end, that waits until these channels are no longer followed, and a moment."""

    def __init__(
        self, waits_for: Sequence[_Scheduled], release: Callable[[], None], until_ns: int = 0
    ) -> None:
        self._waits_for, self.release, self._until_ns = waits_for, release, until_ns

    def ready(self, now_ns: int) -> bool:
        """It waits no longer."""
        return now_ns >= self._until_ns and not any(c.followed for c in self._waits_for)


class _Scheduled:
    """One channel and its next reading."""

    def __init__(self, channel: NumberedChannel, period_s: float | None) -> None:
        self.source = source = channel.source
        self.tick_ns = source.update_period_ns or 0
        self.pause_ns = pause_ns(source, period_s)
        self.ticks = _TICKS + math.ceil(longest_latency_ns(source) / max(self.tick_ns, POLL_NS))
        self.due_ns = 0
        self.early_ns = 0
        """How early it may be read, to be read together with others."""
        self._row = channel.row
        self._tracker = tracker_for(source, period_s)
        self._last: Json = None
        self._ticks_left = 0
        self._until_ns = 0

    @property
    def followed(self) -> bool:
        """Its ticks are being waited for."""
        return self._ticks_left > 0

    def follow(self, ticks: int, now_ns: int) -> None:
        """Read closely until it has ticked so often, or is late by two periods."""
        self._ticks_left = ticks
        self._until_ns = now_ns + (ticks + 2) * max(self.tick_ns, POLL_NS)
        if self._tracker is not None:
            self._tracker.follow(now_ns)
        self._schedule(now_ns, 1.0)

    def read(self, factor: float) -> list[Json]:
        """Read now; `factor` jitters the pause to the next reading."""
        row = self._row()
        _, before_ns, raw, after_ns, *_ = row
        assert isinstance(before_ns, int)
        assert isinstance(after_ns, int)
        if isinstance(raw, int | float):
            if self._tracker is not None:
                self._tracker.saw(before_ns, raw, after_ns)
            if self.followed and raw != self._last:
                self._ticks_left -= 1
            self._last = raw
        if after_ns > self._until_ns:
            self._ticks_left = 0
        if self._tracker is not None and not self.followed:
            self._tracker.relax()
        self._schedule(after_ns, factor)
        return row

    def _schedule(self, now_ns: int, factor: float) -> None:
        self.early_ns = _TICKS_TOGETHER_NS
        if self._tracker is not None:
            self.due_ns = self._tracker.next_ns(now_ns)
        elif self.followed:
            self.due_ns = now_ns + POLL_NS
        else:
            self.due_ns = now_ns + round(factor * self.pause_ns)
            self.early_ns = round(_TOGETHER[self.source.kind] * self.pause_ns)


def processors() -> tuple[int, ...]:
    """The processors that this process may use; empty where the system does not report them."""
    return tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else ()
