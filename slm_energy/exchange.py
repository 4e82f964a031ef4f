"""The protocol by which a worker marks the start and end of a window for the sampler.

A mark is one word on a local socket. The sampler replies when it has done its part:

    start   waits for the slowest counter's next tick, then reads every source of energy
    end     reads them at once, then follows the slowest counter for two more ticks, and for as long
            as its values may be late

So a window starts right after a tick, and the uncertainty of its energy is the time between two
readings instead of two ticks.

    adopt PID   counts a running server that computes for the trial as part of it

Needs only the standard library.
"""

from __future__ import annotations

import socket
from typing import Literal

Edge = Literal["start", "end"]

_PATIENCE_S = 30.0
"""Longer than two ticks of any counter; a sampler that takes longer has hung."""


class Marks:
    """The worker's end of the socket.

    Args:
        path: the sampler's socket.

    Raises:
        OSError: no process is listening on it.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_PATIENCE_S)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def mark(self, edge: Edge) -> None:
        """Send a mark to the sampler and wait for its reply.

        Raises:
            OSError: the sampler has exited or hangs; the trial's windows cannot be metered.
        """
        self._send(edge)

    def adopt(self, pid: int) -> None:
        """Name a server that computes for this trial, and wait for the sampler's reply.

        Raises:
            OSError: as for `mark`.
        """
        self._send(f"adopt {pid}")

    def _send(self, words: str) -> None:
        self._socket.sendall(words.encode() + b"\n")
        if not self._socket.recv(16):
            raise ConnectionError("the sampler has exited")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
