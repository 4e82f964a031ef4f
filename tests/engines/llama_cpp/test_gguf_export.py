import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from slm_energy.engines.llama_cpp.gguf_export import convert
from slm_energy.errors import EngineError, ModelError
from tests.engines.llama_cpp.conftest import WEIGHTS, configure, kinds, values


def test_a_folder_becomes_one_file(bundled, tmp_path):
    out = tmp_path / "model.gguf"
    facts = convert(bundled, out, "float32")
    assert facts == {
        "architecture": "llama",
        "tokenizer": "approximate",
        "matrices": {"F32": 36},
        "unused_weights": [],
    }
    source = load_file(bundled / WEIGHTS)
    embedding = source["model.embed_tokens.weight"].float().numpy()
    assert np.array_equal(values(out, "token_embd.weight"), embedding)
    assert "output.weight" not in kinds(out)  # it is the embedding


@pytest.mark.parametrize(
    ("dtype", "kind", "error"),
    [("float16", "F16", 0.0), ("bfloat16", "BF16", 2**-8), ("int8", "Q8_0", 2**-6)],
)
def test_matrices_get_the_requested_type_and_vectors_stay_float32(
    bundled, tmp_path, dtype, kind, error
):
    out = tmp_path / "model.gguf"
    convert(bundled, out, dtype)
    found = kinds(out)
    assert found["blk.0.ffn_up.weight"] == kind
    assert found["token_embd.weight"] == kind
    assert found["blk.0.attn_norm.weight"] == "F32"
    expected = load_file(bundled / WEIGHTS)["model.layers.0.mlp.up_proj.weight"].float().numpy()
    difference = np.abs(values(out, "blk.0.ffn_up.weight") - expected).max()
    assert difference <= error * np.abs(expected).max()


def test_8_bits_leave_an_embedding_alone_that_is_not_the_output_layer(twin, tmp_path):
    out = tmp_path / "model.gguf"
    facts = convert(twin("tinyllama-1.1b"), out, "int8")
    assert kinds(out)["token_embd.weight"] == "F32"
    assert kinds(out)["output.weight"] == "Q8_0"
    assert facts["matrices"] == {"F32": 1, "Q8_0": 15}
    assert convert(twin("tinyllama-1.1b"), out, "float16")["matrices"] == {"F16": 16}


def test_what_cannot_be_read_is_said(copy, tmp_path, monkeypatch):
    out = tmp_path / "model.gguf"
    state = load_file(copy / WEIGHTS)
    save_file({name: value.to(torch.float8_e5m2) for name, value in state.items()}, copy / WEIGHTS)
    with pytest.raises(ModelError, match="weights of type F8_E5M2: choose a model with float"):
        convert(copy, out, "float32")
    (copy / WEIGHTS).rename(copy / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match="only where torch is installed"):
        convert(copy, out, "float32")
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="has no weights: set"):
        convert(copy, out, "float32")


def test_weights_that_the_model_does_not_use_are_named(copy, tmp_path):
    """A layer more than config.json has, an output layer of its own where it is tied, a table."""
    state = load_file(copy / WEIGHTS)
    layers = len({name.split(".")[2] for name in state if ".layers." in name})
    last = f"model.layers.{layers - 1}.mlp.up_proj.weight"
    beyond, head = last.replace(f".{layers - 1}.", f".{layers}."), "lm_head.weight"
    embedding = state["model.embed_tokens.weight"]
    same = state | {head: embedding.clone(), "model.layers.0.rotary_emb.inv_freq": torch.ones(2)}
    save_file(same, copy / WEIGHTS)
    assert convert(copy, tmp_path / "same.gguf", "float32")["unused_weights"] == []
    save_file(same | {head: embedding + 1, beyond: state[last].clone()}, copy / WEIGHTS)
    assert convert(copy, tmp_path / "other.gguf", "float32")["unused_weights"] == [beyond, head]


def test_an_output_layer_that_is_missing_is_not_replaced_by_the_embedding(copy, tmp_path):
    configure(copy, tie_word_embeddings=False)
    with pytest.raises(ModelError, match="the weights lack the output layer"):
        convert(copy, tmp_path / "model.gguf", "float32")


def test_a_tensor_without_a_place_is_refused(copy, tmp_path):
    state = load_file(copy / WEIGHTS)
    state["model.layers.0.mlp.extra.weight"] = torch.zeros(4, 4)
    save_file(state, copy / WEIGHTS)
    with pytest.raises(
        EngineError, match=r"does not know the tensor model\.layers\.0\.mlp\.extra\.weight"
    ):
        convert(copy, tmp_path / "model.gguf", "float32")
