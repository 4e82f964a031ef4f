"""The windows of a trial; the sampler is notified of both ends of each."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from slm_energy import cpu_quota
from slm_energy.clocks import ReadClocks, read_clocks
from slm_energy.cpu_quota import Quotas
from slm_energy.exchange import Edge, Marks
from slm_energy.record import Metering, Window


class Span:
    """A window while it is open."""

    passes = 0


class Timeline:
    """The windows so far.

    A sampler that has exited does not stop the trial: latency and outputs are still good, and the
    parent sees from the sampler's file that the energy is not.

    Args:
        metering: how to reach the sampler; None when nothing is metered.
        clocks: reads all clocks, to see whether the machine was suspended within a window.
        quotas: reads the CPU quotas of this process, which a server that it starts shares, and of
            adopted processes.
    """

    def __init__(
        self,
        metering: Metering | None,
        clocks: ReadClocks = read_clocks,
        quotas: Callable[[Sequence[int]], Quotas] = lambda pids: cpu_quota.read(pids=pids),
    ) -> None:
        self.windows: list[Window] = []
        self._clocks, self._quotas = clocks, quotas
        self._adopted: list[int] = []
        self._marks: Marks | None = None
        if metering is not None:
            try:
                self._marks = Marks(metering.marks)
            except OSError as error:
                print(f"the sampler does not respond: {error}", file=sys.stderr)

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[Span]:
        """Open a window for the length of a `with` block; an exception leaves none."""
        span = Span()
        self._mark("start")
        before, opened = self._quotas(self._adopted), self._clocks()
        start_ns = time.monotonic_ns()
        yield span
        end_ns = time.monotonic_ns()
        suspended_ns = self._clocks().suspended_ns(opened)
        self._mark("end")
        self.windows.append(
            Window(
                name=name,
                start_ns=start_ns,
                end_ns=end_ns,
                passes=span.passes,
                suspended_ns=suspended_ns,
                quotas=self._quotas(self._adopted).since(before),
            )
        )

    def adopt(self, pid: int) -> None:
        """Count process `pid` and its descendants, and its CPU quotas, as the trial's."""
        self._adopted.append(pid)
        self._notify(lambda marks: marks.adopt(pid))

    def close(self) -> None:
        """Close the connection to the sampler."""
        if self._marks is not None:
            self._marks.close()

    def _mark(self, edge: Edge) -> None:
        self._notify(lambda marks: marks.mark(edge))

    def _notify(self, send: Callable[[Marks], None]) -> None:
        if self._marks is None:
            return
        try:
            send(self._marks)
        except OSError as error:
            print(f"the sampler no longer responds: {error}", file=sys.stderr)
            self.close()
            self._marks = None
