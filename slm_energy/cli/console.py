"""The terminal, and text on it that can be pasted into a shell."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.console import Console


class Output(io.TextIOBase):
    """A stream that falls silent when it cannot be written, so that the work goes on.

    Its reader or terminal is gone, the disk behind it is full, or it was closed from the beginning.

    Attributes:
        lost: some of what was written is lost.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream; None is how Python has one that was closed from the beginning."""
        self._stream = io.StringIO() if stream is None else stream
        self.lost = stream is None

    def write(self, text: str) -> int:
        """Write, or drop."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[[], object]) -> None:
        if self.lost:
            return
        try:
            act()
        except OSError:
            self.lost = True
            # What the stream still holds would fail again when Python ends.
            with contextlib.suppress(OSError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self._stream.fileno())

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return not self.lost and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self._stream.encoding or "utf-8"


def occupy_standard_descriptors() -> None:
    """Open those of input, output and errors that are closed.

    Otherwise the next file, such as a database, would get the number that libraries print to.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def terminal() -> Console:
    """The terminal; a file or a pipe gets lines of 100 characters."""
    return Console(width=None if sys.stdout.isatty() else 100)


def shell_path(location: str | Path) -> str:
    """A path, or where MLflow stores an artifact, quoted for a shell.

    MLflow's `file://` URIs are percent-encoded; they become paths. Other URIs stay as they are.
    """
    text = str(location)
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    return shlex.quote(text)
