"""Ctrl-C reaches every process that a terminal started; only the sweep says what it means.

    with withheld():         in the parent: what is started here does not hear of it
        Popen(...)
    ignore()                 in the child, as soon as it can

Between its fork and its first own line a child would die of it, and be taken for a failure.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def withheld() -> Iterator[None]:
    """Hold SIGINT back, here until the end of the block, and in what is started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore SIGINT from now on, and what was held back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
