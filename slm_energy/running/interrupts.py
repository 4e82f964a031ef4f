"""What Ctrl-C, SIGTERM and SIGHUP mean while a sweep runs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from rich.console import Console


class Interrupts:
    """The first Ctrl-C lets running trials finish; a second one, SIGTERM or SIGHUP ends them now.

    SIGHUP comes when the terminal or its connection is gone, from the kernel and often from the
    shell too: only the first one interrupts. Under `nohup` it is ignored, and stays so.

    Attributes:
        running: set while trials run: outside that time Ctrl-C interrupts at once.
        requested: the first Ctrl-C has come.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = False
        self._urgent = False
        self._acknowledged = False
        self.running = False
        self.requested = False

    def __enter__(self) -> Interrupts:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._before: dict[int, Any] = {n: signal.signal(n, self._handle) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.running and not self.requested:
            self.requested = True
            return
        if number == signal.SIGHUP:
            # For good: the shell's may come when the sweep has ended and the program has not.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            del self._before[signal.SIGHUP]
        if not self._held:
            raise KeyboardInterrupt
        self._urgent = True

    def acknowledge(self) -> None:
        """Print once that Ctrl-C has come: a signal handler must not print."""
        if self.requested and not self._acknowledged:
            self._acknowledged = True
            self._console.print("stopping after the running trial; Ctrl-C again stops it now")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay an urgent interrupt until what was measured is on disk."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._urgent:
            raise KeyboardInterrupt
