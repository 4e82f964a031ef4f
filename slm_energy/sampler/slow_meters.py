"""Meters whose readings take long (a network, a model) are read in threads of their own.

The thread lives as long as the process, so that a meter that hangs in one trial is not read by two
threads in the next one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from slm_energy.derive.energy.coarse import next_step_s
from slm_energy.derive.energy.latency import longest_latency_ns
from slm_energy.meters.base import Meter
from slm_energy.sampler.channels import NumberedChannel
from slm_energy.serialization import Json

_PERIOD_NS = 1_000_000_000
_RENEWED = 1.2
_LONGEST_WAIT_S = 2.0
"""The last reading waits this many periods, so that the value has been updated, but no longer than
this many seconds; and the time by which the meter may be late."""


class SlowSession:
    """What a slow meter reads for one recording.

    Args:
        pid: the trial's worker.
        first: number of the meter's first channel.
    """

    def __init__(self, pid: int, first: int) -> None:
        self.pid = pid
        self.rows: queue.SimpleQueue[list[Json]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.reading: tuple[int, int] = (first, time.monotonic_ns())
        """Number of the channel that is being read, and since when."""

    def collect(self) -> list[list[Json]]:
        """The rows that came since the last call.

        Raises:
            BaseException: what the meter raised, other than `ReadFailed`.
        """
        if self.error is not None:
            raise self.error
        return [self.rows.get() for _ in range(self.rows.qsize())]


class SlowMeter:
    """A slow meter and its thread.

    Args:
        meter: is read one channel at a time.
        channels: all of the meter's.

    Attributes:
        step_s: how long it is read after a recording until a coarse counter shows another step.
        latest_ns: how late its values may be.
    """

    def __init__(self, meter: Meter, channels: Sequence[NumberedChannel]) -> None:
        self._meter = meter
        self._channels = tuple(channels)
        self._pauses_ns = [c.source.update_period_ns or _PERIOD_NS for c in channels]
        self.step_s = max(next_step_s(c.source) for c in channels)
        self.latest_ns = max(longest_latency_ns(c.source) for c in channels)
        self._sessions: queue.SimpleQueue[SlowSession] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="slow meter", daemon=True).start()

    def begin(self, pid: int) -> SlowSession:
        """Read for a trial from now on; waits for nothing."""
        session = SlowSession(pid, self._channels[0].number)
        self._sessions.put(session)
        return session

    def last_rows(self, session: SlowSession, until_ns: int) -> list[list[Json]]:
        """The rest of a stopping session's rows, and a failed one if the meter hangs.

        Args:
            session: what `begin` gave.
            until_ns: how long to wait for the meter.
        """
        in_time = session.done.wait(max(0, until_ns - time.monotonic_ns()) / 1e9)
        rows = session.collect()
        if not in_time:
            number, since_ns = session.reading
            now_ns = time.monotonic_ns()
            hangs = f"the meter has not answered for {(now_ns - since_ns) / 1e9:.3g} s"
            rows.append([number, since_ns, None, now_ns, hangs])
        return rows

    def _run(self) -> None:
        while True:
            session = self._sessions.get()
            try:
                self._serve(session)
            except BaseException as error:
                # The main thread raises it: a meter with a fault of its own ends the process.
                session.error = error
                return
            finally:
                session.done.set()

    def _serve(self, session: SlowSession) -> None:
        self._meter.watch(session.pid)
        due_ns = [0] * len(self._channels)
        while not session.stopping.is_set():
            wait_s = self._read_due(session, due_ns)
            session.stopping.wait(wait_s)
        renewed_s = min(_LONGEST_WAIT_S, _RENEWED * max(self._pauses_ns) / 1e9)
        until = time.monotonic() + renewed_s + self.latest_ns / 1e9
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, self._read_due(session, due_ns)))
        self._read_next_step(session)

    def _read_next_step(self, session: SlowSession) -> None:
        """Read until a coarse counter shows another step, or for as long as one takes."""
        until_ns = time.monotonic_ns() + round(1e9 * self.step_s)
        shown: list[set[Json]] = [set() for _ in self._channels]
        while True:
            for values, channel in zip(shown, self._channels, strict=True):
                raw = self._read(session, channel)
                values.update([] if raw is None else [raw])
            if time.monotonic_ns() >= until_ns or any(len(values) > 1 for values in shown):
                return
            time.sleep(min(self._pauses_ns) / 1e9)

    def _read_due(self, session: SlowSession, due_ns: list[int]) -> float:
        """Read the channels that are due; seconds until the next one is."""
        for place, channel in enumerate(self._channels):
            now_ns = time.monotonic_ns()
            if now_ns >= due_ns[place]:
                due_ns[place] = now_ns + self._pauses_ns[place]
                self._read(session, channel)
        return max(0, min(due_ns) - time.monotonic_ns()) / 1e9

    def _read(self, session: SlowSession, channel: NumberedChannel) -> Json:
        session.reading = (channel.number, time.monotonic_ns())
        row = channel.row()
        session.rows.put(row)
        return row[2]
