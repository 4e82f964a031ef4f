"""Shapes given to TensorRT in advance, and the identity of its engines."""

import dataclasses

import pytest

from slm_energy.engines.onnx import tensorrt
from slm_energy.errors import EngineError
from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
from slm_energy.testing.waveform import constant


def test_tensorrt_engines_belong_to_a_gpu_and_a_version(make_request, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    target = make_request("onnx")

    def missing_entry(name: str, versions: dict[str, str]):
        gpu = FakeGpu(uuid="GPU-1", name=name, waveform=constant(70))
        with installed(FakeNvml(gpus=(gpu,))), pytest.raises(EngineError) as caught:
            tensorrt.options(dataclasses.replace(target, versions=target.versions | versions))
        return str(caught.value)

    package = tensorrt.PACKAGE
    gpus_and_versions = [("A", {}), ("B", {}), ("A", {package: "0"}), ("A", {})]
    assert len({missing_entry(*each) for each in gpus_and_versions}) == 3


def test_tensorrt_gets_every_shape_in_advance():
    inputs = {
        "input_ids": ["b", "n"],
        "attention_mask": ["b", "p + n"],
        "past_key_values.0.key": ["b", 4, "p", 64],
    }
    options = tensorrt.profiles(inputs, rows=3, length=100)
    assert {name: text.split(",") for name, text in options.items()} == {
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
