"""A powercap tree in a folder, with counters that follow a waveform in real time.

    zones = (Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),)
    with PowercapTree(tmp_path, zones):
        ...  # measurement.powercap_root=tmp_path

Files are rewritten in place, as the kernel's are: a reader that keeps them open sees new values. As
on a real machine, the zones lie within each other, and the root has a link to each.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from slm_energy.testing.waveform import Waveform

Fault = Literal["unreadable", "garbage", "frozen", "reset"]

INTEL_RANGE_UJ = 262_143_328_850
"""`max_energy_range_uj` of many Intel processors: 2^32 steps of 61 uJ."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """One counter.

    Attributes:
        folder: `intel-rapl:0`, `intel-rapl:0:1`, `intel-rapl-mmio:0`, ...
        name: `package-0`, `core`, `uncore`, `dram`, `psys`.
        waveform: its power.
        range_uj: the counter's largest value; it wraps to zero after it.
        first_uj: what the counter shows when the tree is entered.
    """

    folder: str
    name: str
    waveform: Waveform
    range_uj: int = INTEL_RANGE_UJ
    first_uj: int = 0


class PowercapTree:
    """The tree and the thread that drives it.

    Args:
        root: an existing folder, for `measurement.powercap_root`.
        zones: parents before their children.
        period_s: how often new values are published; hardware does it about every 1 ms.
    """

    def __init__(self, root: Path, zones: Sequence[Zone], *, period_s: float = 0.005) -> None:
        self.root = root
        self._zones = {zone.folder: zone for zone in zones}
        self._period_s = period_s
        self._faults: dict[str, Fault] = {}
        self._shift_uj: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="powercap tree")
        self._longest_ns = 0

    def __enter__(self) -> PowercapTree:
        now = time.monotonic_ns()
        for folder, zone in self._zones.items():
            control, *levels = folder.split(":")
            names = [":".join([control, *levels[: depth + 1]]) for depth in range(len(levels))]
            place = self.root.joinpath(control, *names)
            place.mkdir(parents=True)
            (self.root / folder).symlink_to(place)
            (place / "name").write_text(zone.name + "\n")
            (place / "max_energy_range_uj").write_text(f"{zone.range_uj}\n")
            self._shift_uj[folder] = zone.first_uj - zone.waveform.energy_pj(now) // 10**6
        self._publish()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def longest_pause_s(self) -> float:
        """Longest time between two publications so far: a busy machine may starve the thread."""
        return self._longest_ns / 1e9

    def file(self, folder: str) -> Path:
        """The counter's file."""
        return self.root / folder / "energy_uj"

    def set_fault(self, folder: str, fault: Fault | None) -> None:
        """Break a counter, or mend it with None.

        `unreadable` makes reading fail, for root too; `garbage` is text that is no number; `frozen`
        stops the counter, though it counts on unseen; `reset` sets it to zero, once.
        """
        with self._lock:
            file, zone = self.file(folder), self._zones[folder]
            if self._faults.pop(folder, None) == "unreadable":
                file.rmdir()
            if fault == "reset":
                self._shift_uj[folder] = -zone.waveform.energy_pj(time.monotonic_ns()) // 10**6
            self._publish_one(folder, zone)
            if fault == "unreadable":
                file.unlink()
                file.mkdir()
            elif fault == "garbage":
                self._write(file, "?" * 20)
            if fault in ("unreadable", "garbage", "frozen"):
                self._faults[folder] = fault

    def _drive(self) -> None:
        last = time.monotonic_ns()
        while not self._stop.wait(self._period_s):
            self._publish()
            now = time.monotonic_ns()
            self._longest_ns, last = max(self._longest_ns, now - last), now

    def _publish(self) -> None:
        with self._lock:
            for folder, zone in self._zones.items():
                if folder not in self._faults:
                    self._publish_one(folder, zone)

    def _publish_one(self, folder: str, zone: Zone) -> None:
        counted = zone.waveform.energy_pj(time.monotonic_ns()) // 10**6
        value = (counted + self._shift_uj[folder]) % (zone.range_uj + 1)
        self._write(self.file(folder), str(value))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            # One write of constant length: a reader sees the old value or the new one.
            os.pwrite(file, f"{text:<20}\n".encode(), 0)
        finally:
            os.close(file)
