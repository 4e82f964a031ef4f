import dataclasses

import pytest

from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.onnx import tensorrt
from slm_energy.engines.onnx.providers import Node, chain, missing, placement, tf32
from slm_energy.errors import EngineError
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.waveform import constant

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
GPU = ProviderConfig(name="cuda", device=1)


def test_shapes_may_be_computed_on_the_processor():
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
    with pytest.raises(EngineError, match="1 of the graph's heavy nodes run elsewhere"):
        placement("tensorrt", [TENSORRT, CUDA, CPU], [Node(CUDA, "MatMul", "a")])


def test_a_session_without_the_asked_provider_is_an_error():
    with pytest.raises(EngineError, match=f"fell back to {CPU}"):
        placement("cuda", [CPU], [Node(CPU, "MatMul", "a")])


def test_the_asked_provider_comes_first_and_the_processor_last():
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
    ("in_force", "override", "told"),
    [
        ({CPU: {}}, None, {}),
        ({CUDA: {"use_tf32": "0"}, CPU: {}}, None, {"tf32": False}),
        ({CUDA: {"use_tf32": "1"}, CPU: {}}, None, {"tf32": True}),
        ({TENSORRT: {}, CUDA: {"use_tf32": "0"}}, None, {"tf32": True}),
        ({TENSORRT: {}, CUDA: {"use_tf32": "0"}}, "0", {"tf32": False}),
    ],
)
def test_whether_products_are_rounded_to_tf32_is_told(monkeypatch, in_force, override, told):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert tf32(in_force) == told


def test_what_tensorrt_builds_belongs_to_a_gpu_and_a_version(make_request, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    target = make_request("onnx")

    def place(name: str, versions: dict[str, str]):
        gpu = FakeGpu(uuid="GPU-1", name=name, waveform=constant(70))
        with installed(FakeNvml(gpus=(gpu,))), pytest.raises(EngineError) as caught:
            tensorrt.options(dataclasses.replace(target, versions=target.versions | versions))
        return str(caught.value)

    package = tensorrt.PACKAGE
    seen = {place("A", {}), place("B", {}), place("A", {package: "0"}), place("A", {})}
    assert len(seen) == 3


def test_an_absent_provider_says_what_to_install():
    assert "pip install tensorrt" in str(missing(ProviderConfig(name="tensorrt")))
    assert "no provider coreml" in str(missing(ProviderConfig(name="coreml")))


def test_tensorrt_is_told_every_shape_beforehand():
    inputs = {
        "input_ids": ["b", "n"],
        "attention_mask": ["b", "p + n"],
        "past_key_values.0.key": ["b", 4, "p", 64],
    }
    found = tensorrt.profiles(inputs, rows=3, length=100)
    assert {name: text.split(",") for name, text in found.items()} == {
        "trt_profile_min_shapes": [
            "input_ids:1x1", "attention_mask:1x1", "past_key_values.0.key:1x4x0x64",
        ],
        "trt_profile_opt_shapes": [
            "input_ids:3x1", "attention_mask:3x51", "past_key_values.0.key:3x4x50x64",
        ],
        "trt_profile_max_shapes": [
            "input_ids:3x100", "attention_mask:3x200", "past_key_values.0.key:3x4x100x64",
        ],
    }  # fmt: skip
