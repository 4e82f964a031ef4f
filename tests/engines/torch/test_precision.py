"""Weights in 8 and 4 bits, and checkpoints that are served as they were quantized."""

import warnings
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import has_avx512bf16
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from slm_energy.engines import decode
from slm_energy.engines.base import Batch
from slm_energy.engines.torch.precision import effective_precision, quantize
from slm_energy.engines.torch.weights import load_weights
from slm_energy.errors import EngineError
from slm_energy.models.folder import BUNDLED_MODEL
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import PROMPT, PROMPTS, gpt2_twin, llama_twin


def tokens(engine, prompts=PROMPTS):
    batch = Batch(prompts=prompts, new_tokens=8, stop="fixed")
    return [answer.output_ids for answer in engine.generate(batch)]


def test_int8_is_read_back_from_the_weights(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    engine, effective = loaded(make_request("torch", folder=folder, dtype="int8"))
    linear = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32) + 64 * 16  # layers, then the output
    assert effective["dtype"] == "int8"
    assert effective["quantization"].startswith("torchao: weights of 15 linear layers in 8 bits")
    assert effective["quantized_share"] == pytest.approx(linear / (linear + 64 * 16 + 5 * 16))
    one = [engine.generate(Batch(prompts=(p,), new_tokens=8, stop="fixed"))[0] for p in PROMPTS]
    both = engine.generate(Batch(prompts=PROMPTS, new_tokens=8, stop="fixed"))
    assert [a.output_ids for a in both] == [a.output_ids for a in one]


def test_gpt2s_transposed_layers_are_quantized_and_compute_nearly_the_same(make_request, tmp_path):
    model = make_request("torch", folder=gpt2_twin(tmp_path)).settings.model
    exact, small = (load_weights(model, tmp_path, dtype) for dtype in ("float32", "int8"))
    quantize(small, "int8")
    said = effective_precision(small, "int8")
    assert said["quantization"].startswith("torchao: weights of 13 linear layers")
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        deviation = decode.difference(small(ids).logits, exact(ids).logits)
    assert 0 < deviation < 0.1


def test_quantizing_a_tied_output_layer_leaves_the_embedding_unchanged(make_request, tmp_path):
    model = make_request("torch", folder=gpt2_twin(tmp_path)).settings.model
    small = load_weights(model, tmp_path, "int8")
    quantize(small, "int8")
    assert small.get_input_embeddings().weight.dtype == torch.float32
    assert small.lm_head.weight.qdata.dtype == torch.int8


def test_int4_stores_four_bits_and_the_scales_of_each_group(make_request):
    engine, effective = loaded(make_request("torch", dtype="int4"))
    weights = effective["weights"]
    assert effective["dtype"] == "int4"
    # Each group of 32 has a scale and a zero point in float32.
    assert weights["bits"]["layers"] == 4 + 2 * 32 / 32
    assert weights["bits"]["embedding"] == 32
    assert weights["unquantized"] == ["embedding", "other"]
    assert (weights["group_size"], weights["activations"]) == (32, "float32")
    assert weights["method"] == "round to nearest"
    alone = [tokens(engine, (prompt,))[0] for prompt in PROMPTS]
    assert tokens(engine) == alone


def test_larger_groups_need_fewer_bits(make_request):
    options = {"group_size": 64}
    _, effective = loaded(make_request("torch", dtype="int4", options=options))
    assert effective["weights"]["group_size"] == 64
    assert effective["weights"]["bits"]["layers"] == 4 + 2 * 32 / 64


def test_a_layer_that_the_kernel_does_not_take_is_named(make_request, tmp_path):
    folder = llama_twin(tmp_path)  # rows of 16 and 32 weights
    _, effective = loaded(make_request("torch", folder=folder, dtype="int4"))
    named = effective["weights"]["unquantized"]
    assert "model.layers.0.self_attn.q_proj.weight" in named
    assert "model.layers.0.mlp.down_proj.weight" not in named


def test_a_model_without_any_such_layer_is_refused(make_request, tmp_path):
    folder = gpt2_twin(tmp_path)
    options = {"group_size": 128}
    with pytest.raises(EngineError, match=r"multiple of 128 weights: set another engine\.options"):
        loaded(make_request("torch", folder=folder, dtype="int4", options=options))


def nf4(folder: Path) -> Path:
    """The bundled model, quantized by bitsandbytes."""
    kind = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        BUNDLED_MODEL, quantization_config=kind, device_map="cpu", dtype=torch.float32
    )
    model.save_pretrained(folder)
    return folder


def packed(folder: Path) -> Path:
    """The bundled model in the format of compressed-tensors: 4 bits in groups of 32."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32)
    args = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=args)}
    apply_quantization_config(
        model,
        QuantizationConfig(config_groups=groups, ignore=["lm_head"], format="pack-quantized"),
    )
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            grouped = module.weight.data.unflatten(1, (-1, 32))
            module.weight_scale.data = grouped.abs().amax(-1) / 7.5
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(str(folder))
    return folder


def test_a_bitsandbytes_checkpoint_is_served_as_it_is(make_request, tmp_path):
    engine, effective = loaded(make_request("torch", folder=nf4(tmp_path), dtype="stored"))
    weights = effective["weights"]
    assert effective["dtype"] == "stored"
    assert effective["quantization"].startswith("bitsandbytes: weights of 35 linear layers")
    # A scale for 64 weights, and a table; in bfloat16 where the processor multiplies in it.
    rounds = has_avx512bf16()
    assert weights["activations"] == ("bfloat16" if rounds else "float32")
    assert weights["bits"]["layers"] == pytest.approx(4.25 if rounds else 4.5, abs=0.1)
    assert weights["bits"]["embedding"] == 32
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    with torch.inference_mode():
        expected = model.generate(
            torch.tensor([PROMPTS[0]]), max_new_tokens=8, min_new_tokens=8, do_sample=False
        )
    assert tokens(engine, PROMPTS[:1])[0] == tuple(expected[0, len(PROMPTS[0]) :].tolist())


def test_weights_that_a_library_decompresses_are_said_to_be_wide(make_request, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = packed(tmp_path)
        _, effective = loaded(make_request("torch", folder=folder, dtype="stored"))
    assert "decompressed by its library before the first token" in effective["quantization"]
    assert 32 <= effective["weights"]["bits_per_weight"] < 33  # the scales are still there
    assert effective["weights"]["group_size"] == 32
    assert effective["weights"]["method"] == "compressed-tensors"


def test_weights_of_two_types_are_reported_as_such(make_request, tmp_path):
    model = make_request("torch", folder=llama_twin(tmp_path)).settings.model
    weights = load_weights(model, tmp_path, "bfloat16")
    assert effective_precision(weights, "bfloat16")["dtype"] == "bfloat16"
    weights.model.norm.float()
    assert effective_precision(weights, "bfloat16")["dtype"] == "bfloat16/float32"
