"""A template seen from inside: imports what an engine needs, starts nothing, and forks workers.

Requests and replies are JSON over a socket, the standard input:

    {"serve": FOLDER}, with descriptors for output and log  ->  {"pid": ...}, of the new worker
    {"reap": PID}, of a worker that has ended               ->  {"code": ..., "peak_bytes": ...}

or {"error": ...}, one line. Before each fork the template checks that it holds what imports leave
and nothing else. One thread: a lock that another thread holds would stay locked in the worker, and
OpenMP does not work in a fork once it has been used. No file, socket or device is open, and so
there is no context on a GPU.

Python's garbage collector is left alone: freezing the present objects would save the worker copies
of pages, but would also make its collections cheaper than a spawned worker's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slm_energy.cell import Settings
from slm_energy.engines.base import find
from slm_energy.errors import one_line
from slm_energy.serialization import Json

_REQUEST_BYTES = 65536


def forked(settings: Settings) -> Path | None:
    """Import what the engine of these settings needs, then fork a worker at each request.

    Returns:
        In each worker, the folder of its trial; in the template, None when it is no longer needed.
    """
    with socket.socket(fileno=os.dup(0)) as parent:
        _without_input()
        broken = _import(settings)
        while True:
            message, descriptors, _, _ = socket.recv_fds(parent, _REQUEST_BYTES, 2)
            if not message:
                return None
            request = json.loads(message)
            if "reap" in request:
                _reply(parent, **_reaped(request["reap"]))
            elif broken is not None:
                _reply(parent, error=broken)
            elif hazard := _fork_hazard({0, 1, 2, parent.fileno(), *descriptors}):
                _reply(parent, error=_refusal(settings, hazard))
            elif pid := _forked_worker(descriptors):
                _reply(parent, pid=pid)
            else:
                return Path(request["serve"])
            for descriptor in descriptors:
                os.close(descriptor)


def _without_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _import(settings: Settings) -> str | None:
    """Import; return the error in one line, or None."""
    try:
        find(settings.engine.name).imports(settings)
        importlib.import_module("tokenizers")
    except Exception as error:
        where = f"engine {settings.engine.name} failed in import"
        return f"{where}: {type(error).__name__}: {one_line(error)}"
    # OpenBLAS, which numpy brings, starts threads when it is loaded. It ends them when its process
    # forks, and each side starts its own again when it computes.
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    sys.stdout.flush()  # or every worker would write it again
    return None


def _fork_hazard(own: set[int]) -> str | None:
    """How this process differs from one that has only imported, or None.

    Args:
        own: descriptors that it should have open.
    """
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        return f"it has {threads} threads"
    for number in set(map(int, os.listdir("/proc/self/fd"))) - own:
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            target = os.readlink(f"/proc/self/fd/{number}")
            if target != os.devnull:  # llama-cpp-python keeps it open to hide what is printed
                return f"it has {target} open"
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "CUDA is initialised"
    return None


def _refusal(settings: Settings, hazard: str) -> str:
    remedy = "set measurement.isolation=spawn"
    return f"engine {settings.engine.name} cannot be forked: after its imports {hazard}; {remedy}"


def _forked_worker(descriptors: Sequence[int]) -> int:
    """Fork; return the worker's pid once it has its own session, or has ended, and 0 in it."""
    begun, beginning = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_worker(*descriptors)
        os.close(begun)
    os.close(beginning)
    if pid:
        os.read(begun, 1)  # the end of the file
        os.close(begun)
    return pid


def _reaped(worker: int) -> dict[str, Json]:
    _, status, usage = os.wait4(worker, 0)
    return {"code": os.waitstatus_to_exitcode(status), "peak_bytes": usage.ru_maxrss * 1024}


def _become_worker(output: int, log: int) -> None:
    """Give a fork its own session, output, log and random seeds, as a spawned worker has."""
    os.setsid()
    for descriptor, standard in ((output, 1), (log, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # These are seeded at import; Python's own generator is seeded again in a fork as well.
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _reply(parent: socket.socket, **message: Json) -> None:
    parent.send(json.dumps(message).encode())
