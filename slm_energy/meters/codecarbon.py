"""CodeCarbon's estimate, for machines without a sensor. A model, not a measurement.

CodeCarbon guesses from the processor's nominal power, its load, and the number of memory modules:
https://docs.codecarbon.io/latest/explanation/methodology/. The sampler opens it only when nothing
on the machine can be measured, and its joules keep the kind `estimate` all the way.

Side effects: at opening it starts other programs to get the processor's name (`lscpu`,
`nvidia-smi --help`, ...), and between two readings a timer thread of its own sleeps. It takes no
lock, sets no signal handler, writes no file and opens no connection.
"""

from __future__ import annotations

from typing import Any

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.base import Channel, Opened, ReadFailed
from slm_energy.record import Source

_SLICE_NS = 500_000_000
"""Length of one slice. Each costs 1.5 ms of processor time, and load is counted in 10 ms steps."""


class CodeCarbonMeter:
    """CodeCarbon's energy, summed over slices: each reading ends one and begins the next.

    Attributes:
        slow: True: a model is computed, and a new tracker for each trial takes a second or two.
    """

    slow = True

    def __init__(self) -> None:
        source = Source(
            id="codecarbon/machine",
            kind="estimate",
            domain="machine",
            unit="uJ",
            update_period_ns=_SLICE_NS,
            path="codecarbon.OfflineEmissionsTracker",
        )
        self.channels = (Channel(source=source, read=self.read),)
        self._tracker: Any = None
        self._total_uj = 0.0
        self.watch(0)

    def watch(self, pid: int) -> None:
        """Replace the tracker: it keeps every slice that it ever made."""
        from codecarbon import OfflineEmissionsTracker

        self.close()
        # The country changes emissions only. Its periodic thread never starts: slices do its work.
        self._tracker = OfflineEmissionsTracker(
            country_iso_code="ESP",
            output_methods=[],
            log_level="critical",
            tracking_mode="machine",
            allow_multiple_runs=True,
            pue=1.0,
            # Set here, so that no .codecarbon.config or environment variable can change them.
            force_cpu_power=None,
            force_ram_power=None,
            force_mode_cpu_load=False,
        )
        self._tracker.start_task()

    def read(self) -> int:
        """Energy since the meter was opened, in uJ.

        Raises:
            ReadFailed: CodeCarbon returned no value.
        """
        slice_ = self._tracker.stop_task()
        self._tracker.start_task()
        if slice_ is None:
            raise ReadFailed("CodeCarbon returned no value")
        self._total_uj += slice_.energy_consumed * 3.6e12
        return round(self._total_uj)

    def close(self) -> None:
        """End the current slice, and with it CodeCarbon's timer."""
        if self._tracker is not None:
            self._tracker.stop_task()
            self._tracker = None


def open_codecarbon(measurement: MeasurementConfig) -> Opened:
    """Open CodeCarbon; takes a second or two."""
    try:
        meter = CodeCarbonMeter()
    except ImportError as error:
        return Opened(meter=None, notes=(f"codecarbon: {error}: pip install codecarbon",))
    try:
        meter.read()
    except AttributeError:
        # CodeCarbon only logs what failed, and leaves an incomplete object.
        note = "codecarbon: does not start: correct or remove .codecarbon.config, see sampler.log"
        return Opened(meter=None, notes=(note,))
    return Opened(
        meter=meter,
        notes=("codecarbon: nothing can be measured here, energy is CodeCarbon's estimate",),
    )
