"""Which GPU an index of CUDA's means, on machines whose GPUs differ."""

from __future__ import annotations

import json
import subprocess
import sys
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

SHOW = (
    "import json, sys; from slm_energy.devices import cuda\n"
    "print(json.dumps([cuda.identity(index, sys.argv[1]) for index in (0, 1)]))"
)


def seen_by_cuda(machine: FakeNvml, folder: Path, variables: dict[str, str]) -> list[str | None]:
    """UUIDs of CUDA's GPUs 0 and 1 in a process with these variables; None where there is none."""
    library = write_cuda_library(machine, folder)
    command = [sys.executable, "-c", SHOW, str(library)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return [each.get("device_uuid") for each in json.loads(done.stdout)]


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
    _, variables = interpreters.command(None, [], tmp_path)
    with installed(UNEQUAL):
        metered = [device.uuid for device in visible_devices()]
    in_cuda = [uuid for uuid in seen_by_cuda(UNEQUAL, tmp_path, variables) if uuid]
    assert in_cuda == metered


def test_cuda_by_itself_numbers_the_fastest_first(tmp_path: Path) -> None:
    """The fault that the variable prevents: index 0 is not NVML's GPU 0."""
    assert seen_by_cuda(UNEQUAL, tmp_path, {}) == [FAST_UUID, SLOW_UUID]
    assert seen_by_cuda(UNEQUAL, tmp_path, {"CUDA_VISIBLE_DEVICES": "0"}) == [FAST_UUID, None]


def test_a_mig_device_has_a_uuid_of_its_own(tmp_path: Path) -> None:
    divided = FakeGpu(uuid=FAST_UUID, waveform=constant(300), mig_devices=(MIG_UUID,))
    variables = {"CUDA_VISIBLE_DEVICES": MIG_UUID}
    seen, _ = seen_by_cuda(FakeNvml(gpus=(SLOW, divided)), tmp_path, variables)
    assert seen == MIG_UUID.replace("MIG-", "GPU-")


def test_without_the_drivers_library_nothing_is_said() -> None:
    assert cuda.identity(0, "libcuda-of-no-driver.so.1") == {}
