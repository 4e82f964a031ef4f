"""A small server for OpenAI's completions protocol, with optional faults.

    engine=openai_server 'engine.options.command="{python} -m slm_energy.testing.completions
        --port {port} --model {model} --fault cut"'

It computes nothing: the output is a fixed text, from a position that depends on the prompt. It
accepts and returns token ids, as vLLM does, also those of a stop text; with `--text` it handles
text only, withholds the stop text and reports no usage in its streams, as llama-cpp-python's server
does.

Its service times are known, for tests of load:

    --prefill-s 0.02 --token-s 0.005 --slots 1 --queue 8 --stall 5,2

The first token of a request comes `prefill_s` after its service began, each other one `token_s`
later. With `--slots 1` and a fixed number of tokens the server is D/1 of queueing theory. A request
whose client has gone is no longer served. `GET /stats` has what was really decoded and `GET
/metrics` the time in the queue, in vLLM's words, as is the time from the first token to the last
at the end of a stream.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import heapq
import http.server
import itertools
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_energy.engines.base import Batch
from slm_energy.engines.ends import Ends, cut
from slm_energy.models.folder import eos_ids
from slm_energy.models.token_texts import TokenTexts
from slm_energy.models.tokenizer import load_tokenizer

FAULTS = {
    "none": "works correctly",
    "never_ready": "never listens",
    "exit": "exits immediately, with exit code 3",
    "unlisted": "serves two models",
    "refuse": "answers every completion with status 404",
    "cut": "closes the connection in the middle of each stream",
    "kill": "is killed in the middle of each stream",
    "stall": "stops sending in the middle of each stream",
    "malformed": "sends an event that is not JSON in each stream",
    "error": "sends an error event in each stream",
    "unfinished": "sends no finish reason",
    "extra_token": "adds a token before each prompt",
    "cached": "caches prompts of earlier requests",
    "no_usage": "never reports token counts",
    "miscount": "reports one token too many",
    "short": "generates one token less than requested",
    "eos": "stops at an end-of-text token in the middle, even with ignore_eos",
    "few_stops": "accepts at most four stop texts",
    "no_stop": "ignores stop texts",
    "burst": "sends several tokens per event",
    "idle": "waits before each event, as if another program computed",
    "endless": "sends tokens without end",
    "long_line": "sends a line without end",
    "silent": "accepts connections and sends nothing",
}

_TEXT = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
_MIDDLE = 3
"""Number of tokens before a fault in a stream."""
_WAIT_S = 0.02
_LOOK_S = 0.1
"""A waiting request looks this often whether its client is still there."""

Events = tuple[tuple[int, bytes], ...]
"""Number of tokens and data of each event of a stream."""


class _Gone(Exception):
    """The client has closed its connection."""


class _Full(Exception):
    """Too many requests are waiting."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """How requests are served.

    Attributes:
        prefill_s: from the start of service to the first token.
        token_s: from one token to the next.
        slots: number of requests served at once, in order of arrival; None serves all.
        queue: number of requests that may wait for a slot: others get status 429; None is no limit.
    """

    prefill_s: float = 0.0
    token_s: float = 0.0
    slots: int | None = None
    queue: int | None = None


class _Clock:
    """Seconds since the server's start, without those of the stall."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._at_s, self._length_s = float("inf"), 0.0

    def stall(self, after_s: float, length_s: float) -> None:
        self._at_s, self._length_s = self.real_s() + after_s, length_s

    def real_s(self) -> float:
        return time.monotonic() - self._started_s

    def now_s(self) -> float:
        real_s = self.real_s()
        return real_s - min(self._length_s, max(0.0, real_s - self._at_s))

    def left_s(self, at_s: float) -> float:
        """Seconds until this clock shows `at_s`."""
        return at_s + (self._length_s if at_s > self._at_s else 0.0) - self.real_s()


class _Slots:
    """The requests in service, and the queue before them.

    A request begins when the one before it was to end, not when its thread has noticed: the delays
    of threads do not add up.
    """

    def __init__(self, service: Service) -> None:
        self._changed = threading.Condition()
        self._free_s = [0.0] * (service.slots or 0)
        self._unlimited, self._longest = service.slots is None, service.queue
        self._waiting: collections.deque[object] = collections.deque()

    def take(self, arrived_s: float, look: Callable[[], object]) -> float:
        """Wait for a slot; return the time at which service begins.

        Raises:
            _Full: the queue is as long as it may be.
            _Gone: from `look`.
        """
        if self._unlimited:
            return arrived_s
        ticket = object()
        with self._changed:
            must_wait = len(self._waiting) >= len(self._free_s)
            if must_wait and self._longest is not None and len(self._waiting) >= self._longest:
                raise _Full
            self._waiting.append(ticket)
            try:
                while not self._free_s or self._waiting[0] is not ticket:
                    self._changed.wait(_LOOK_S)
                    look()
                return max(arrived_s, heapq.heappop(self._free_s))
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def leave(self, at_s: float) -> None:
        """Give a slot back, which was free from `at_s` on."""
        if self._unlimited:
            return
        with self._changed:
            heapq.heappush(self._free_s, at_s)
            self._changed.notify_all()


class CompletionsServer(http.server.ThreadingHTTPServer):
    """The server; `serve_forever` runs it.

    Args:
        port: on the loopback interface; 0 selects a free one, see `server_port`.
        model: a folder in the Hugging Face layout, for its tokenizer.
        fault: one of `FAULTS`.
        text: it handles text only, no token ids.
        service: how long requests take, and how many are served at once.

    Attributes:
        requests_seen: bodies of the completion requests received.
        fault_after: number of streams that end before those that a fault cuts, stops or replaces.
        gate: if set, streams start together, once as many were requested as it has parties.
        stats: numbers of `streams` that began, of those that were `aborted` by their clients, of
            `tokens` decoded, and the seconds that the streams had waited (`queue_s`).
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self,
        port: int,
        model: Path,
        fault: str = "none",
        text: bool = False,
        service: Service | None = None,
    ) -> None:
        self.tokenizer = load_tokenizer(model)
        self.eos_id = next(iter(eos_ids(model)), 0)
        self.fault, self.text, self.service = fault, text, service or Service()
        self.clock, self.slots = _Clock(), _Slots(self.service)
        self._restart_s = (0.0, 0.0)
        self.requests_seen: list[dict[str, Any]] = []
        self.fault_after = 0
        self.gate: threading.Barrier | None = None
        self.stats = {"streams": 0, "aborted": 0, "tokens": 0, "queue_s": 0.0}
        self.scripts: dict[object, tuple[int, str, Events]] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def note(self, **more: float) -> None:
        """Add to `stats`."""
        with self._lock:
            for name, number in more.items():
                self.stats[name] += number

    def stall(self, after_s: float, length_s: float) -> None:
        """Stop everything once, so long after now and for so long."""
        self.clock.stall(after_s, length_s)

    def restart(self, after_s: float, length_s: float) -> None:
        """Cut all streams so long after now, and answer 503 for so long."""
        at_s = self.clock.real_s() + after_s
        self._restart_s = (at_s, at_s + length_s)

    def restarting(self) -> bool:
        """Whether it is the time of `restart`."""
        return self._restart_s[0] <= self.clock.real_s() < self._restart_s[1]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: CompletionsServer
    disable_nagle_algorithm = True  # it would hold an event back until the last one is acknowledged

    def do_GET(self) -> None:
        names = ["scripted", "other"] if self.server.fault == "unlisted" else ["scripted"]
        entries = [{"id": name, "owned_by": "slm_energy"} for name in names]
        if self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": entries})
        elif self.path == "/version":
            self._answer(200, {"version": "1.2.3"})
        elif self.path == "/stats":
            self._answer(200, self.server.stats)
        elif self.path == "/metrics" and not self.server.text:
            self._send(200, self._metrics().encode())
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests_seen.append(request)
        prompt = request["prompt"]
        if self.server.restarting():
            self._answer(503, {"error": {"message": "Loading model"}})
        elif self.server.fault == "refuse":
            self._answer(404, {"error": {"message": "The model `scripted` does not exist."}})
        elif self.server.text and not isinstance(prompt, str):
            self._answer(422, {"detail": [{"msg": "Input should be a valid string"}]})
        elif self.server.fault == "few_stops" and len(request.get("stop", ())) > 4:
            self._answer(400, {"error": {"message": "stop has more than 4 entries"}})
        else:
            ids = prompt if isinstance(prompt, list) else self.server.tokenizer.encode(prompt).ids
            self._complete(ids, request)

    def log_message(self, format: str, *values: Any) -> None:
        """Log nothing."""

    def _complete(self, prompt: Sequence[int], completion: dict[str, Any]) -> None:
        stop = tuple(completion.get("stop", ()))
        arrived_s = self.server.clock.now_s()
        count, finish, events = self._script(prompt, completion["max_tokens"], stop)
        usage = self._usage(len(prompt), count)
        if not completion.get("stream"):
            self._answer(200, {"choices": [], "usage": usage})
            return
        if self.server.gate is not None:
            self.server.gate.wait(timeout=30)
        try:
            start_s = self.server.slots.take(arrived_s, self._require_client)
        except _Full:
            self._answer(429, {"error": {"message": "too many requests are waiting"}})
            return
        except _Gone:
            self.server.note(aborted=1)
            return
        end_s = start_s
        self.server.note(streams=1, queue_s=start_s - arrived_s)
        try:
            if self._fault() == "silent":
                self._until(float("inf"))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self._send_event(": a comment")
            end_s += self.server.service.prefill_s
            first_ns = last_ns = 0
            for number, (tokens, event) in enumerate(events):
                if number == _MIDDLE:
                    self._misbehave(events)
                self._until(end_s)
                if self.server.fault == "idle":
                    time.sleep(_WAIT_S)
                last_ns = time.monotonic_ns()
                first_ns = first_ns or last_ns
                self.server.note(tokens=tokens)
                self._send_event(event)
                end_s += self.server.service.token_s * tokens
            end_s -= self.server.service.token_s if events else 0.0
            self._send_data(
                self._event([], "", None if self.server.fault == "unfinished" else finish)
            )
            if not self.server.text:
                timed = {"generation_time_ms": (last_ns - first_ns) / 1e6}
                self._send_data({"choices": [], "usage": usage, "metrics": timed})
            self._send_event("data: [DONE]")
        except (_Gone, BrokenPipeError, ConnectionResetError):
            end_s = self.server.clock.now_s()
            self.server.note(aborted=1)
        finally:
            self.server.slots.leave(end_s)

    def _script(
        self, prompt: Sequence[int], count: int, stop: tuple[str, ...]
    ) -> tuple[int, str, Events]:
        """The answer's number of tokens, why it ends, and its events; made once for each prompt."""
        key, scripts = (sum(prompt), count, stop, self.server.fault), self.server.scripts
        if key not in scripts:
            ids, finish = self._output(prompt, count, stop)
            scripts[key] = (len(ids), finish, self._events(ids, stop if finish == "stop" else ()))
        return scripts[key]

    def _events(self, ids: list[int], stop: tuple[str, ...]) -> Events:
        """Each event of the tokens, as its data."""
        step = _MIDDLE if self.server.fault == "burst" else 1
        decode = self.server.tokenizer.decode
        visible = decode(ids)
        if self.server.text and stop:
            visible = cut(visible, stop) or ""
        starts = range(0, len(ids), step)
        ends = [len(decode(ids[: start + step])) for start in starts]
        events = list[tuple[int, bytes]]()
        for start, before, after in zip(starts, (0, *ends), ends, strict=False):
            event = self._event(ids[start : start + step], visible[before:after], None)
            events.append((len(ids[start : start + step]), _data(event)))
        return tuple(events)

    def _until(self, at_s: float) -> None:
        """Wait until the server's clock shows `at_s`.

        Raises:
            _Gone: the client has closed its connection.
            ConnectionAbortedError: the server restarts.
        """
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        while True:
            if self.server.restarting():
                raise ConnectionAbortedError
            left_s = self.server.clock.left_s(at_s)
            whole_ms = int(1000 * min(left_s, _LOOK_S))  # of which the poll is accurate
            if poll.poll(max(0, whole_ms)):
                self._require_client()
                poll.unregister(self.connection)  # it sent more than one request: not served
            if left_s <= _LOOK_S:
                time.sleep(max(0.0, self.server.clock.left_s(at_s)))
                return

    def _require_client(self) -> None:
        """Look whether the client has closed its connection.

        Raises:
            _Gone: it has.
        """
        try:
            if not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                raise _Gone
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise _Gone from error

    def _metrics(self) -> str:
        """vLLM's, in Prometheus' text format."""
        stats, name = self.server.stats, "vllm:request_queue_time_seconds"
        label = '{engine="0",model_name="scripted"}'
        return (
            f"# HELP {name} Histogram of time spent in WAITING phase for request.\n"
            f"# TYPE {name} histogram\n"
            f"{name}_sum{label} {stats['queue_s']}\n"
            f"{name}_count{label} {stats['streams']:.1f}\n"
        )

    def _output(
        self, prompt: Sequence[int], count: int, stop: tuple[str, ...]
    ) -> tuple[list[int], str]:
        fault = self.server.fault
        count -= fault == "short"
        source = self.server.tokenizer.encode(_TEXT).ids
        ids = [source[(sum(prompt) + n) % len(source)] for n in range(count)]
        if fault == "eos" and count > _MIDDLE:
            return [*ids[:_MIDDLE], self.server.eos_id], "stop"
        texts = TokenTexts(self.server.tokenizer)
        one = Batch(
            prompts=(tuple(prompt),), new_tokens=count, stop="code",
            stop_texts=(() if fault == "no_stop" else stop,), token_texts=texts,
        )  # fmt: skip
        ends = Ends(one, ())
        stopped = any(ends.after([number]) for number in ids)
        return ids[: ends.lengths[0]], "stop" if stopped else "length"

    def _event(self, ids: list[int], text: str, finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": finish, "text": text}
        return {"choices": [choice if self.server.text else {**choice, "token_ids": ids}]}

    def _misbehave(self, events: Events) -> None:
        fault = self._fault()
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "cut":
            raise ConnectionAbortedError
        elif fault == "stall":
            self._until(float("inf"))
        elif fault == "endless":
            for count, event in itertools.cycle(events):
                self.server.note(tokens=count)
                self._send_event(event)
        elif fault == "long_line":
            while True:
                self.wfile.write(b"x" * 2**16)
        elif fault == "malformed":
            self._send_event("data: {not JSON")
        elif fault == "error":
            self._send_event('data: {"error": {"message": "out of KV cache"}}')

    def _fault(self) -> str:
        """The fault of streams, once it is time for it."""
        early = self.server.stats["streams"] <= self.server.fault_after
        return "none" if early else self.server.fault

    def _usage(self, prompt: int, count: int) -> dict[str, Any] | None:
        fault = self.server.fault
        cached = 16 if fault == "cached" else 0
        usage = {
            "prompt_tokens": prompt + (fault == "extra_token"),
            "completion_tokens": count + (fault == "miscount"),
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return None if fault == "no_usage" else usage

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def _send_data(self, event: dict[str, Any]) -> None:
        self._send_event(_data(event))

    def _send_event(self, line: str | bytes) -> None:
        self.wfile.write((line.encode() if isinstance(line, str) else line) + b"\n\n")


def _data(event: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(event)}".encode()


def _two_times(text: str) -> tuple[float, float]:
    after_s, length_s = map(float, text.split(","))
    return after_s, length_s


def main(arguments: Sequence[str]) -> int:
    """Serve until killed; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m slm_energy.testing.completions")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--fault-after", type=int, default=0, help="streams without it before")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--prefill-s", type=float, default=0.0)
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--queue", type=int)
    parser.add_argument("--stall", type=_two_times, metavar="AFTER_S,LENGTH_S")
    parser.add_argument("--restart", type=_two_times, metavar="AFTER_S,LENGTH_S")
    args = parser.parse_args(arguments)
    if args.fault == "exit":
        print("there is no such device", file=sys.stderr)
        return 3
    if args.fault == "never_ready":
        print("loading weights", file=sys.stderr)
        time.sleep(3600)
    names = (field.name for field in dataclasses.fields(Service))
    service = Service(**{name: getattr(args, name) for name in names})
    server = CompletionsServer(args.port, args.model, args.fault, args.text, service)
    server.fault_after = args.fault_after
    if args.stall:
        server.stall(*args.stall)
    if args.restart:
        server.restart(*args.restart)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
