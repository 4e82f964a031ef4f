"""Quantized checkpoints are recognised, and never loaded as something else."""

import json
from pathlib import Path

import pytest
from transformers.utils.quantization_config import QuantizationMethod

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models.validation import validate
from tests.models.conftest import write_model, write_weights


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        validate(folder, ModelConfig(name="m", source="elsewhere", attention="sdpa"))
    assert "\n" not in str(caught.value)
    assert "attention" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", [*(each.value for each in QuantizationMethod), "next-years"])
def test_every_method_is_refused_by_its_name(tmp_path, method):
    write_model(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    assert f"quantized with {method} (quantization_config in config.json)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("entries", "method"),
    [
        ({"quantization_config": {"load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"bits": 4}}, "a method without a name"),
        ({"quantization_config": "int4"}, "'int4'"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
    ],
)
def test_older_and_nested_forms_are_recognised(tmp_path, entries, method):
    write_model(tmp_path, **entries)
    assert f"quantized with {method} (" in refusal(tmp_path)


def test_the_reason_is_the_method_where_the_weights_have_a_name_of_their_own(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit-128g.safetensors")
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert "quantized with gptq (quantize_config.json)" in refusal(tmp_path)


def test_weights_of_8_bits_are_recognised_without_any_statement(tmp_path):
    write_model(tmp_path)
    write_weights(tmp_path / "model.safetensors", "F8_E4M3", "model.layers.0.mlp.up_proj.weight")
    said = refusal(tmp_path)
    assert "type F8_E4M3 (model.layers.0.mlp.up_proj.weight in model.safetensors)" in said


def test_a_mapping_without_content_is_no_quantization(tmp_path):
    write_model(tmp_path, quantization_config=None)
    validate(tmp_path, ModelConfig(name="m", source="elsewhere"))
