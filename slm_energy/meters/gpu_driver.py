"""A meter that reads each source with one call to a GPU's driver, which returns at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from slm_energy.errors import one_line
from slm_energy.meters.base import Channel, guarded
from slm_energy.meters.process_tree import TrialProcesses


class DriverMeter:
    """All sources of all visible GPUs of one vendor.

    Attributes:
        slow: False: the driver returns within microseconds to a few milliseconds.
    """

    slow = False

    def __init__(
        self,
        channels: Sequence[Channel],
        trial: TrialProcesses,
        failure: type[Exception],
        shut_down: Callable[[], object],
    ) -> None:
        """Take over an open driver.

        Args:
            channels: GPU by GPU: counter, power, gauges. Their calls may still raise `failure`.
            trial: updated by `watch` and `adopt`; the gauges that count processes share it.
            failure: what the driver's library raises.
            shut_down: closes the driver's library.
        """
        self.channels = tuple(
            dataclasses.replace(channel, read=guarded(channel.read, failure, one_line))
            for channel in channels
        )
        self._trial = trial
        self._shut_down = shut_down

    def watch(self, pid: int) -> None:
        """From now on, a GPU's processes are foreign unless they are `pid` or descend from it."""
        self._trial.roots = {pid}

    def adopt(self, pid: int) -> None:
        """`pid` and its descendants belong to the trial too."""
        self._trial.roots.add(pid)

    def close(self) -> None:
        """Close the driver's library."""
        self._shut_down()
