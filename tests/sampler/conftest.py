"""A sampling process on a powercap tree and GPUs that follow a known waveform."""

import time

import psutil
import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.record import Window
from slm_energy.sampler.client import Sampler, read_samples
from slm_energy.testing.nvml import FakeNvml, write_library
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import Waveform, constant

MS = 10**6
PERIOD_S = 0.02
BUSY = Waveform(steps=((70 * MS, 20_000), (110 * MS, 80_000)))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """What the sampling process finds: counters in a folder, GPUs in a fake libnvidia-ml."""

    def provide(*gpus):
        error = None if gpus else "LibraryNotFound"
        write_library(FakeNvml(gpus=gpus, init_error=error), tmp_path)
        return tmp_path / "powercap"

    (tmp_path / "powercap").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return provide


@pytest.fixture
def tree(machine):
    zones = (
        Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", waveform=BUSY),
    )
    with PowercapTree(machine(), zones, period_s=0.001) as tree:
        yield tree


def config(root, mode="auto"):
    return MeasurementConfig(name="test", mode=mode, period_s=PERIOD_S, powercap_root=str(root))


def sampler(root, tmp_path, mode="auto", **more):
    return Sampler(config(root, mode), tmp_path, **more)


def window(seconds):
    start = time.monotonic_ns()
    time.sleep(seconds)
    return Window(name="serve", start_ns=start, end_ns=time.monotonic_ns())


def figures(file, window):
    series, report = read_samples(file)
    found = [account(s, window, max_gap_ns=1000 * MS) for s in series if s.source.kind != "gauge"]
    return {figure.source_id: figure for figure in found}, report


def holds(figure, tree, joules, most_w):
    """The truth lies in the interval, but for what the fake published late."""
    late_j = most_w * tree.longest_pause_s
    return figure.low_j - late_j <= joules <= figure.high_j + late_j


def gone(pid):
    """A process that has ended, waited for or not."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
