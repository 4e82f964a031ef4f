"""Open NVML meters on a fake libnvidia-ml."""

import dataclasses
from contextlib import contextmanager

import pynvml
import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.meters.nvml.meter import open_nvml
from slm_energy.testing.nvml import (
    COUNTER,
    POWER,
    POWER_INSTANT,
    FakeGpu,
    FakeNvml,
    installed,
)
from slm_energy.testing.waveform import constant
from tests.metering import read, sources

CONFIG = MeasurementConfig(name="test")
FIRST = FakeGpu(uuid="GPU-aaaa", waveform=constant(70))
SECOND = FakeGpu(uuid="GPU-bbbb", waveform=constant(30))
REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
READINGS = (COUNTER, POWER, POWER_INSTANT, REASONS, "nvmlDeviceGetCurrentClocksThrottleReasons")
READINGS += ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature")
READINGS += ("nvmlDeviceGetClockInfo", "nvmlDeviceGetComputeRunningProcesses")
MUTE = dict.fromkeys(READINGS, "NotSupported")


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def first(**changes):
    return dataclasses.replace(FIRST, **changes)


class Metered:
    """An open meter, read by the ids of its sources; `change` the GPUs while it is open."""

    def __init__(self, fake):
        opened = open_nvml(CONFIG)
        self._fake, self.meter, self.notes = fake, opened.meter, opened.notes
        self.sources = {source.id: source for source in sources(self.meter)}

    def read(self, name):
        return read(self.meter, name)

    def change(self, *gpus):
        self._fake.change(FakeNvml(gpus=gpus))

    @property
    def energy(self):
        return [source.id for source in self.sources.values() if source.kind != "gauge"]


@contextmanager
def metered(*gpus):
    with installed(FakeNvml(gpus=gpus)) as fake:
        found = Metered(fake)
        yield found
        found.meter.close()
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlShutdown()
