"""Handling of Ctrl-C, which reaches every process of a terminal; only the sweep acts on it.

    with withheld():         in the parent: child processes start with SIGINT blocked
        Popen(...)
    ignore()                 in the child, as early as possible

Otherwise SIGINT could kill a child between its fork and its first line, which looks like a failure.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def withheld() -> Iterator[None]:
    """Block SIGINT in this thread until the end of the block, and in processes started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore SIGINT from now on, including a pending one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
