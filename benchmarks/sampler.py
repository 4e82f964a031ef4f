"""What the sampling process costs, and what a greedy workload can do to it.

    python benchmarks/sampler.py [--seconds 20]

The first table has the processor time of the process, in percent of one core, at the default
period: with fake counters of a laptop's processor and with a fake GPU, by their update period. The
second has the largest gap between two readings that were asked for every 10 ms: of a thread inside
a workload, and of our process beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from slm_energy.config.groups import MeasurementConfig
from slm_energy.record import SamplerReport
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.testing.nvml import FakeGpu, FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, client
from slm_energy.testing.waveform import Waveform

MS = 10**6
LOAD = Waveform(steps=((370 * MS, 60_000), (930 * MS, 300_000), (410 * MS, 180_000)))
PERIOD_S = 0.01

WORKLOADS = {
    "sleeps": "time.sleep(0.1)",
    "Python loop": "sum(range(10**6))",
    "C call that keeps the lock, 0.3 s": "ctypes.PyDLL(None).usleep(300_000)",
    "long integers": "7 ** 2_000_000",
    "regular expression": "re.match('(a*)*b', 'a' * 22)",
}
_WORKER = """
import ctypes, json, re, sys, threading, time
file, until, longest, last = open(sys.argv[1]), time.monotonic() + float(sys.argv[2]), 0.0, None
def sample():
    global longest, last
    while time.monotonic() < until:
        file.seek(0)
        file.read()
        now = time.monotonic()
        longest, last = max(longest, now - (last or now)), now
        time.sleep({period_s})
thread = threading.Thread(target=sample)
thread.start()
while time.monotonic() < until:
    {work}
thread.join()
print(json.dumps(longest))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    seconds = parser.parse_args().seconds
    print(f"{'fake sensors':<40}{'% of a core':>12}{'shortest period, s':>20}{'latest, ms':>12}")
    for period_ms in (1, 5, 20, 100):
        with tempfile.TemporaryDirectory() as folder:
            report = _processor_cost(Path(folder), period_ms, seconds)
        _print_cost(f"6 counters renewed every {period_ms} ms", report)
    for period_ms in (20, 100):
        with tempfile.TemporaryDirectory() as folder:
            report = _gpu_cost(Path(folder), period_ms, seconds)
        _print_cost(f"GPU: counter and power every {period_ms} ms", report)
    print(f"\n{'workload':<40}{'gap of a thread, ms':>20}{'of our process, ms':>20}")
    for name, work in WORKLOADS.items():
        _print_gaps(name, work, seconds / 2)
    with _busy(2 * (os.cpu_count() or 1)):
        _print_gaps("two busy processes per processor", "sum(range(10**6))", seconds / 2)


def _processor_cost(folder: Path, period_ms: int, seconds: float) -> SamplerReport:
    with _tree(folder, period_ms) as root:
        return _sample(_measurement(root), folder, seconds)


def _gpu_cost(folder: Path, period_ms: int, seconds: float) -> SamplerReport:
    gpu = FakeGpu(
        uuid="GPU-1",
        waveform=LOAD,
        counter_period_ns=period_ms * MS,
        power_period_ns=period_ms * MS,
    )
    before = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = str(write_library(FakeNvml(gpus=(gpu,)), folder))
    try:
        return _sample(_measurement(folder / "no powercap"), folder, seconds)
    finally:
        del os.environ["LD_LIBRARY_PATH"]
        if before is not None:
            os.environ["LD_LIBRARY_PATH"] = before


def _measurement(root: Path, period_s: float | None = None) -> MeasurementConfig:
    return MeasurementConfig(name="benchmark", powercap_root=str(root), period_s=period_s)


def _sample(measurement: MeasurementConfig, folder: Path, seconds: float) -> SamplerReport:
    with Sampler(measurement, folder) as sampler:
        sampler.begin(os.getpid(), folder / "samples.jsonl")
        time.sleep(seconds)
        sampler.end()
    return read_samples(folder / "samples.jsonl")[1]


def _print_cost(name: str, report: SamplerReport) -> None:
    assert report.cpu_s is not None
    assert report.wall_s is not None
    assert report.largest_pause_s is not None
    share = 100 * report.cpu_s / report.wall_s
    print(f"{name:<40}{share:>12.2f}{report.period_s:>20.3f}{1000 * report.largest_pause_s:>12.1f}")


def _print_gaps(name: str, work: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with _tree(folder, 5) as root, Sampler(_measurement(root, PERIOD_S), folder) as sampler:
            sampler.begin(os.getpid(), folder / "samples.jsonl")
            code = _WORKER.format(work=work, period_s=PERIOD_S)
            counter = str(root / "intel-rapl:0" / "energy_uj")
            done = subprocess.run(
                [sys.executable, "-c", code, counter, str(seconds)],
                check=True,
                capture_output=True,
                text=True,
            )
            sampler.end()
        counters = read_samples(folder / "samples.jsonl")[0][0]
    ours_ns = max(later - earlier for earlier, later in pairwise(counters.before_ns))
    print(f"{name:<40}{1000 * json.loads(done.stdout):>20.1f}{ours_ns / 1e6:>20.1f}")


@contextlib.contextmanager
def _tree(folder: Path, period_ms: int) -> Iterator[Path]:
    root = folder / "powercap"
    root.mkdir()
    with PowercapTree(root, client(LOAD), period_s=period_ms / 1000):
        yield root


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
