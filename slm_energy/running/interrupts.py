"""What Ctrl-C and SIGTERM mean while a sweep runs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from rich.console import Console


class Interrupts:
    """Ctrl-C once lets what runs come to its end; a second one, or SIGTERM, ends it now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = False
        self._urgent = False
        self._answered = False
        self.running = False
        self.asked = False

    def __enter__(self) -> Interrupts:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.running and not self.asked:
            self.asked = True
            return
        if not self._held:
            raise KeyboardInterrupt
        self._urgent = True

    def answer(self) -> None:
        """Tell a person who asked, once; a signal's handler may not print."""
        if self.asked and not self._answered:
            self._answered = True
            self._console.print("ending when the running trial has; Ctrl-C again ends it now")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put an urgent interrupt off: what was measured is written down first."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._urgent:
            raise KeyboardInterrupt
