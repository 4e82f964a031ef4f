"""Processes that code of a model may run in: bubblewrap with namespaces, limits and a filter.

No network, no home, no other processes, no tracking store; the interpreter and the system's
libraries are there to read, and 64 MB of memory to write files in. Needs no root and no daemon.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.scoring import seccomp

INSIDE = Path(__file__).parent / "inside"
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache")
_MOUNTED = "/inside"
_MIB = 2**20
_FILES_MIB = 64


class SandboxError(SlmEnergyError):
    """Code cannot be isolated on this machine; the message says what to install or allow."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one answer may use.

    Attributes:
        cpu_s: processor time; the same on a busy machine.
        wall_s: time until it is killed, for one that sleeps.
        memory_mb: address space.
        output_mb: a program's output.
    """

    cpu_s: int = 10
    wall_s: float = 60.0
    memory_mb: int = 1024
    output_mb: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Connected:
    """A process in the sandbox, and the channel to it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


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
            " quality.sandbox=none to run it with your own rights"
        )
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    with _process(["-c", ""], stderr=subprocess.PIPE) as probe:
        _, errors = probe.communicate()
    if probe.returncode != 0:
        raise SandboxError(
            f"bubblewrap cannot isolate generated code here ({one_line(errors.decode())}): allow"
            " user namespaces (sysctl kernel.unprivileged_userns_clone=1), or set"
            " quality.sandbox=none"
        )
    return shown.stdout.strip()


@contextmanager
def guest(limits: Limits) -> Iterator[Connected]:
    """A process that runs one answer. It is gone when the context is left."""
    with _connected([f"{_MOUNTED}/guest.py", *_numbers(limits)]) as connected:
        yield connected


@contextmanager
def judge(limits: Limits) -> Iterator[Connected]:
    """A process that runs tests, for any number of answers."""
    with _connected([f"{_MOUNTED}/judge.py", str(limits.memory_mb * _MIB)]) as connected:
        yield connected


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


def run_program(source: str, given: str, limits: Limits) -> Ended:
    """Run a program with its input.

    Raises:
        subprocess.TimeoutExpired: it was killed after `limits.wall_s`.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as program:
        program.write(source)
        program.flush()
        words = [f"{_MOUNTED}/guest.py", *_numbers(limits), "/answer.py"]
        mounts = ("--ro-bind", program.name, "/answer.py")
        with (
            tempfile.TemporaryFile() as input_file,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            input_file.write(given.encode())
            input_file.seek(0)
            with _process(words, mounts, stdin=input_file, stdout=output, stderr=errors) as process:
                code = process.wait(timeout=limits.wall_s)
            printed, failed = (
                _text(file, limits.output_mb * _MIB + 1) for file in (output, errors)
            )
    return Ended(code=code, output=printed, error=(failed.splitlines() or [""])[-1])


def _text(file: IO[bytes], limit: int) -> str:
    file.seek(0)
    return file.read(limit).decode(errors="replace")


def _numbers(limits: Limits) -> list[str]:
    sizes = (limits.memory_mb * _MIB, limits.cpu_s, _FILES_MIB * _MIB)
    return [str(size) for size in sizes]


@contextmanager
def _connected(words: Sequence[str]) -> Iterator[Connected]:
    """A process whose standard input is one end of a channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs, _process(words, stdin=theirs) as process:
        theirs.close()
        yield Connected(process=process, channel=ours)


@contextmanager
def _process(
    words: Sequence[str],
    mounts: Sequence[str] = (),
    *,
    stdin: int | IO[bytes] | socket.socket = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start Python in the sandbox; everything in it is killed when the context is left."""
    filters = os.memfd_create("seccomp")
    try:
        os.write(filters, seccomp.program() or b"")
        os.lseek(filters, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [
                *_command(filters, mounts),
                os.path.realpath(sys.executable),
                "-I",
                "-S",
                "-B",
                *words,
            ],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(filters,),
        )
    finally:
        os.close(filters)
    with process:
        try:
            yield process
        finally:
            process.kill()  # bubblewrap is the first process of the namespace: all others end too


def _command(filters: int, mounts: Sequence[str]) -> list[str]:
    """bubblewrap's words, up to the command.

    There is no /proc: Python does not need one, and containers often forbid to mount it.
    """
    words = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    words += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"]
    words += ["--size", str(_FILES_MIB * _MIB), "--tmpfs", "/", "--dev", "/dev"]
    for path in _readable():
        words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else []
        words += [] if os.path.islink(path) else ["--ro-bind", path, path]
    words += ["--ro-bind", str(INSIDE), _MOUNTED, *mounts]
    words += ["--size", str(_FILES_MIB * _MIB), "--tmpfs", "/tmp", "--remount-ro", "/"]
    words += ["--chdir", "/tmp"]
    return [*words, "--seccomp", str(filters), "--"] if seccomp.program() else [*words, "--"]


@functools.cache
def _readable() -> tuple[str, ...]:
    """The system's libraries and this interpreter with its standard library."""
    interpreter = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
    folders = [*_SYSTEM, interpreter, sys.base_prefix]
    kept = list[str]()
    for path in dict.fromkeys(folders):
        inside = any(path == other or path.startswith(f"{other}/") for other in kept)
        if os.path.lexists(path) and not inside:
            kept.append(path)
    return tuple(kept)
