"""Weights of every stored form give the same file."""

import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from slm_energy.engines.llama_cpp.gguf_export import convert
from tests.engines.llama_cpp.conftest import WEIGHTS, values


def test_stored_bfloat16_is_read_without_loss(copy, tmp_path):
    halved = {name: value.bfloat16() for name, value in load_file(copy / WEIGHTS).items()}
    save_file(halved, copy / WEIGHTS)
    out = tmp_path / "model.gguf"
    convert(copy, out, "float32")
    expected = halved["model.layers.4.mlp.down_proj.weight"].float().numpy()
    assert np.array_equal(values(out, "blk.4.ffn_down.weight"), expected)


def test_weights_in_parts_and_pickled_weights_give_the_same_file(copy, bundled, tmp_path):
    convert(bundled, tmp_path / "one.gguf", "float32")
    state = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    names = list(state)
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for part, held in parts.items():
        save_file({name: state[name] for name in held}, copy / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    convert(copy, tmp_path / "parts.gguf", "float32")
    (copy / f"{WEIGHTS}.index.json").unlink()
    torch.save(state, copy / "pytorch_model.bin")
    convert(copy, tmp_path / "pickled.gguf", "float32")
    for name in ("token_embd.weight", "blk.0.attn_q.weight", "blk.4.attn_norm.weight"):
        first = values(tmp_path / "one.gguf", name)
        assert np.array_equal(values(tmp_path / "parts.gguf", name), first)
        assert np.array_equal(values(tmp_path / "pickled.gguf", name), first)
