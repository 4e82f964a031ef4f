"""Workers that are forked from a process that has already imported their engine's libraries.

A trial stays a process of its own: it has its own memory, threads, GPU context, session and log,
and leaves nothing behind. What is saved is the time to start an interpreter and import. See
`template.py` for how a template proves that it did no more than import.

What is different, and why `measurement.isolation` is part of a cell's identity:

- The load window holds no imports but those that depend on the model.
- Trials of one template share what is drawn at random when a process starts: the layout of its
  memory, and the seed of Python's hashes. Each spawned trial draws its own, so that rounds average
  over them; forked ones keep one draw for a whole sweep.
- The memory of a forked worker begins with the pages that it shares with its template. They count
  in its peak, as a spawned worker's own imports do.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from slm_energy import sigint
from slm_energy.cell import Trial
from slm_energy.errors import EngineError
from slm_energy.scratch import scratch
from slm_energy.serialization import Json
from slm_energy.worker import child, interpreters
from slm_energy.worker.child import Failure, ReportPhase, Worker

_REPLY_BYTES = 65536
_REAP_S = 60.0
_Key = tuple[str | None, str, str, str, tuple[str, ...]]


class Templates:
    """The template processes of a sweep: one per interpreter, engine, decoding and type.

    Each starts when it is first needed. All end with the block, and with the thread that ran the
    first trial, so one thread must run all trials.
    """

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(scratch())
        self._templates: dict[_Key, _Template] = {}
        return self

    def __exit__(self, *_: object) -> None:
        for template in self._templates.values():
            template.close()
        self._stack.close()

    def serve(
        self,
        trial: Trial,
        folder: Path,
        exchange: Path,
        progress: ReportPhase,
        on_start: Callable[[int], None],
    ) -> Failure | None:
        """Run a trial's worker to its end, spawned or forked; see `child.run`."""
        if trial.cell.settings.measurement.isolation == "spawn":
            python, limit_s, env = trial.python, trial.timeout_s, trial.cell.settings.engine.env
            return child.run("serve", python, folder, exchange, limit_s, progress, on_start, env)

        def fork(output: int, log: int) -> Worker:
            template = self._template(trial, exchange, log)
            return template.fork(exchange, output, log, trial.timeout_s)

        try:
            return child.watch(fork, folder, trial.timeout_s, progress, on_start)
        except EngineError as error:
            return Failure(why=f"measurement.isolation=forkserver: {error}")

    def _template(self, trial: Trial, exchange: Path, log: int) -> _Template:
        """The template for this trial; a new one if none is running."""
        engine = trial.cell.settings.engine
        key = (trial.python, engine.name, engine.decode, engine.dtype, engine.env)
        known = self._templates.get(key)
        if known is not None and known.alive:
            return known
        if known is not None:
            known.close()
        arguments, folder = ["template", str(exchange)], self._folder
        started = interpreters.command(trial.python, arguments, folder, engine.env)
        template = _Template(*started, log)
        self._templates[key] = template
        return template


class _Template:
    """One template process; it is ended when a request to it is not completed."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: int) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, sigint.withheld():
            self._process = subprocess.Popen(
                command,
                env=variables,
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it can take requests."""
        return self._process.poll() is None

    def fork(self, exchange: Path, output: int, log: int, timeout_s: float) -> Worker:
        """Fork a worker for the trial in a folder; the first one waits for the imports.

        Raises:
            EngineError: it could not import, is not clean, was ended, or took too long.
        """
        reply = self._request(timeout_s, (output, log), serve=str(exchange))
        try:
            handle = os.pidfd_open(reply["pid"])
        except ProcessLookupError:  # its template reaps it on request, not before
            raise EngineError(_ENDED) from None
        return Worker(
            pid=reply["pid"], handle=handle, reap=functools.partial(self._reap, reply["pid"])
        )

    def close(self) -> None:
        """End it; does nothing when it has ended."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _reap(self, pid: int) -> tuple[int, int | None]:
        try:
            reply = self._request(_REAP_S, (), reap=pid)
        except EngineError:  # it was killed, and its worker with it
            return -int(signal.SIGKILL), None
        return reply["code"], reply["peak_bytes"]

    def _request(
        self, timeout_s: float, descriptors: Sequence[int], **request: Json
    ) -> dict[str, Any]:
        try:
            self._socket.settimeout(timeout_s)
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(_REPLY_BYTES)
        except TimeoutError:
            self.close()
            raise EngineError(f"the template did not respond within {timeout_s:g} s") from None
        except ConnectionError:
            answer = b""
        except BaseException:  # its answer would be taken for that to the next request
            self.close()
            raise
        if not answer:
            self.close()
            raise EngineError(_ENDED)
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise EngineError(reply["error"])
        return reply


_ENDED = "the template process has ended: see worker.log"
