"""The windows of a trial, each marked to the sampler at both ends."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from slm_energy.exchange import Edge, Marks
from slm_energy.record import Metering, Window


class Span:
    """A window while it is open."""

    passes = 0


class Timeline:
    """The windows so far.

    A sampler that has gone does not stop the trial: latency and outputs are still good, and the
    parent sees by the sampler's own file that its energy is not.

    Args:
        metering: how to reach the sampler; None when nothing is metered.
    """

    def __init__(self, metering: Metering | None) -> None:
        self.windows: list[Window] = []
        self._marks: Marks | None = None
        if metering is not None:
            try:
                self._marks = Marks(metering.marks)
            except OSError as error:
                print(f"the sampler does not answer: {error}", file=sys.stderr)

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[Span]:
        """Open a window for the length of a `with` block; what raises leaves none."""
        span = Span()
        self._mark("start")
        start_ns = time.monotonic_ns()
        yield span
        end_ns = time.monotonic_ns()
        self._mark("end")
        self.windows.append(Window(name=name, start_ns=start_ns, end_ns=end_ns, passes=span.passes))

    def close(self) -> None:
        """Hang up."""
        if self._marks is not None:
            self._marks.close()

    def _mark(self, edge: Edge) -> None:
        if self._marks is None:
            return
        try:
            self._marks.mark(edge)
        except OSError as error:
            print(f"the sampler does not answer any more: {error}", file=sys.stderr)
            self.close()
            self._marks = None
