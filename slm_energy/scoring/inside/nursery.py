"""Makes a process for each answer, inside one sandbox: a fork takes a tenth of a new Python.

Serves on its standard input, a socket. A request is the limits, and the program for `run`, with
descriptors: the channel of a guest, or the input, output and error output of a program. The reply
says how the answer's process ended. An answer can make no process, signal none and look into none
(`seccomp`), so when its process has ended, what is left of it are its files: a sandbox whose folder
an answer has touched is not used again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import marshal
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import guest, seccomp, wire

_OFTEN_IMPORTED = (
    *("typing", "math", "re", "string", "collections", "itertools", "functools", "heapq"),
    *("bisect", "copy", "datetime", "statistics", "operator", "dataclasses", "enum", "hashlib"),
)
"""By answers: loaded before the fork, they cost an answer nothing."""

_SET_SIGNAL_AT_PARENTS_DEATH = 1


def main(words: list[str]) -> None:
    """MEMORY_BYTES FOLDER: serve until the other side closes; answers write files in FOLDER."""
    folder = words[1]
    os.chdir(folder)
    untouched = os.stat(folder).st_ctime_ns
    for name in _OFTEN_IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=wire.channel()) as control:
        wire.ready(control.fileno())
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 3)
            if not descriptors:
                return
            request = marshal.loads(wire.receive(control.fileno()))
            child = _start(request, descriptors, control)
            for descriptor in descriptors:
                os.close(descriptor)
            _, status, used = os.wait4(child, 0)
            ended = {
                "code": os.waitstatus_to_exitcode(status),
                "cpu_s": used.ru_utime + used.ru_stime,
                "touched": os.stat(folder).st_ctime_ns != untouched,
            }
            wire.send(control.fileno(), json.dumps(ended).encode())


def _start(request: dict[str, Any], descriptors: Sequence[int], control: socket.socket) -> int:
    """Process id of the answer."""

    def run() -> None:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        guest.run(request["programs"])

    def serve() -> None:
        guest.serve(descriptors[0])

    return _fork(request, control, run if "programs" in request else serve)


def _fork(request: dict[str, Any], control: socket.socket, work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        control.close()
        # Without a sandbox nothing else ends it with this process.
        ctypes.CDLL(None).prctl(_SET_SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)
        random.seed(0)  # the same answer, the same verdict
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
