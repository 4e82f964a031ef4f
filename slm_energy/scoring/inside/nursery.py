"""Makes a process for each answer, inside one sandbox: a fork takes a tenth of a new Python.

Serves on its standard input, a socket. A request is the limits, and the program for `run`, with
descriptors: each is the channel of a guest, or they are the input, output and error output of a
program. The reply is the exit codes, once all have ended (128 + n for signal n). An answer can make
no process, signal none and look into none (`seccomp`), so when its process has ended, what is left
of it are its files, which are removed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import marshal
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import guest, seccomp, wire


def main(words: list[str]) -> None:
    """MEMORY_BYTES FOLDER: serve until the other side closes; answers write files in FOLDER."""
    folder = words[1]
    os.chdir(folder)
    gc.freeze()
    with socket.socket(fileno=wire.channel()) as control:
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 3)
            if not descriptors:
                return
            request = marshal.loads(wire.receive(control.fileno()))
            children = _start(request, descriptors, control)
            for descriptor in descriptors:
                os.close(descriptor)
            codes = [_exit_code(os.waitpid(child, 0)[1]) for child in children]
            _clean(folder)
            wire.send(control.fileno(), json.dumps(codes).encode())


def _start(
    request: dict[str, Any], descriptors: Sequence[int], control: socket.socket
) -> list[int]:
    """Process ids of the answers."""

    def serve(own: int) -> None:
        for descriptor in descriptors:
            if descriptor != own:
                os.close(descriptor)
        guest.serve(own)

    def run() -> None:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        guest.run(request["program"])

    if "program" in request:
        return [_fork(request, control, run)]
    return [_fork(request, control, lambda own=own: serve(own)) for own in descriptors]  # type: ignore[misc]


def _fork(request: dict[str, Any], control: socket.socket, work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        control.close()
        _limit(request["memory_bytes"], request["cpu_s"], request["file_bytes"])
        seccomp.confine()
        work()
        code = 0
    except wire.Closed:
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code & 0xFF)


def _limit(memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Limits of this process; without capabilities it cannot raise them again.

    A second after the soft limit of processor time, SIGKILL follows SIGXCPU.
    """
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _clean(folder: str) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        else:
            os.remove(entry)
