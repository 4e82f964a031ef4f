"""A small server for OpenAI's completions protocol, with optional faults.

    engine=openai_server 'engine.options.command="{python} -m slm_energy.testing.completions
        --port {port} --model {model} --fault cut"'

It computes nothing: the output is a fixed text, from a position that depends on the prompt. It
accepts and returns token ids, as vLLM does, also those of a stop text; with `--text` it handles
text only, withholds the stop text and reports no usage in its streams, as llama-cpp-python's server
does.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
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
}

_TEXT = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
_MIDDLE = 3
"""Number of tokens before a fault in a stream."""
_WAIT_S = 0.02


class CompletionsServer(http.server.ThreadingHTTPServer):
    """The server; `serve_forever` runs it.

    Args:
        port: on the loopback interface; 0 selects a free one, see `server_port`.
        model: a folder in the Hugging Face layout, for its tokenizer.
        fault: one of `FAULTS`.
        text: it handles text only, no token ids.

    Attributes:
        requests_seen: bodies of the completion requests received.
        gate: if set, streams start together, once as many were requested as it has parties.
    """

    daemon_threads = True

    def __init__(self, port: int, model: Path, fault: str = "none", text: bool = False) -> None:
        self.tokenizer = load_tokenizer(model)
        self.eos_id = next(iter(eos_ids(model)), 0)
        self.fault, self.text = fault, text
        self.requests_seen: list[dict[str, Any]] = []
        self.gate: threading.Barrier | None = None
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: CompletionsServer

    def do_GET(self) -> None:
        names = ["scripted", "other"] if self.server.fault == "unlisted" else ["scripted"]
        entries = [{"id": name, "owned_by": "slm_energy"} for name in names]
        if self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": entries})
        elif self.path == "/version":
            self._answer(200, {"version": "1.2.3"})
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests_seen.append(request)
        prompt = request["prompt"]
        if self.server.fault == "refuse":
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
        ids, finish = self._output(prompt, completion["max_tokens"], stop)
        usage = self._usage(len(prompt), len(ids))
        if not completion.get("stream"):
            self._answer(200, {"choices": [], "usage": usage})
            return
        if self.server.gate is not None:
            self.server.gate.wait(timeout=30)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._send_event(": a comment")
        step = _MIDDLE if self.server.fault == "burst" else 1
        decode = self.server.tokenizer.decode
        visible = decode(ids)
        if self.server.text and finish == "stop":
            visible = cut(visible, stop) or ""
        for start in range(0, len(ids), step):
            if start == _MIDDLE:
                self._misbehave()
            if self.server.fault == "idle":
                time.sleep(_WAIT_S)
            before, after = len(decode(ids[:start])), len(decode(ids[: start + step]))
            self._send_data(self._event(ids[start : start + step], visible[before:after], None))
        self._send_data(self._event([], "", None if self.server.fault == "unfinished" else finish))
        if not self.server.text:
            self._send_data({"choices": [], "usage": usage})
        self._send_event("data: [DONE]")

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

    def _misbehave(self) -> None:
        fault = self.server.fault
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "cut":
            raise ConnectionAbortedError
        elif fault == "stall":
            time.sleep(3600)
        elif fault == "malformed":
            self._send_event("data: {not JSON")
        elif fault == "error":
            self._send_event('data: {"error": {"message": "out of KV cache"}}')

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
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def _send_data(self, event: dict[str, Any]) -> None:
        self._send_event(f"data: {json.dumps(event)}")

    def _send_event(self, line: str) -> None:
        self.wfile.write(f"{line}\n\n".encode())


def main(arguments: Sequence[str]) -> int:
    """Serve until killed; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m slm_energy.testing.completions")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--text", action="store_true")
    args = parser.parse_args(arguments)
    if args.fault == "exit":
        print("there is no such device", file=sys.stderr)
        return 3
    if args.fault == "never_ready":
        print("loading weights", file=sys.stderr)
        time.sleep(3600)
    CompletionsServer(args.port, args.model, args.fault, args.text).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
