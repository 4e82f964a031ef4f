"""A powercap tree in a folder, with counters that follow a waveform in real time.

    with PowercapTree(tmp_path, client(constant(30))):
        ...  # measurement.powercap_root=tmp_path

Files are rewritten in place, as the kernel's are: a reader that keeps them open sees new values. As
on a real machine, zones are nested, and the root has a link to each. All zones are updated at one
moment: two with the same waveform and start show the same numbers, as the mirrored dies of some AMD
processors do. `client`, `server` and `amd` are complete machines.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from slm_energy.testing.waveform import Waveform, constant

Fault = Literal[
    "denied",
    "missing",
    "unreadable",
    "io_error",
    "lost",
    "empty",
    "truncated",
    "garbage",
    "negative",
    "huge",
    "frozen",
    "replaced",
    "backward",
    "reset",
]
"""Faults of a counter; see `PowercapTree.set_fault`."""

INTEL_RANGE_UJ = 262_143_328_850
"""`max_energy_range_uj` of many Intel processors: 2^32 steps of 61 uJ."""

AMD_RANGE_UJ = 65_532_610_987
"""The same of AMD processors: 2^32 steps of 15 uJ."""

_STEP_BACK_UJ = 10**6

UNREADABLE = {"denied": "/proc/sys/vm/drop_caches", "io_error": "/proc/self/mem"}
"""Real files that cannot be read, even by root: the kernel enforces the mode of its settings for
all users, and nothing is mapped at the start of a process's memory."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """One counter.

    Attributes:
        folder: `intel-rapl:0`, `intel-rapl:0:1`, `intel-rapl-mmio:0`, ...
        name: `package-0`, `core`, `uncore`, `dram`, `psys`.
        waveform: its power.
        range_uj: the counter's largest value; it wraps to zero after it.
        first_uj: value of the counter when the tree is entered.
    """

    folder: str
    name: str
    waveform: Waveform
    range_uj: int = INTEL_RANGE_UJ
    first_uj: int = 0


def client(package: Waveform) -> tuple[Zone, ...]:
    """A laptop: package with cores and uncore, memory, psys, and the package's MMIO copy."""
    return (
        Zone(folder="intel-rapl:0", name="package-0", waveform=package, first_uj=7 * 10**9),
        Zone(folder="intel-rapl:0:0", name="core", waveform=package.share(70)),
        Zone(folder="intel-rapl:0:1", name="uncore", waveform=package.share(10)),
        Zone(folder="intel-rapl:0:2", name="dram", waveform=package.share(15)),
        Zone(folder="intel-rapl:1", name="psys", waveform=package.share(150)),
        Zone(folder="intel-rapl-mmio:0", name="package-0", waveform=package, first_uj=7 * 10**9),
    )


def server(*packages: Waveform) -> tuple[Zone, ...]:
    """A server with one socket, and a memory zone in it, for each waveform."""
    zones = []
    for socket, package in enumerate(packages):
        top, first_uj = f"intel-rapl:{socket}", (socket + 1) * 10**9
        zones += [
            Zone(folder=top, name=f"package-{socket}", waveform=package, first_uj=first_uj),
            Zone(folder=f"{top}:0", name="dram", waveform=package.share(15), first_uj=first_uj),
        ]
    return tuple(zones)


def amd(package: Waveform, *, dies: int = 1) -> tuple[Zone, ...]:
    """An AMD socket: no memory zone, and `core` counts one core only.

    Args:
        package: the socket's power.
        dies: above 1, each has a zone that shows the whole socket's counter, as on Zen 1 and 2.
    """
    zones = []
    for die in range(dies):
        top, name = f"intel-rapl:{die}", "package-0" + (f"-die-{die}" if dies > 1 else "")
        core = constant(5)
        zones += [
            Zone(
                folder=top,
                name=name,
                waveform=package,
                range_uj=AMD_RANGE_UJ,
                first_uj=5 * 10**9,
            ),
            Zone(folder=f"{top}:0", name="core", waveform=core, range_uj=AMD_RANGE_UJ),
        ]
    return tuple(zones)


class PowercapTree:
    """The tree and the thread that drives it.

    Args:
        root: an existing folder, for `measurement.powercap_root`.
        zones: parents before their children.
        period_s: time between updates; about 1 ms in hardware.
        jitter: largest deviation of a period, as a share of it.
    """

    def __init__(
        self, root: Path, zones: Sequence[Zone], *, period_s: float = 0.005, jitter: float = 0.0
    ) -> None:
        self.root = root.absolute()
        self._zones = {zone.folder: zone for zone in zones}
        self._period_s = period_s
        self._jitter = jitter
        self._faults: dict[str, Fault] = {}
        self._shift_uj: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="powercap tree")
        self._longest_ns = 0

    def __enter__(self) -> PowercapTree:
        now = time.monotonic_ns()
        for folder, zone in self._zones.items():
            self._build(folder)
            self._shift_uj[folder] = zone.first_uj - zone.waveform.energy_pj(now) // 10**6
        self._publish()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def longest_pause_s(self) -> float:
        """Longest time between two updates so far: a busy machine may starve the thread."""
        return self._longest_ns / 1e9

    def file(self, folder: str) -> Path:
        """The counter's file."""
        return self.root / folder / "energy_uj"

    def set_fault(self, folder: str, fault: Fault | None) -> None:
        """Break a counter, or repair it with None. A broken counter continues to count, hidden.

        Reading fails, even for root: `denied` (EACCES), `missing` (ENOENT), `unreadable` (EISDIR),
        `io_error` (EIO), `lost` (ENOENT: the zone's folder is gone, with the zones inside it).
        The text is wrong: `empty`, `truncated` (the first half of the digits), `garbage`,
        `negative`, `huge` (beyond the range). The value is old: `frozen`; after its repair, a late
        update. Once, without repair: `replaced` (by another file), `backward` (it loses 1 J),
        `reset` (it starts from zero).
        """
        with self._lock:
            now = time.monotonic_ns()
            self._repair(folder, now)
            file, zone = self.file(folder), self._zones[folder]
            if fault == "reset":
                self._shift_uj[folder] = -(zone.waveform.energy_pj(now) // 10**6)
            elif fault == "backward":
                self._shift_uj[folder] -= _STEP_BACK_UJ
            elif fault == "replaced":
                file.unlink()
            self._publish_one(folder, now)
            if fault not in (None, "reset", "backward", "replaced"):
                self._faults[folder] = fault
            if fault in ("missing", "unreadable", *UNREADABLE):
                self._replace_file(file, fault)
            elif fault == "lost":
                self._remove_zone(folder)
            elif fault in ("empty", "truncated", "garbage", "negative", "huge"):
                # In place: a reader that keeps the file open sees it too.
                file.write_bytes(_wrong_text(fault, self._value(folder, now)))

    def _repair(self, folder: str, now: int) -> None:
        fault, file = self._faults.pop(folder, None), self.file(folder)
        if fault == "lost":
            for inside in self._inside(folder):
                self._build(inside)
                self._publish_one(inside, now)
        elif fault == "unreadable":
            file.rmdir()
        elif fault in UNREADABLE:
            file.unlink()

    def _replace_file(self, file: Path, fault: Fault) -> None:
        file.unlink()
        if fault == "unreadable":
            file.mkdir()
        elif fault in UNREADABLE:
            file.symlink_to(UNREADABLE[fault])

    def _remove_zone(self, folder: str) -> None:
        shutil.rmtree((self.root / folder).resolve())
        for inside in self._inside(folder):
            (self.root / inside).unlink()

    def _inside(self, folder: str) -> list[str]:
        return [name for name in self._zones if f"{name}:".startswith(f"{folder}:")]

    def _build(self, folder: str) -> None:
        control, *levels = folder.split(":")
        names = [":".join([control, *levels[: depth + 1]]) for depth in range(len(levels))]
        path = self.root.joinpath(control, *names)
        path.mkdir(parents=True)
        (self.root / folder).symlink_to(path)
        (path / "name").write_text(self._zones[folder].name + "\n")
        (path / "max_energy_range_uj").write_text(f"{self._zones[folder].range_uj}\n")

    def _drive(self) -> None:
        last, rng = time.monotonic_ns(), random.Random(0)
        while not self._stop.wait(self._period_s * (1 + rng.uniform(-self._jitter, self._jitter))):
            self._publish()
            now = time.monotonic_ns()
            self._longest_ns, last = max(self._longest_ns, now - last), now

    def _publish(self) -> None:
        with self._lock:
            lost = {
                name for top, f in self._faults.items() if f == "lost" for name in self._inside(top)
            }
            now = time.monotonic_ns()
            for folder in self._zones:
                if folder not in self._faults and folder not in lost:
                    self._publish_one(folder, now)

    def _publish_one(self, folder: str, now: int) -> None:
        publish(self.file(folder), self._value(folder, now))

    def _value(self, folder: str, now: int) -> int:
        zone = self._zones[folder]
        counted = zone.waveform.energy_pj(now) // 10**6
        return (counted + self._shift_uj[folder]) % (zone.range_uj + 1)


def _wrong_text(fault: Fault, value: int) -> bytes:
    digits = str(value)
    return {
        "empty": b"",
        "truncated": digits[: (len(digits) + 1) // 2].encode(),
        "garbage": b"?" * 20 + b"\n",
        "negative": b"-1\n",
        "huge": b"9" * 19 + b"\n",
    }[fault]


def publish(file: Path, value: int) -> None:
    """Write a sensor's value as the kernel shows it."""
    # Never follow a link: its target is a setting of this machine.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        # One write of constant length: a reader sees the old value or the new one.
        os.pwrite(descriptor, f"{value:<20}\n".encode(), 0)
    finally:
        os.close(descriptor)
