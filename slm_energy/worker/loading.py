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
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

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


@dataclasses.dataclass(slots=True)
class Loaded:
    """One request and what became of it.

    Attributes:
        position: its prompt's, in the workload.
        due_ns: when it was to be sent: its scheduled arrival, or when its client was free.
        sent_ns: when it was handed to the engine.
        token_ns: when each of its tokens came.
        output_ids: their ids.
        ended: how it ended; None while it is in progress.
        why: the reason of a refusal or failure.
    """

    position: int
    due_ns: int
    sent_ns: int
    token_ns: tuple[int, ...] = ()
    output_ids: tuple[int, ...] = ()
    ended: Ended | None = None
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
        self._reported_ns = 0
        self.requests: list[Loaded] = []

    async def run(self, window: OpenWindow, serve_s: float) -> LoadReport:
        """Bring the load up, open the window, and wait for what was due in it.

        Args:
            window: opens a window of the timeline.
            serve_s: length of the window that counts.

        Raises:
            EngineError: the loop itself failed, or no request of a trace is due in the window.
        """
        source = asyncio.create_task(self._open() if self._load.mode == "open" else self._closed())
        try:
            with window("ramp"):
                steady = await self._ramp(source)
            cpu_s, start_ns = time.process_time(), time.monotonic_ns()
            with window("serve"):
                await self._wait(serve_s, "serve", source)
            end_ns, cpu_s = time.monotonic_ns(), time.process_time() - cpu_s
            await self._drain(start_ns, end_ns)
        finally:
            source.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(source, *self._tasks, return_exceptions=True)
            if isinstance(self._engine, Concurrent):
                await self._engine.end()
        self.requests.sort(key=lambda each: each.due_ns)
        reasons = Counter(each.why for each in self.requests if each.why)
        return LoadReport(
            steady=steady,
            client_cpu_s=cpu_s,
            reasons=tuple(f"{count} x {why}" for why, count in reasons.most_common(5)),
        )

    async def _open(self) -> None:
        """Send each request when it is due, whatever has become of the others."""
        start_ns = time.monotonic_ns() + round(_LEAD_S * 1e9)
        for arrival in arrivals(self._load, self._round):
            due_ns = start_ns + round(arrival.at_s * 1e9)
            while (left_s := (due_ns - time.monotonic_ns()) / 1e9) > 0:
                await asyncio.sleep(left_s)
            position = self._position(arrival)
            batch = self._batches[position]
            if arrival.output_tokens is not None:
                batch = dataclasses.replace(batch, new_tokens=arrival.output_tokens)
            task = asyncio.create_task(self._one(position, batch, due_ns, arrival.abort_after_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _position(self, arrival: Arrival) -> int:
        """The next prompt, or the one whose length is closest to the requested."""
        wanted = arrival.input_tokens
        if wanted is None:
            return next(self._next)
        return min(self._by_length, key=lambda n: abs(len(self._batches[n].prompts[0]) - wanted))

    async def _closed(self) -> None:
        """Clients that each wait for an answer, think, and send the next request."""

        async def client() -> None:
            while True:
                position = next(self._next)
                now_ns = time.monotonic_ns()
                await self._one(position, self._batches[position], now_ns, self._load.abort_after_s)
                await asyncio.sleep(self._load.think_s)

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
            request.ended = "complete"
        except Aborted as partial:
            request.output_ids = partial.completion.output_ids
            request.token_ns = partial.completion.token_ns
            request.ended = "aborted"
        except Refused as error:
            request.ended, request.why = "refused", one_line(error)
        except EngineError as error:
            request.ended, request.why = "failed", one_line(error)

    def write(self, file: Path) -> list[LoadedRequest]:
        """Write the answers to all requests that have ended, in order; return which they are.

        Raises:
            OSError: the disk is full.
        """
        ended = []
        with file.open("wb", buffering=served.BUFFER_BYTES) as output:
            for each in self.requests:
                if each.ended is not None:  # the end of the load has cancelled the others
                    done = Completion(output_ids=each.output_ids, token_ns=each.token_ns)
                    served.append(output, each.sent_ns, [done])
                    ended.append(
                        LoadedRequest(position=each.position, due_ns=each.due_ns, ended=each.ended)
                    )
        return ended

    async def _ramp(self, source: asyncio.Task[None]) -> bool:
        """Wait until the throughput is steady; whether it became so within the cap."""
        begun_ns = time.monotonic_ns()
        while (time.monotonic_ns() - begun_ns) / 1e9 < self._load.ramp_s:
            if steady(self._tokens_per_bin(begun_ns)):
                return True
            spent_s = (time.monotonic_ns() - begun_ns) / 1e9
            self._report("ramp", spent_s / self._load.ramp_s)
            await self._tick(source)
        return steady(self._tokens_per_bin(begun_ns))

    def _tokens_per_bin(self, since_ns: int) -> list[int]:
        """Requests that ended in each whole second since a moment."""
        width_ns = round(_BIN_S * 1e9)
        bins = [0] * ((time.monotonic_ns() - since_ns) // width_ns)
        for request in self.requests:
            if request.ended == "complete" and request.token_ns:
                number = (request.token_ns[-1] - since_ns) // width_ns
                if 0 <= number < len(bins):
                    bins[number] += 1
        return bins

    async def _wait(self, seconds: float, phase: str, source: asyncio.Task[None]) -> None:
        begun_ns = time.monotonic_ns()
        while (spent_s := (time.monotonic_ns() - begun_ns) / 1e9) < seconds:
            self._report(phase, spent_s / seconds)
            await asyncio.sleep(min(_TICK_S, seconds - spent_s))
            _raise_error_of(source)

    async def _tick(self, source: asyncio.Task[None]) -> None:
        await asyncio.sleep(_TICK_S)
        _raise_error_of(source)

    async def _drain(self, start_ns: int, end_ns: int) -> None:
        """Wait for what was due in the window; each request has a limit of its own."""
        while True:
            due = [r for r in self.requests if start_ns <= r.due_ns < end_ns]
            if all(request.ended is not None for request in due):
                return
            self._report("drain", sum(r.ended is not None for r in due) / len(due))
            await asyncio.sleep(_TICK_S)

    def _report(self, phase: str, share: float) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._reported_ns > 1_000_000_000:
            self._reported_ns = now_ns
            self._progress(phase, min(1.0, share))


def _raise_error_of(source: asyncio.Task[None]) -> None:
    """An error of the loop itself ends the trial at once; the end of a trace does not."""
    if source.done() and not source.cancelled() and (error := source.exception()) is not None:
        raise error


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
