"""Gauges of NVIDIA GPUs: utilization, throttling, processes of others."""

import os
import subprocess
import sys

import pytest

from slm_energy.meters.base import ReadFailed
from slm_energy.testing.nvml import (
    POWER,
)
from tests.meters.nvml.conftest import FIRST, REASONS, SECOND, first, metered


def test_gauges_have_their_names_and_units():
    with metered(first(temperature_c=81, sm_clock_mhz=990), SECOND) as gpus:
        read = {
            name: (gpus.read(name), source.unit, source.domain)
            for name, source in gpus.sources.items()
            if source.kind == "gauge" and name.startswith("gpu_0")
        }
        assert "gpu_1_utilization_percentage" in gpus.sources
    assert read == {
        "gpu_0_power_usage_watts": (70.0, "W", "gpu_power_usage"),
        "gpu_0_utilization_percentage": (40, "pct", "gpu_utilization"),
        "gpu_0_memory_usage_megabytes": (2000.0, "MB", "gpu_memory_usage"),
        "gpu_0_temperature_celsius": (81, "C", "gpu_temperature"),
        "gpu_0_sm_clock_megahertz": (990, "MHz", "gpu_sm_clock"),
        "gpu_0_throttled": (0, "count", "gpu_throttled"),
        "gpu_0_foreign_processes": (0, "count", "gpu_foreign_processes"),
    }


@pytest.mark.parametrize(
    ("function", "gauge"),
    [
        (POWER, "gpu_0_power_usage_watts"),
        ("nvmlDeviceGetUtilizationRates", "gpu_0_utilization_percentage"),
        ("nvmlDeviceGetClockInfo", "gpu_0_sm_clock_megahertz"),
        ("nvmlDeviceGetComputeRunningProcesses", "gpu_0_foreign_processes"),
    ],
)
@pytest.mark.parametrize("error", ["NotSupported", "NoPermission", "FunctionNotFound"])
def test_a_gauge_that_a_gpu_does_not_have_is_absent(error, function, gauge):
    with metered(FIRST) as whole, metered(first(errors={function: error})) as gpu:
        assert set(whole.sources) - set(gpu.sources) == {gauge}


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        (0x00, 0),  # none
        (0x01, 0),  # idle
        (0x02, 0),  # clocks that somebody set
        (0x04, 0),  # power limit: normal at full load
        (0x08, 1),  # hardware slowdown
        (0x20, 1),  # software, heat
        (0x40, 1),  # hardware, heat
        (0x80, 1),  # power brake
        (0x24, 1),  # power limit and heat
    ],
)
@pytest.mark.parametrize("errors", [{}, {REASONS: "FunctionNotFound"}])
def test_throttling_is_heat_and_power_brake_in_new_and_old_drivers(errors, reasons, throttled):
    with metered(first(event_reasons=reasons, errors=errors)) as gpu:
        assert gpu.read("gpu_0_throttled") == throttled


@pytest.fixture
def child():
    """A process of ours, with a child of its own; gives both ids."""
    code = """if True:
        import subprocess, sys
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as below:
            print(below.pid, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process.pid, int(process.stdout.readline())
        process.communicate("\n")


def test_processes_of_others_are_counted(child):
    worker, below = child
    with metered(first(processes=(os.getpid(), worker, below)), SECOND) as gpus:
        assert gpus.read("gpu_0_foreign_processes") == 3
        gpus.meter.watch(worker)
        assert gpus.read("gpu_0_foreign_processes") == 1
        gpus.meter.watch(os.getpid())
        assert gpus.read("gpu_0_foreign_processes") == 0
        assert gpus.read("gpu_1_foreign_processes") == 0


def test_a_process_that_cannot_be_looked_up_is_not_called_foreign():
    no_such_process = 2**30
    with metered(first(processes=(no_such_process,))) as gpu:
        gpu.meter.watch(os.getpid())
        with pytest.raises(ReadFailed, match=rf"process {no_such_process} on the GPU .*--pid=host"):
            gpu.read("gpu_0_foreign_processes")
