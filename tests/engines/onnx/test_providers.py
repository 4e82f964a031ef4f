import dataclasses

import pytest

from slm_energy.config.groups import ProviderConfig
from slm_energy.devices import cuda
from slm_energy.engines.onnx.providers import (
    Node,
    chain,
    device_identity,
    missing,
    placement,
    tf32,
)
from slm_energy.errors import EngineError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
GPU = ProviderConfig(name="cuda", device=1)


def test_shapes_may_be_computed_on_the_cpu():
    nodes = [Node(CUDA, "MatMul", "a"), Node(CUDA, "Add", "b"), Node(CPU, "Shape", "c")]
    assert placement("cuda", [CUDA, CPU], nodes) == {
        "providers": [CUDA, CPU],
        "provider_node_share": 2 / 3,
    }


@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "MatMulNBits", "GroupQueryAttention"])
def test_a_model_s_work_on_another_provider_is_an_error(operator):
    nodes = [Node(CUDA, "MatMul", "a"), Node(CPU, operator, "mlp/up"), Node(CPU, operator, "x")]
    with pytest.raises(EngineError, match=rf"2 of the .* {operator} 'mlp/up' on {CPU}"):
        placement("cuda", [CUDA, CPU], nodes)


def test_tensorrt_that_leaves_the_work_to_cuda_is_an_error():
    with pytest.raises(EngineError, match="1 of the graph's heavy nodes run on other providers"):
        placement("tensorrt", [TENSORRT, CUDA, CPU], [Node(CUDA, "MatMul", "a")])


def test_a_session_without_the_requested_provider_is_an_error():
    with pytest.raises(EngineError, match=f"fell back to {CPU}"):
        placement("cuda", [CPU], [Node(CPU, "MatMul", "a")])


def test_the_requested_provider_comes_first_and_the_cpu_last():
    device = {"device_id": "1"}
    assert chain(dataclasses.replace(GPU, name="cpu")) == [CPU]
    cuda = (CUDA, device | {"use_tf32": "0"})
    assert chain(GPU) == [cuda, CPU]
    assert chain(dataclasses.replace(GPU, name="tensorrt"), {"trt_x": "1"}) == [
        (TENSORRT, device | {"trt_x": "1"}),
        cuda,
        CPU,
    ]


@pytest.mark.parametrize(
    ("in_force", "override", "expected"),
    [
        ({CPU: {}}, None, {}),
        ({CUDA: {"use_tf32": "0"}, CPU: {}}, None, {"tf32": False}),
        ({CUDA: {"use_tf32": "1"}, CPU: {}}, None, {"tf32": True}),
        ({TENSORRT: {}, CUDA: {"use_tf32": "0"}}, None, {"tf32": True}),
        ({TENSORRT: {}, CUDA: {"use_tf32": "0"}}, "0", {"tf32": False}),
    ],
)
def test_rounding_of_products_to_tf32_is_reported(monkeypatch, in_force, override, expected):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert tf32(in_force) == expected


def test_the_gpu_in_use_is_looked_up_by_the_number_that_the_session_reports(monkeypatch):
    monkeypatch.setattr(cuda, "identity", lambda index: {"device_uuid": f"GPU-{index}"})
    on_gpu = {TENSORRT: {"device_id": "1"}, CUDA: {"device_id": "1", "use_tf32": "0"}, CPU: {}}
    assert device_identity(on_gpu) == {"device_uuid": "GPU-1"}
    assert device_identity({CPU: {}}) == {}


def test_an_absent_provider_names_what_to_install():
    assert "pip install tensorrt" in str(missing(ProviderConfig(name="tensorrt")))
    assert "no provider coreml" in str(missing(ProviderConfig(name="coreml")))
