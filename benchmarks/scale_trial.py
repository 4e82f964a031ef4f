"""Does a large or a long trial cost memory or disk?

    python benchmarks/scale_trial.py [--prompts 1000 4000 10000] [--hours 2]

trials   peak memory of worker, sampler and sweep for workloads of that many prompts x 64 tokens on
         the scripted engine, with one pass and with several; the artifacts of each
capture  artifacts of a trial of that many hours on a machine with 4 RAPL domains, 8 GPUs and all
         gauges, read at full rate. The recording's own code reads simulated sensors by a simulated
         clock: their number, kinds and update periods are those of the shipped fakes
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import psutil

from slm_energy.cell import Cell, Trial
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive import metrics
from slm_energy.models.folder import BUNDLED_MODEL
from slm_energy.planning.grid import resolve
from slm_energy.record import Capture, Window
from slm_energy.running import trial as trials
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.sampler.open_meters import Instruments, open_instruments
from slm_energy.sampler.recording import Recording
from slm_energy.store import artifacts
from slm_energy.testing import CONF
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

TOKENS = 64
MOST_GROWTH_KB = 1000
"""Of worker and sampler, per pass of 1,000 prompts: what an answer of 64 tokens takes in a file,
and a fifth of what it takes as Python's objects. Two equal runs differ by 300 kB."""
MOST_ARTIFACT_MB = 100
DOMAINS = ("package-0", "core", "uncore", "dram")
S = 10**9


def zones() -> tuple[Zone, ...]:
    """One socket with all its domains."""
    subs = [f":{number}" for number in range(len(DOMAINS) - 1)]
    folders = ["intel-rapl:0", *(f"intel-rapl:0{sub}" for sub in subs)]
    return tuple(
        Zone(folder=folder, name=name, waveform=constant(40))
        for folder, name in zip(folders, DOMAINS, strict=True)
    )


def peak_mb() -> float:
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Peak MB of the workers and samplers that this process starts, while the block runs."""
    peaks, over = {"worker": 0.0, "sampler": 0.0}, threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for child in psutil.Process().children():
                try:
                    words = " ".join(child.cmdline())
                    status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                except (psutil.Error, OSError):
                    continue
                role = "worker" if "slm_energy.worker serve" in words else "sampler"
                for line in status.splitlines():
                    if line.startswith("VmHWM") and "slm_energy" in words:
                        peaks[role] = max(peaks[role], int(line.split()[1]) / 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def one_trial(prompts: int, serve_s: float, folder: Path) -> dict[str, float]:
    """Run a trial as a sweep does; peak MB, seconds, passes, and the size of its artifacts."""
    workload = folder / "prompts.jsonl"
    rows = ({"task_id": f"t{n}", "prompt": f"def f{n}(x):\n    # {n}"} for n in range(prompts))
    workload.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with PowercapTree(folder / "powercap", zones(), period_s=0.001) as tree, watched() as peaks:
        words = [
            *("--config-dir", str(CONF), "engine=scripted", "engine.options.token_s=0"),
            *(f"workload.source={workload}", "workload.limit=null", "study.reference=null"),
            *(f"workload.new_tokens={TOKENS}", f"measurement.serve_s={serve_s}"),
            *("measurement.baseline_s=0.5", f"measurement.powercap_root={tree.root}"),
        ]
        (cell,) = resolve(compose_grid(words)).cells
        place = folder / "trial"
        place.mkdir()
        begun = time.monotonic()
        with Sampler(cell.settings.measurement, folder) as sampler:
            record = trials.run(a_trial(cell, folder), place, sampler, lambda phase, share: None)
    asked = trials.asked(place)
    artifacts.write(place, record, asked)
    took_s = time.monotonic() - begun
    if record.outcome.name == "failed":
        raise SystemExit(record.outcome.reasons[0])
    return {
        **peaks,
        "sweep": peak_mb(),
        "seconds": took_s,
        "passes": record.metrics["tokens/passes"],
        "capture_mb": (place / artifacts.GENERATIONS).stat().st_size / 1e6,
        "table_mb": (place / artifacts.TABLE).stat().st_size / 1e6,
    }


def a_trial(cell: Cell, folder: Path) -> Trial:
    """The only trial of a study."""
    names = dict.fromkeys(("id", "study", "sweep", "label"), "benchmark")
    numbers = dict.fromkeys(("round", "order", "attempt"), 1)
    paths = {"model_path": str(BUNDLED_MODEL), "cache_path": str(folder / "cache")}
    return Trial(**names, **numbers, **paths, cell=cell, timeout_s=3600.0)


class Simulation:
    """A clock, and sensors that follow it: what each showed at first, rising or a little noisy."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()
        self._random = random.Random(0)

    def monotonic_ns(self) -> int:
        """Some microseconds after the last look."""
        self.now_ns += 5_000
        return self.now_ns

    def instruments(self, real: Instruments) -> Instruments:
        """The same channels, without meters to be told of a process."""
        for meter in real.meters:
            meter.watch(os.getpid())
        for channel in real.channels:
            channel.row()  # loads are known from the second reading on
        time.sleep(1)
        channels = [
            dataclasses.replace(channel, read=self._reader(channel.read(), channel.source.kind))
            for channel in real.channels
        ]
        return Instruments(meters=(), channels=tuple(channels), notes=real.notes)

    def _reader(self, first: int | float, kind: str) -> Callable[[], int | float]:
        begun_ns, noise = self.now_ns, self._random

        def counter() -> int:
            """40 W in uJ or mJ, with bursts; read at any moment, so that its steps differ."""
            return int(first) + round((self.now_ns - begun_ns) * 4e-5 + 1000 * noise.random())

        def value() -> int | float:
            shown = first * (1 + 0.05 * noise.random())
            return round(shown) if isinstance(first, int) else round(shown, 1)

        return counter if kind == "counter" else value


def long_capture(hours: float, folder: Path) -> dict[str, float]:
    """Record so many simulated hours, derive and store; sizes in MB."""
    gpus = tuple(FakeGpu(uuid=f"GPU-{n}", waveform=constant(300)) for n in range(8))
    samples = folder / "samples.jsonl"
    with (
        PowercapTree(folder / "powercap", zones(), period_s=0.001) as tree,
        installed(FakeNvml(gpus=gpus)),
    ):
        measurement = MeasurementConfig(name="auto", powercap_root=str(tree.root))
        real = open_instruments(measurement)
        clock = Simulation()
        instruments = clock.instruments(real)
        real.close()
    begun_ns = clock.now_ns
    with (
        mock.patch("slm_energy.sampler.recording.time.monotonic_ns", clock.monotonic_ns),
        mock.patch("slm_energy.sampler.channels.time.monotonic_ns", clock.monotonic_ns),
    ):
        recording = Recording(instruments, (), period_s=None, pid=1, path=samples)
        start_ns, end_ns = begun_ns + S, begun_ns + round(hours * 3600 * S)
        while clock.now_ns < end_ns:
            clock.now_ns += round(1e9 * recording.wait_s())
            recording.tick()
        recording.finish(lambda: None)
        while not recording.closed:
            clock.now_ns += round(1e9 * recording.wait_s())
            recording.tick()
    recorded_mb = peak_mb()
    series, report = read_samples(samples)
    (cell,) = resolve(compose_grid(["--config-dir", str(CONF), "engine=scripted"])).cells
    trial = a_trial(cell, folder)
    serve = Window(name="serve", start_ns=start_ns, end_ns=end_ns - S, passes=1)
    capture = Capture(
        windows=(serve,),
        generations=(),
        effective={"provider": "cpu"},
        environment={},
        clock=trials.read_clocks(),
        series=series,
        sampler=report,
    )
    energy = metrics.energy_figures(capture, cell.settings.measurement)
    record = dataclasses.replace(trials.derive(trial, capture, 0), energy=energy)
    place = folder / "artifacts"
    place.mkdir()
    artifacts.write(place, record, {})
    files = [file.stat().st_size for file in place.rglob("*") if file.is_file()]
    return {
        "sources": len(series),
        "readings": sum(len(one.raw) for one in series),
        "exchange_mb": samples.stat().st_size / 1e6,
        "readings_mb": (place / artifacts.READINGS).stat().st_size / 1e6,
        "artifacts_mb": sum(files) / 1e6,
        "recording": recorded_mb,
        "sweep": peak_mb(),
    }


def apart(*words: str) -> dict[str, float]:
    """Run one part in a process of its own, whose peak is its own."""
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, nargs="*", default=[1000, 4000, 10_000])
    parser.add_argument("--hours", type=float, default=2.0, help="of the capture; 0 makes none")
    parser.add_argument("--one", type=float, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--long", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.one is not None:
            print(json.dumps(one_trial(int(asked.one[0]), asked.one[1], Path(folder))))
            return
        if asked.long is not None:
            print(json.dumps(long_capture(asked.long, Path(folder))))
            return
    good, seen = True, list[dict[str, float]]()
    print(f"{'prompts':>8}{'passes':>7}{'s':>7}{'worker MB':>11}{'sampler':>9}{'sweep':>7}"
          f"{'generations.parquet':>21}{'table':>7}")  # fmt: skip
    for prompts in [*asked.prompts, *asked.prompts[:1]]:
        found = apart("--one", str(prompts), "30" if seen and prompts == asked.prompts[0] else "0")
        seen.append(found)
        print(
            f"{prompts:>8}{found['passes']:>7.0f}{found['seconds']:>7.1f}{found['worker']:>11.1f}"
            f"{found['sampler']:>9.1f}{found['sweep']:>7.1f}{found['capture_mb']:>18.2f} MB"
            f"{found['table_mb']:>7.1f}",
            flush=True,
        )
    if seen:
        first, last = seen[0], seen[-1]
        more = max(1, last["passes"] - first["passes"])
        for role in ("worker", "sampler", "sweep"):
            growth_kb = (last[role] - first[role]) * 1024 / more * 1000 / asked.prompts[0]
            missed = role != "sweep" and growth_kb > MOST_GROWTH_KB
            good &= not missed
            verdict = "  MISSED" if missed else ""
            print(f"{role} grows by {growth_kb:.1f} kB per pass of 1,000 prompts{verdict}")
    if asked.hours:
        found = apart("--long", str(asked.hours))
        good &= found["artifacts_mb"] <= MOST_ARTIFACT_MB
        print(
            f"{asked.hours:g} hours, {found['sources']:.0f} sources, {found['readings']:,.0f}"
            f" readings: samples.jsonl {found['exchange_mb']:.1f} MB, readings.parquet"
            f" {found['readings_mb']:.1f} MB, all artifacts {found['artifacts_mb']:.1f} MB; peak of"
            f" the recording {found['recording']:.0f} MB, of deriving {found['sweep']:.0f} MB"
        )
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
