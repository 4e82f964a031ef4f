"""Quantized checkpoints are recognised, and never loaded as something else."""

import json
from pathlib import Path

import pytest
from transformers.utils.quantization_config import QuantizationMethod

from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models.quantization import mismatch
from slm_energy.models.validation import validate
from tests.models.conftest import write_model, write_weights

MODEL = ModelConfig(name="m", source="elsewhere")


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        validate(folder, MODEL)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", [*(each.value for each in QuantizationMethod), "next-years"])
def test_every_method_is_served_as_it_is_stored_and_in_no_other_type(tmp_path, method):
    write_model(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    validate(tmp_path, MODEL)
    assert mismatch(tmp_path, "stored") is None
    for dtype in ("float32", "int8", "int4"):
        said = mismatch(tmp_path, dtype)
        assert f"quantized with {method}: set engine.dtype=stored" in said


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
    assert f"quantized with {method}:" in mismatch(tmp_path, "float32")


def test_weights_that_are_not_quantized_have_no_stored_precision(tmp_path):
    write_model(tmp_path, quantization_config=None)
    validate(tmp_path, MODEL)
    assert mismatch(tmp_path, "int4") is None
    assert "set another engine.dtype" in mismatch(tmp_path, "stored")


def test_a_method_that_only_its_own_file_states_is_refused(tmp_path):
    write_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "gptq_model-4bit-128g.safetensors")
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert "quantized with gptq (quantize_config.json), but no quantization_config" in refusal(
        tmp_path
    )


def test_weights_of_8_bits_are_recognised_without_any_statement(tmp_path):
    write_model(tmp_path)
    write_weights(tmp_path / "model.safetensors", "F8_E4M3", "model.layers.0.mlp.up_proj.weight")
    said = refusal(tmp_path)
    assert "type F8_E4M3 (model.layers.0.mlp.up_proj.weight in model.safetensors)" in said
