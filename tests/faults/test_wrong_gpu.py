"""GPUs that differ: what CUDA calls GPU 0 is not what NVML calls GPU 0."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.placement import on_metered_device
from slm_energy.devices import cuda
from slm_energy.meters.domains import cut
from slm_energy.meters.nvml.meter import open_nvml
from slm_energy.record import Series
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed, write_cuda_library
from slm_energy.testing.waveform import constant
from slm_energy.worker import interpreters
from tests.captures import a_capture

SLOW = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
FAST = "GPU-bbbbbbbb-0000-0000-0000-000000000002"
MACHINE = FakeNvml(
    gpus=(
        FakeGpu(uuid=SLOW, waveform=constant(30), name="NVIDIA Fake 10", speed=1),
        FakeGpu(uuid=FAST, waveform=constant(300), name="NVIDIA Fake 90", speed=9),
    )
)


def metered_series() -> tuple[Series, ...]:
    """What the sampler meters under the present variables, without readings."""
    with installed(MACHINE):
        meter = open_nvml(MeasurementConfig(name="test")).meter
        assert meter is not None
        sources, _ = cut([channel.source for channel in meter.channels])
        meter.close()
    return tuple(Series(source=s, before_ns=(), raw=(), after_ns=()) for s in sources)


@pytest.mark.parametrize(("as_a_worker", "proven"), [(True, True), (False, False)])
def test_the_wrong_card_is_never_metered_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_a_worker: bool, proven: bool
) -> None:
    """A worker gets the right one; a process without a worker's variables is found out."""
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    series = metered_series()
    if as_a_worker:
        _, variables = interpreters.command(None, [], tmp_path)
        monkeypatch.setenv("CUDA_DEVICE_ORDER", variables["CUDA_DEVICE_ORDER"])
    identity = cuda.identity(0, str(write_cuda_library(MACHINE, tmp_path)))
    capture = a_capture(series=series)
    capture = dataclasses.replace(capture, effective=capture.effective | identity)
    passed, detail = on_metered_device("cuda", capture)
    assert passed is proven, detail
    if not proven:
        assert detail.startswith(f"the runtime computes on {FAST}, but metered are {SLOW} NVIDIA")
