"""Which GPU an index of CUDA's means, on machines whose GPUs differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.devices import cuda
from slm_energy.devices.nvidia import visible_devices
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed, write_cuda_library
from slm_energy.testing.waveform import constant
from slm_energy.worker import interpreters

SLOW_UUID = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
FAST_UUID = "GPU-bbbbbbbb-0000-0000-0000-000000000002"
MIG_UUID = "MIG-cccccccc-0000-0000-0000-000000000003"
SLOW = FakeGpu(uuid=SLOW_UUID, waveform=constant(30), name="NVIDIA Fake 10", speed=1)
FAST = FakeGpu(uuid=FAST_UUID, waveform=constant(300), name="NVIDIA Fake 90", speed=9)
UNEQUAL = FakeNvml(gpus=(SLOW, FAST))


def seen_by_cuda(machine: FakeNvml, folder: Path) -> list[object]:
    """UUIDs of CUDA's GPUs 0 and 1 under the present variables; fewer where there are fewer."""
    library = str(write_cuda_library(machine, folder))
    found = [cuda.identity(index, library) for index in (0, 1)]
    return [each["device_uuid"] for each in found if each]


@pytest.fixture(autouse=True)
def _every_gpu_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("visible", [None, "0", "1", "1,0", FAST_UUID, "GPU-bb,0"])
@pytest.mark.parametrize("order", [None, "FASTEST_FIRST", "PCI_BUS_ID"])
def test_a_worker_numbers_gpus_as_the_meters_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, order: str | None
) -> None:
    """Whatever the user's shell says about their order."""
    for name, value in {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with installed(UNEQUAL):
        metered = [device.uuid for device in visible_devices()]
    _, variables = interpreters.command(None, [], tmp_path)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", variables["CUDA_DEVICE_ORDER"])
    assert seen_by_cuda(UNEQUAL, tmp_path) == metered


def test_cuda_by_itself_numbers_the_fastest_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fault that the variable prevents: index 0 is not NVML's GPU 0."""
    assert seen_by_cuda(UNEQUAL, tmp_path) == [FAST_UUID, SLOW_UUID]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert seen_by_cuda(UNEQUAL, tmp_path) == [FAST_UUID]


def test_a_mig_device_has_a_uuid_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    divided = FakeGpu(uuid=FAST_UUID, waveform=constant(300), mig_devices=(MIG_UUID,))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG_UUID)
    machine = FakeNvml(gpus=(SLOW, divided))
    assert seen_by_cuda(machine, tmp_path) == [MIG_UUID.replace("MIG-", "GPU-")]


def test_without_the_drivers_library_nothing_is_said() -> None:
    assert cuda.identity(0, "libcuda-of-no-driver.so.1") == {}
