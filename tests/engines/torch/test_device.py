import dataclasses
import types

import torch

from slm_energy.config.groups import ProviderConfig
from slm_energy.devices import cuda
from slm_energy.engines.torch.device import device_identity, has_cuda_build
from slm_energy.engines.torch.eager import unsupported


def test_a_cpu_only_torch_is_detected_without_importing_it(make_request):
    settings = dataclasses.replace(
        make_request("torch").settings, provider=ProviderConfig(name="cuda", device=1000)
    )
    assert has_cuda_build() == (torch.version.cuda is not None)
    assert unsupported(settings) is not None


class FakeUuid:
    """As torch._C._CUuuid: its text is the number alone."""

    def __str__(self) -> str:
        return "bbbbbbbb-0000-0000-0000-000000000002"


def test_the_gpu_in_use_is_named_as_nvml_names_it(monkeypatch):
    """On a stand-in for torch's CUDA: this torch may be built without it."""

    def properties(device):
        return types.SimpleNamespace(name="Fake", **({"uuid": FakeUuid()} if device.index else {}))

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    named_by_driver = {"device_uuid": "GPU-by the driver"}
    monkeypatch.setattr(cuda, "identity", lambda index: named_by_driver if index == 0 else {})
    assert device_identity(torch.device("cuda:1")) == {
        "device_uuid": "GPU-bbbbbbbb-0000-0000-0000-000000000002"
    }
    assert device_identity(torch.device("cuda:0")) == named_by_driver  # an older torch
    assert device_identity(torch.device("cpu")) == {}
