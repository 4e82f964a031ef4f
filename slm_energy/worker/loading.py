"""Requests that come while others are served: a closed loop of clients, or an open one of arrivals.

    ramp    until the throughput is steady, at most `load.ramp_s`
    serve   the window that counts; the load goes on
    drain   until all requests that were due in the window have ended; the load goes on

In an open loop a request is due when it was scheduled, whatever the client does. All runs in one
thread: the client proves by its lateness and its processor time that it was not the bottleneck.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from slm_energy.arrivals import Arrival, arrivals
from slm_energy.config.groups import LoadConfig
from slm_energy.engines.base import Aborted, Batch, Completion, Concurrent, Engine, Refused
from slm_energy.errors import EngineError, one_line
from slm_energy.record import Ended, LoadReport
from slm_energy.worker import served
from slm_energy.worker.served import LoadedRequest

OpenWindow = Callable[[str], AbstractContextManager[object]]

_LEAD_S = 0.2
_BIN_S = 1.0
_HALF = 5
_LEAST_TOLERANCE = 0.05
_SIGMAS = 2.0
_TICK_S = 0.05
_BEAT_S = 0.02
"""A timer this often shows how late events are read that come in between: 0.1 % of a processor."""


@dataclasses.dataclass(slots=True)
class Loaded:
    """One request and what became of it.

    Attributes:
        position: its prompt's, in the workload.
        due_ns: when it was to be sent: its scheduled arrival, or when its client had thought.
        sent_ns: when it was handed to the engine.
        token_ns: when each of its tokens came.
        output_ids: their ids.
        ended: how it ended; None while it is in progress.
        ended_ns: when it did: with its last token, or when the client knew.
        decode_ns: from the first to the last token as the server timed it.
        why: the reason of a refusal or failure.
    """

    position: int
    due_ns: int
    sent_ns: int
    token_ns: tuple[int, ...] = ()
    output_ids: tuple[int, ...] = ()
    ended: Ended | None = None
    ended_ns: int = 0
    decode_ns: int | None = None
    why: str = ""


class Loading:
    """The load of one trial.

    Args:
        load: its configuration.
        batches: the workload's requests, each a batch of one.
        engine: loaded; one that is not `Concurrent` serves a single client.
        round_number: of the trial: each round has other arrivals.
        progress: called about once a second with the phase and the share of it that is done.
    """

    def __init__(
        self,
        load: LoadConfig,
        batches: Sequence[Batch],
        engine: Engine,
        round_number: int,
        progress: Callable[[str, float], None],
    ) -> None:
        self._load, self._batches, self._engine = load, batches, engine
        self._round, self._progress = round_number, progress
        self._by_length = sorted(range(len(batches)), key=lambda n: len(batches[n].prompts[0]))
        self._next = itertools.cycle(range(len(batches)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._reported_ns = 0
        self._late_ns = array("q")
        self.requests: list[Loaded] = []

    async def run(self, window: OpenWindow, serve_s: float) -> LoadReport:
        """Bring the load up, open the window, and wait for what was due in it.

        Args:
            window: opens a window of the timeline.
            serve_s: length of the window that counts.

        Raises:
            EngineError: the engine has ended meanwhile.
        """
        engine = self._engine if isinstance(self._engine, Concurrent) else None
        if engine is not None:
            await engine.begin()
        self._start(self._open() if self._load.mode == "open" else self._closed())
        try:
            with window("ramp"):
                steady = await self._ramp()
            before = await engine.queued() if engine else None
            cpu_s = time.process_time()
            beat = asyncio.create_task(self._beat())
            with window("serve"):
                await self._wait(serve_s, "serve")
            beat.cancel()
            end_ns, cpu_s = time.monotonic_ns(), time.process_time() - cpu_s
            after = await engine.queued() if engine else None
            await self._drain(end_ns)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if engine is not None:
                await engine.end()
        self.requests.sort(key=lambda each: each.due_ns)
        reasons = Counter(each.why for each in self.requests if each.why)
        return LoadReport(
            steady=steady,
            client_cpu_s=None if engine is None else cpu_s,
            queue_mean_s=_mean_queue_s(before, after),
            reader_late_p99_s=self._reader_late_s() if engine else None,
            reasons=tuple(f"{count} x {why}" for why, count in reasons.most_common(5)),
        )

    async def _open(self) -> None:
        """Send each request when it is due, whatever has become of the others."""
        start_ns = time.monotonic_ns() + round(_LEAD_S * 1e9)
        for arrival in arrivals(self._load, self._round):
            due_ns = start_ns + round(arrival.at_s * 1e9)
            await _sleep_until(due_ns)
            position = self._position(arrival)
            batch = self._batches[position]
            if arrival.output_tokens is not None:
                batch = dataclasses.replace(batch, new_tokens=arrival.output_tokens)
            self._start(self._one(position, batch, due_ns, arrival.abort_after_s))

    async def _beat(self) -> None:
        """Note by how much a timer is late: so late are events read, and requests sent."""
        while True:
            due_ns = time.monotonic_ns() + round(_BEAT_S * 1e9)
            await _sleep_until(due_ns)
            self._late_ns.append(time.monotonic_ns() - due_ns)

    def _reader_late_s(self) -> float | None:
        return float(np.quantile(self._late_ns, 0.99)) / 1e9 if self._late_ns else None

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside the rest; an error of it ends the load."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()

    def _position(self, arrival: Arrival) -> int:
        """The next prompt, or the one whose length is closest to the requested."""
        wanted = arrival.input_tokens
        if wanted is None:
            return next(self._next)
        return min(self._by_length, key=lambda n: abs(len(self._batches[n].prompts[0]) - wanted))

    async def _closed(self) -> None:
        """Clients that each wait for an answer, think, and send the next request."""

        async def client() -> None:
            due_ns = time.monotonic_ns()
            while True:
                position = next(self._next)
                await self._one(position, self._batches[position], due_ns, self._load.abort_after_s)
                due_ns = time.monotonic_ns() + round(self._load.think_s * 1e9)
                await _sleep_until(due_ns)

        await asyncio.gather(*(client() for _ in range(self._load.clients)))

    async def _one(
        self, position: int, batch: Batch, due_ns: int, abort_after_s: float | None
    ) -> None:
        request = Loaded(position, due_ns, time.monotonic_ns())
        self.requests.append(request)
        try:
            if isinstance(self._engine, Concurrent):
                done = await self._engine.answer(batch, self._load.timeout_s, abort_after_s)
            else:
                [done] = self._engine.generate(batch)
            request.output_ids, request.token_ns = done.output_ids, done.token_ns
            request.decode_ns = done.decode_ns
            request.ended = "complete"
        except Aborted as partial:
            request.output_ids = partial.completion.output_ids
            request.token_ns = partial.completion.token_ns
            request.ended = "aborted"
        except Refused as error:
            request.ended, request.why = "refused", one_line(error)
        except EngineError as error:
            request.ended, request.why = "failed", one_line(error)
        now_ns = time.monotonic_ns()
        last_ns = request.token_ns[-1:] if request.ended == "complete" else ()
        request.ended_ns = last_ns[0] if last_ns else now_ns

    def write(self, file: Path) -> list[LoadedRequest]:
        """Write the answers to all requests that have ended, in order; return which they are.

        Raises:
            OSError: the disk is full.
        """
        ended = []
        with file.open("wb", buffering=served.BUFFER_BYTES) as output:
            for each in self.requests:
                if each.ended is not None:  # the end of the load has cancelled the others
                    done = Completion(
                        output_ids=each.output_ids,
                        token_ns=each.token_ns,
                        decode_ns=each.decode_ns,
                    )
                    served.append(output, each.sent_ns, [done])
                    ended.append(
                        LoadedRequest(
                            position=each.position,
                            due_ns=each.due_ns,
                            ended=each.ended,
                            ended_ns=each.ended_ns,
                        )
                    )
        return ended

    async def _ramp(self) -> bool:
        """Wait until the throughput is steady; whether it became so within the cap."""
        begun_ns = time.monotonic_ns()
        while not steady(self._ended_per_bin(begun_ns)):
            left_s = self._load.ramp_s - (time.monotonic_ns() - begun_ns) / 1e9
            if left_s <= 0:
                return False
            await self._wait(min(_BIN_S, left_s), "ramp")
        return True

    def _ended_per_bin(self, since_ns: int) -> list[int]:
        """Requests that ended in each whole second since a moment."""
        width_ns = round(_BIN_S * 1e9)
        bins = [0] * ((time.monotonic_ns() - since_ns) // width_ns)
        for request in self.requests:
            number = (request.ended_ns - since_ns) // width_ns
            if request.ended == "complete" and 0 <= number < len(bins):
                bins[number] += 1
        return bins

    async def _wait(self, seconds: float, phase: str) -> None:
        begun_ns = time.monotonic_ns()
        while (spent_s := (time.monotonic_ns() - begun_ns) / 1e9) < seconds:
            await self._pause(phase, spent_s / seconds, seconds - spent_s)

    async def _drain(self, end_ns: int) -> None:
        """Wait for all that was due before the window's end; each has a time limit of its own."""
        while True:
            due = [request for request in self.requests if request.due_ns < end_ns]
            ended = sum(request.ended is not None for request in due)
            if ended == len(due):
                return
            await self._pause("drain", ended / len(due))

    async def _pause(self, phase: str, share: float, at_most_s: float = _TICK_S) -> None:
        """Report progress, let the load go on for a moment, and raise an error of it.

        Args:
            phase: what is in progress.
            share: of it that is done.
            at_most_s: length of the pause, if that is less than the usual one.
        """
        now_ns = time.monotonic_ns()
        if now_ns - self._reported_ns > 1_000_000_000:
            self._reported_ns = now_ns
            self._progress(phase, min(1.0, share))
        await asyncio.sleep(min(_TICK_S, at_most_s))
        if self._error is not None:
            raise self._error


async def _sleep_until(at_ns: int) -> None:
    """Sleep until a monotonic time; give way to other tasks even if it has passed."""
    while True:
        left_ns = at_ns - time.monotonic_ns()
        await asyncio.sleep(max(0, left_ns) / 1e9)
        if left_ns <= 0:
            return


def _mean_queue_s(
    before: tuple[float, int] | None, after: tuple[float, int] | None
) -> float | None:
    """Mean of what was added between two sums and numbers; None if either is unknown."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def steady(ended: Sequence[int]) -> bool:
    """Whether a load has settled: two halves of its last ten seconds end as many requests.

    They may differ by 5 %, or by two standard deviations of independent arrivals: of n requests
    sqrt(n) (Poisson).

    Args:
        ended: requests that ended, second by second.
    """
    before, now = sum(ended[-2 * _HALF : -_HALF]), sum(ended[-_HALF:])
    if len(ended) < 2 * _HALF or not now:
        return False
    noise = _SIGMAS * math.sqrt(before + now)
    return abs(now - before) <= max(_LEAST_TOLERANCE * before, noise)
