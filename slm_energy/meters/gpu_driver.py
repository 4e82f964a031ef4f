"""A meter whose sources are each read by one call of a GPU's driver, which answers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slm_energy.errors import one_line
from slm_energy.meters.base import Channel, ReadFailed
from slm_energy.meters.process_tree import Worker
from slm_energy.record import Source


class DriverMeter:
    """All sources of all visible GPUs of one maker."""

    def __init__(
        self,
        channels: Sequence[Channel],
        worker: Worker,
        failure: type[Exception],
        shut_down: Callable[[], object],
    ) -> None:
        """Take what the driver was found to offer.

        Args:
            channels: GPU by GPU: counter, power, gauges.
            worker: told by `watch`; readings that need to know it hold it too.
            failure: what the driver's library raises.
            shut_down: lets go of the driver.
        """
        self._channels = channels
        self._worker = worker
        self._failure = failure
        self._shut_down = shut_down

    @property
    def sources(self) -> tuple[Source, ...]:
        """As the channels are ordered."""
        return tuple(channel.source for channel in self._channels)

    @property
    def slow(self) -> bool:
        """The driver answers within microseconds to a few milliseconds."""
        return False

    def watch(self, pid: int) -> None:
        """From now on, a GPU's processes are foreign if they are neither `pid` nor below it."""
        self._worker.pid = pid

    def read(self, index: int) -> int | float:
        """Ask the driver.

        Raises:
            ReadFailed: with the driver's words.
        """
        try:
            return self._channels[index].read()
        except self._failure as error:
            raise ReadFailed(one_line(error)) from error

    def close(self) -> None:
        """Let go of the driver."""
        self._shut_down()
