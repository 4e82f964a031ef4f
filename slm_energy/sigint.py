"""Handling of Ctrl-C, which reaches every process of a terminal; only the sweep acts on it.

    with withheld():         in the parent: child processes start with its signals blocked
        Popen(...)
    ignore()                 in the child, as early as possible

Otherwise SIGINT could kill a child between its fork and its first line, which looks like a failure;
and a signal that ends the sweep could leave behind a child that Popen has started, not returned.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_INTERRUPTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextlib.contextmanager
def withheld() -> Iterator[None]:
    """Block what interrupts a sweep, here until the end of the block, and in processes started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore SIGINT from now on, including a pending one; take the other signals again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
