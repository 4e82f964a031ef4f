"""The double of pynvml is coherent, and fails as asked."""

import subprocess
import sys
import time

import pytest

from slm_energy.testing.nvml import FakeGpu, FakeNvml, build, installed, write_module
from slm_energy.testing.waveform import constant

GPU = FakeGpu(uuid="GPU-1", waveform=constant(70))


def test_counter_and_power_come_from_one_waveform():
    nvml = build(FakeNvml(gpus=(GPU,)))
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    start, first = time.monotonic_ns(), nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    time.sleep(0.1)
    last, end = nvml.nvmlDeviceGetTotalEnergyConsumption(handle), time.monotonic_ns()
    assert nvml.nvmlDeviceGetPowerUsage(handle) == 70_000
    assert last - first == pytest.approx(70 * (end - start) / 1e6, abs=70 * 20 + 1)


def test_errors_are_of_the_class_of_their_code():
    gpu = FakeGpu(
        uuid="GPU-1", waveform=constant(70), errors={"nvmlDeviceGetPowerUsage": "GpuIsLost"}
    )
    nvml = build(FakeNvml(gpus=(gpu,)))
    with pytest.raises(nvml.NVMLError_GpuIsLost, match="GpuIsLost") as caught:
        nvml.nvmlDeviceGetPowerUsage(nvml.nvmlDeviceGetHandleByIndex(0))
    assert isinstance(caught.value, nvml.NVMLError)


def test_a_machine_may_have_no_driver():
    nvml = build(FakeNvml(gpus=(), init_error="LibraryNotFound"))
    with pytest.raises(nvml.NVMLError, match="LibraryNotFound"):
        nvml.nvmlInit()


def test_it_is_installed_for_a_while():
    real = sys.modules.get("pynvml")
    with installed(FakeNvml(gpus=(GPU,))) as double:
        assert sys.modules["pynvml"] is double
    assert sys.modules.get("pynvml") is real


def test_child_processes_can_import_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(write_module(FakeNvml(gpus=(GPU,)), tmp_path)))
    code = "import pynvml; print(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "GPU-1\n"
