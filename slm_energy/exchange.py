"""How a worker tells the sampler, which it does not otherwise know, that a window begins or ends.

A mark is one word on a local socket, and the answer comes when the sampler has done its part:

    start   it has waited for the slowest counter's next tick and has read every source of energy
    end     it has read them at once, and has followed the slowest counter for two more ticks

So a window begins right after a tick, and its energy is known to the time between two readings
instead of the time between two ticks. Needs only the standard library.
"""

from __future__ import annotations

import socket
from typing import Literal

Edge = Literal["start", "end"]

_PATIENCE_S = 30.0
"""Longer than two ticks of any counter; a sampler that takes longer hangs."""


class Marks:
    """The worker's end of the socket.

    Args:
        path: where the sampler listens.

    Raises:
        OSError: nobody listens there.
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
        """Tell the sampler and wait for its answer.

        Raises:
            OSError: the sampler has gone or hangs; the trial's windows cannot be metered.
        """
        self._socket.sendall(edge.encode() + b"\n")
        if not self._socket.recv(16):
            raise ConnectionError("the sampler has gone")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
