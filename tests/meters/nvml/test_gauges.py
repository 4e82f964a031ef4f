"""Gauges of NVIDIA GPUs: utilization, clocks, throttling."""

import pytest

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
        "gpu_0_trial_processes": (0, "count", "gpu_trial_processes"),
    }


@pytest.mark.parametrize(
    ("function", "gauges"),
    [
        (POWER, {"gpu_0_power_usage_watts"}),
        ("nvmlDeviceGetUtilizationRates", {"gpu_0_utilization_percentage"}),
        ("nvmlDeviceGetClockInfo", {"gpu_0_sm_clock_megahertz"}),
        (
            "nvmlDeviceGetComputeRunningProcesses",
            {"gpu_0_foreign_processes", "gpu_0_trial_processes"},
        ),
    ],
)
@pytest.mark.parametrize("error", ["NotSupported", "NoPermission", "FunctionNotFound"])
def test_a_gauge_that_a_gpu_does_not_have_is_absent(error, function, gauges):
    with metered(FIRST) as whole, metered(first(errors={function: error})) as gpu:
        assert set(whole.sources) - set(gpu.sources) == gauges


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
