"""A server process that ends with the worker that started it.

    worker -> supervise.py -> server -> processes of the server

All of them descend from the worker, so the metered process tree contains them.
"""

from __future__ import annotations

import atexit
import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from slm_energy.engines.openai import command, server_log, supervise
from slm_energy.errors import EngineError

T = TypeVar("T")

_POLL_S = 0.1
_PATIENCE_S = 15.0
"""Longer than the 5 s after which the supervisor kills the server."""
_KEPT_LINES, _KEPT_CHARACTERS = 2000, 1000
"""Of the log, and of each line; a failed vLLM writes about 200."""


class ServerProcess:
    """A started server; its output goes to this process's standard error.

    Args:
        words: the command.
        gpu: index, among the GPUs visible here, of the only one it may see; None hides all.

    Attributes:
        log: the last lines that it wrote.
    """

    def __init__(self, words: Sequence[str], gpu: int | None) -> None:
        self.log = collections.deque[str](maxlen=_KEPT_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-IS", supervise.__file__, str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | _variables(gpu),  # a worker has only what `redaction.inherited` passes
            start_new_session=True,
        )
        # The worker may end by an error without calling `stop`.
        atexit.register(self.stop)
        self._reader = threading.Thread(target=self._copy_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The supervisor's process id; it leads its own session."""
        return self._process.pid

    def wait_until_ready(self, poll: Callable[[float], T | None], limit_s: float) -> T:
        """Poll until there is an answer.

        Args:
            poll: returns None while the server does not answer; its argument is its time limit in
                seconds.
            limit_s: time limit in total.

        Raises:
            EngineError: the server ended, or it was stopped at the time limit.
        """
        deadline = time.monotonic() + limit_s
        while True:
            answer = poll(max(_POLL_S, deadline - time.monotonic()))
            if answer is not None:
                return answer
            if self._process.poll() is not None:
                raise EngineError(f"engine.options.command: {self.end(_PATIENCE_S)}")
            if time.monotonic() >= deadline:
                self.stop()
                raise EngineError(
                    f"the server was not ready after engine.options.ready_s={limit_s:g};"
                    f" {server_log.last_words(tuple(self.log))}"
                )
            time.sleep(_POLL_S)

    def end(self, wait_s: float) -> str | None:
        """Describe how the server ended and its last output; None if it runs after `wait_s`."""
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(_PATIENCE_S)
        how = f"ended with exit code {code}"
        if code - 128 in signal.valid_signals():
            how = f"was killed by {signal.Signals(code - 128).name}"
        return f"the server {how}; {server_log.last_words(tuple(self.log))}"

    def stop(self) -> None:
        """End the server and everything it started; idempotent."""
        atexit.unregister(self.stop)
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_PATIENCE_S)

    def _copy_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as log:
            for line in log:
                text = line.decode("utf-8", errors="replace")
                sys.stderr.write(text)
                sys.stderr.flush()
                self.log.append(text[:_KEPT_CHARACTERS])


def _variables(gpu: int | None) -> dict[str, str]:
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    chosen = "" if gpu is None else visible[gpu] if gpu < len(visible) else str(gpu)
    return {
        "PATH": command.search_path(),
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": chosen,
    }
