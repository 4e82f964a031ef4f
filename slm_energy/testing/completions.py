"""A small server that speaks OpenAI's completions protocol, and breaks it where it is asked to.

    engine=openai_server 'engine.options.command="{python} -m slm_energy.testing.completions
        --port {port} --model {model} --fault cut"'

It computes nothing: the output is a fixed text, begun at a place that depends on the prompt. It
takes and tells token ids as vLLM does; with `--text` it knows text only, and tells no usage in its
streams, as llama-cpp-python's server.
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

from slm_energy.models.folder import eos_ids
from slm_energy.models.tokenizer import load_tokenizer

FAULTS = {
    "none": "it does what it should",
    "never_ready": "it never listens",
    "exit": "it ends at once, with exit code 3",
    "unlisted": "it serves two models",
    "refuse": "it answers every completion with status 404",
    "cut": "it closes the connection in the middle of each stream",
    "kill": "it is killed in the middle of each stream",
    "stall": "it falls silent in the middle of each stream",
    "malformed": "an event of each stream is no JSON",
    "error": "an event of each stream tells of an error",
    "unfinished": "no stream tells why it ended",
    "extra_token": "it puts a token before each prompt",
    "cached": "it keeps prompts from earlier requests",
    "no_usage": "it never tells how many tokens there were",
    "miscount": "it counts a token too many",
    "short": "it gives one token less than was asked for",
    "eos": "it stops at an end-of-text token in the middle, ignore_eos or not",
    "burst": "its events bring several tokens each",
}

_TEXT = "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
_MIDDLE = 3
"""Faults in a stream come after so many tokens."""


class CompletionsServer(http.server.ThreadingHTTPServer):
    """The server; `serve_forever` runs it.

    Args:
        port: on the loopback interface; 0 takes a free one, which `server_port` tells.
        model: a folder in the Hugging Face layout, for its tokenizer.
        fault: one of `FAULTS`.
        text: it knows no token ids.

    Attributes:
        requests_seen: bodies of the completions that it was asked for.
        gate: if set, no stream begins before as many were asked for as it has parties.
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
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests_seen.append(asked)
        prompt = asked["prompt"]
        if self.server.fault == "refuse":
            self._answer(404, {"error": {"message": "The model `scripted` does not exist."}})
        elif self.server.text and not isinstance(prompt, str):
            self._answer(422, {"detail": [{"msg": "Input should be a valid string"}]})
        else:
            ids = prompt if isinstance(prompt, list) else self.server.tokenizer.encode(prompt).ids
            self._complete(ids, asked)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""

    def _complete(self, prompt: Sequence[int], asked: dict[str, Any]) -> None:
        ids, finish = self._output(prompt, asked["max_tokens"])
        usage = self._usage(len(prompt), len(ids))
        if not asked.get("stream"):
            self._answer(200, {"choices": [], "usage": usage})
            return
        if self.server.gate is not None:
            self.server.gate.wait(timeout=30)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._send_event(": a comment")
        step = _MIDDLE if self.server.fault == "burst" else 1
        for start in range(0, len(ids), step):
            if start == _MIDDLE:
                self._misbehave()
            self._send_data(self._event(ids[start : start + step], None))
        self._send_data(self._event([], None if self.server.fault == "unfinished" else finish))
        if not self.server.text:
            self._send_data({"choices": [], "usage": usage})
        self._send_event("data: [DONE]")

    def _output(self, prompt: Sequence[int], count: int) -> tuple[list[int], str]:
        fault = self.server.fault
        count -= fault == "short"
        source = self.server.tokenizer.encode(_TEXT).ids
        ids = [source[(sum(prompt) + n) % len(source)] for n in range(count)]
        if fault == "eos" and count > _MIDDLE:
            return [*ids[:_MIDDLE], self.server.eos_id], "stop"
        return ids, "length"

    def _event(self, ids: list[int], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": finish}
        choice["text"] = self.server.tokenizer.decode(ids)
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
    asked = parser.parse_args(arguments)
    if asked.fault == "exit":
        print("there is no such device", file=sys.stderr)
        return 3
    if asked.fault == "never_ready":
        print("loading weights", file=sys.stderr)
        time.sleep(3600)
    CompletionsServer(asked.port, asked.model, asked.fault, asked.text).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
