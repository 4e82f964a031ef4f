"""A server that runs already: can it be measured here, and is it the one that does the work?

`listener.py` finds its processes.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from slm_energy.cell import Settings
from slm_energy.engines.openai import process_table
from slm_energy.engines.openai.stream import Address
from slm_energy.errors import EngineError

_BUSY_S = 1.0
_LEAST_BUSY_PCT = 10.0
"""A server that computes on a processor keeps about a core busy while it answers; one that passes
on the stream of another uses a few percent of one."""


def unreachable(settings: Settings, url: str) -> str | None:
    """Return why a running server cannot be used, or None; whether it runs is not checked yet."""
    try:
        host = Address.of(url).host
    except ValueError as error:
        return f"engine.options.url: {error}"
    if settings.engine.threads is not None:
        return "engine.threads cannot be set on a server that is already running: use null"
    if settings.measurement.mode != "off" and not _is_here(host):
        return (
            f"engine.options.url: {host} is another machine, but only this one is measured: run the"
            " sweep there, or set measurement=off"
        )
    return None


def _is_here(host: str) -> bool:
    """Return whether a host is this machine: only then can a socket be bound to its address."""
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    # A name may also have an address of a protocol that is switched off.
    return any(_can_bind(family, address) for family, _, _, _, address in addresses)


def _can_bind(family: int, address: tuple[Any, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def busy_pct(roots: Sequence[int], keep_busy: Callable[[float], None]) -> float:
    """Measure the processor time of a server while it answers, in percent of one core.

    Args:
        roots: its processes; all that descend from them count.
        keep_busy: has it answer for this many seconds.

    Raises:
        EngineError: too little for a server that computes on a processor.
    """

    def cpu_s() -> float:
        return process_table.cpu_s(process_table.tree(roots, process_table.read()))

    before_s, begun_s = cpu_s(), time.monotonic()
    keep_busy(_BUSY_S)
    busy = 100 * (cpu_s() - before_s) / (time.monotonic() - begun_s)
    if busy < _LEAST_BUSY_PCT:
        raise EngineError(
            f"engine.options.url: the process that listens ({roots[0]}) used {busy:.0f} % of one"
            " processor while it answered, so another one computes, perhaps on another machine:"
            " give the port on which the server itself listens here"
        )
    return busy
