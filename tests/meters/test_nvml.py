"""NVML sources against a coherent double."""

import pytest

from slm_energy.config import MeasurementConfig
from slm_energy.errors import MeterError
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.nvml import Device, open_nvml, visible_devices
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.waveform import constant

CONFIG = MeasurementConfig(name="test")
FIRST = FakeGpu(uuid="GPU-aaaa", waveform=constant(70))
SECOND = FakeGpu(uuid="GPU-bbbb", waveform=constant(30))
NO_COUNTER = {"nvmlDeviceGetTotalEnergyConsumption": "NotSupported"}
NO_INSTANT = {"NVML_FI_DEV_POWER_INSTANT": "NotSupported"}


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def sources(*gpus):
    with installed(FakeNvml(gpus=gpus)):
        return {source.id: source for source in open_nvml(CONFIG).meter.sources}


def test_the_counter_is_summed_and_power_is_read_beside_it():
    found = sources(FIRST)
    counter, power = found["nvml/GPU-aaaa/energy"], found["nvml/GPU-aaaa/power"]
    assert (counter.kind, counter.unit, counter.summed) == ("counter", "mJ", True)
    assert (power.kind, power.unit, power.summed) == ("power", "mW", False)
    assert power.path == "NVML_FI_DEV_POWER_INSTANT"


def test_without_a_counter_power_is_summed():
    found = sources(FakeGpu(uuid="GPU-aaaa", waveform=constant(70), errors=NO_COUNTER))
    assert [name for name, source in found.items() if source.summed] == ["nvml/GPU-aaaa/power"]


def test_a_counter_that_is_always_zero_is_none():
    found = sources(FakeGpu(uuid="GPU-aaaa", waveform=constant(0)))
    assert "nvml/GPU-aaaa/energy" not in found


def test_averaged_power_is_told_from_instantaneous():
    found = sources(FakeGpu(uuid="GPU-aaaa", waveform=constant(70), errors=NO_INSTANT))
    power = found["nvml/GPU-aaaa/power"]
    assert (power.path, power.update_period_ns) == ("nvmlDeviceGetPowerUsage", 10**9)


def test_gauges_have_the_names_of_system_metrics():
    gauges = [name for name, source in sources(FIRST).items() if source.kind == "gauge"]
    assert gauges == [
        "gpu_0_power_usage_watts",
        "gpu_0_utilization_percentage",
        "gpu_0_memory_usage_megabytes",
        "gpu_0_temperature_celsius",
    ]


def test_values_come_in_the_units_of_their_sources():
    with installed(FakeNvml(gpus=(FIRST,))):
        meter = open_nvml(CONFIG).meter
        read = {source.id: meter.read(place) for place, source in enumerate(meter.sources)}
        meter.close()
    assert read["nvml/GPU-aaaa/power"] == 70_000
    assert read["gpu_0_power_usage_watts"] == 70.0
    assert read["gpu_0_utilization_percentage"] == 40
    assert read["gpu_0_memory_usage_megabytes"] == 2000.0
    assert read["gpu_0_temperature_celsius"] == 45


def test_a_gauge_that_a_gpu_does_not_have_is_absent():
    lacks = {"nvmlDeviceGetUtilizationRates": "NotSupported"}
    found = sources(FakeGpu(uuid="GPU-aaaa", waveform=constant(70), errors=lacks))
    assert "gpu_0_utilization_percentage" not in found


@pytest.mark.parametrize("visible", ["1", "GPU-bbbb", "GPU-b"])
def test_only_visible_gpus_are_metered_and_the_others_named(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with installed(FakeNvml(gpus=(FIRST, SECOND))):
        opened = open_nvml(CONFIG)
        assert visible_devices() == [Device(index=1, uuid="GPU-bbbb", name="NVIDIA Fake 100")]
    assert "nvml/GPU-bbbb/energy" in {source.id for source in opened.meter.sources}
    assert "nvml/GPU-aaaa/energy" not in {source.id for source in opened.meter.sources}
    assert opened.notes == ("nvml: GPU 0 (NVIDIA Fake 100) is hidden and not metered",)


def test_visible_devices_keep_the_order_asked_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with installed(FakeNvml(gpus=(FIRST, SECOND))):
        assert [device.index for device in visible_devices()] == [1, 0]


def test_an_unknown_entry_hides_the_rest_as_cuda_does(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7,1")
    with installed(FakeNvml(gpus=(FIRST, SECOND))):
        assert [device.index for device in visible_devices()] == [0]
        assert "'7' is no GPU" in open_nvml(CONFIG).notes[0]


def test_indices_are_ambiguous_where_gpus_differ(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    other = FakeGpu(uuid="GPU-cccc", waveform=constant(30), name="NVIDIA Fake 50")
    with installed(FakeNvml(gpus=(FIRST, other))):
        assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in open_nvml(CONFIG).notes[0]


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_no_gpus(monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with installed(FakeNvml(gpus=(FIRST,))):
        assert open_nvml(CONFIG).meter is None
        with pytest.raises(MeterError, match=f"CUDA_VISIBLE_DEVICES={visible}"):
            visible_devices()


def test_without_a_driver_the_reason_is_given():
    with installed(FakeNvml(gpus=(), init_error="LibraryNotFound")):
        opened = open_nvml(CONFIG)
        with pytest.raises(MeterError, match=r"no NVIDIA driver answers \(LibraryNotFound\)"):
            visible_devices()
    assert opened.meter is None
    assert opened.notes[0].startswith("nvml: no NVIDIA driver answers")


def test_a_gpu_that_is_lost_meanwhile_is_a_failed_reading():
    lost = {"nvmlDeviceGetTotalEnergyConsumption": "GpuIsLost"}
    gpu = FakeGpu(uuid="GPU-aaaa", waveform=constant(70))
    with installed(FakeNvml(gpus=(gpu,))):
        meter = open_nvml(CONFIG).meter
        gpu.errors.update(lost)
        with pytest.raises(ReadFailed, match="GpuIsLost"):
            meter.read(0)
        meter.close()


def test_a_gpu_that_is_lost_from_the_start_stays_in_the_sum_and_fails():
    everything = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage")
    errors = dict.fromkeys((*everything, *NO_INSTANT), "GpuIsLost")
    gpu = FakeGpu(uuid="GPU-aaaa", waveform=constant(70), errors=errors)
    with installed(FakeNvml(gpus=(gpu,))):
        meter = open_nvml(CONFIG).meter
        assert [source.id for source in meter.sources if source.summed] == ["nvml/GPU-aaaa/energy"]
        with pytest.raises(ReadFailed, match="GpuIsLost"):
            meter.read(0)
        meter.close()
