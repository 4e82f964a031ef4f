import pytest

from slm_energy.devices import nvidia
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.waveform import constant


@pytest.fixture(autouse=True)
def _every_gpu_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


ONE_GPU = FakeNvml(gpus=(FakeGpu(uuid="GPU-1", waveform=constant(70)),))


def test_a_visible_gpu_can_be_used():
    with installed(ONE_GPU):
        assert nvidia.missing("cuda", 0) is None


def test_an_index_beyond_the_last_gpu_names_the_key():
    with installed(ONE_GPU):
        assert (
            nvidia.missing("cuda", 1) == "provider.device=1: only 1 GPU(s) visible, counted from 0"
        )


def test_no_driver_is_said_in_one_line():
    with installed(FakeNvml(gpus=(), init_error="LibraryNotFound")):
        reason = nvidia.missing("cuda", 0)
    assert reason is not None
    assert reason.startswith("provider.name=cuda: no NVIDIA driver")
    assert "\n" not in reason


def test_a_gpu_hidden_from_cuda_cannot_be_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with installed(ONE_GPU):
        assert "CUDA_VISIBLE_DEVICES" in str(nvidia.missing("cuda", 0))
