"""Meters whose readings take long (a network, a model) are read in threads of their own.

The thread lives as long as the process, so that a meter that hangs in one trial is not asked by two
threads in the next one.
"""

from __future__ import annotations

import queue
import threading
import time

from slm_energy.meters.base import Meter, ReadFailed
from slm_energy.record import Source
from slm_energy.serialization import Json

_PERIOD_NS = 1_000_000_000
_RENEWED = 1.2
_LONGEST_WAIT_S = 2.0
"""The last reading waits until the value has been renewed, so many periods, but no longer than
this."""


def read_row(index: int, meter: Meter, place: int) -> list[Json]:
    """Read once: [source, before_ns, raw, after_ns], or with null for raw and the error at the end.

    Args:
        index: the source's number in the file.
        meter: what is read.
        place: the source's number in the meter.
    """
    before_ns = time.monotonic_ns()
    try:
        raw = meter.read(place)
    except ReadFailed as failure:
        return [index, before_ns, None, time.monotonic_ns(), str(failure)]
    return [index, before_ns, raw, time.monotonic_ns()]


class SlowSession:
    """What a slow meter reads for one recording."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.rows: queue.SimpleQueue[list[Json]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.asked: tuple[int, int] = (0, time.monotonic_ns())
        """The source that is being read, and since when."""

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
        meter: reads one source after the other.
        sources: the meter's, as calibrated.
        first: number of the first of them in the file.
    """

    def __init__(self, meter: Meter, sources: tuple[Source, ...], first: int) -> None:
        self._meter = meter
        self._pauses_ns = [source.update_period_ns or _PERIOD_NS for source in sources]
        self._first = first
        self._sessions: queue.SimpleQueue[SlowSession] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="slow meter", daemon=True).start()

    def begin(self, pid: int) -> SlowSession:
        """Read for a trial from now on; waits for nothing."""
        session = SlowSession(pid)
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
            index, since_ns = session.asked
            now_ns = time.monotonic_ns()
            hangs = f"the meter has not answered for {(now_ns - since_ns) / 1e9:.3g} s"
            rows.append([self._first + index, since_ns, None, now_ns, hangs])
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
        due_ns = [0] * len(self._pauses_ns)
        while not session.stopping.is_set():
            for index, pause_ns in enumerate(self._pauses_ns):
                now_ns = time.monotonic_ns()
                if now_ns >= due_ns[index]:
                    due_ns[index] = now_ns + pause_ns
                    self._read(session, index)
            session.stopping.wait(max(0, min(due_ns) - time.monotonic_ns()) / 1e9)
        time.sleep(min(_LONGEST_WAIT_S, _RENEWED * max(self._pauses_ns) / 1e9))
        for index in range(len(self._pauses_ns)):
            self._read(session, index)

    def _read(self, session: SlowSession, index: int) -> None:
        session.asked = (index, time.monotonic_ns())
        session.rows.put(read_row(self._first + index, self._meter, index))
