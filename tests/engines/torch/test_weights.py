"""Weights of engine torch: type, missing tensors, last position only."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTJConfig, GPTJForCausalLM

from slm_energy.engines.base import Batch
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import PROMPTS, SMALL, gpt2_twin, llama_twin


def test_half_precision_weights_are_converted_to_the_requested_type(make_request, tmp_path):
    _, effective = loaded(make_request("torch", folder=llama_twin(tmp_path, torch.float16)))
    assert effective["dtype"] == "float32"


def test_a_missing_tensor_is_refused(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        EngineError, match=r"lacks weights of llama, for example model\.layers\.1\.mlp\.up"
    ):
        loaded(make_request("torch", folder=folder))


def changed(folder, **tensors):
    """Add tensors to a model's weights, or replace them."""
    state = load_file(folder / "model.safetensors")
    save_file(state | tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_weights_that_the_model_does_not_use_are_named(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    _, effective = loaded(make_request("torch", folder=changed(folder, **table)))
    assert effective["unused_weights"] == []
    layer = {"model.layers.2.mlp.up_proj.weight": torch.ones(32, 16)}
    _, effective = loaded(make_request("torch", folder=changed(folder, **layer)))
    assert effective["unused_weights"] == list(layer)


def test_an_output_layer_beside_tied_embeddings_is_named_if_it_differs(make_request, tmp_path):
    folder = gpt2_twin(tmp_path)
    embedding = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    mask = torch.ones(1, 1, 64, 64)
    same = {"lm_head.weight": embedding.clone(), "transformer.h.0.attn.bias": mask}
    _, effective = loaded(make_request("torch", folder=changed(folder, **same)))
    assert effective["unused_weights"] == []
    other = {"lm_head.weight": embedding + 1}
    _, effective = loaded(make_request("torch", folder=changed(folder, **other)))
    assert effective["unused_weights"] == ["lm_head.weight"]


def test_a_missing_output_layer_is_refused_where_it_is_not_tied(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"for example lm_head\.weight"):
        loaded(make_request("torch", folder=folder))


def test_only_a_refused_attention_is_blamed_on_its_key(make_request, tmp_path):
    target = make_request("torch", folder=llama_twin(tmp_path / "llama"), attention="sdpa")
    changed(tmp_path / "llama", **{"model.norm.weight": torch.ones(17)})
    with pytest.raises(EngineError, match="size mismatch") as caught:
        loaded(target)
    assert "model.attention" not in str(caught.value)
    folder = tmp_path / "gptj"
    GPTJForCausalLM(GPTJConfig(n_layer=1, n_head=2, n_embd=16, **SMALL)).save_pretrained(folder)
    with pytest.raises(EngineError, match=r"with model\.attention='sdpa': GPTJ.* does not support"):
        loaded(make_request("torch", folder=folder, attention="sdpa"))


def test_unreadable_weights_give_a_one_line_error(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    target = make_request("torch", folder=folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EngineError) as caught:
        loaded(target)
    assert "\n" not in str(caught.value)


# Architectures whose `forward` does not take `logits_to_keep`.
@pytest.mark.parametrize("name", ["tiny_starcoder_py", "bloomz-560m", "codegen-350m"])
def test_the_output_layer_computes_the_last_position_only(make_request, twin, name):
    engine, _ = loaded(make_request("torch", folder=twin(name)))
    computed = []
    engine._model.get_output_embeddings().register_forward_hook(
        lambda module, given, logits: computed.append(tuple(logits.shape[:2]))
    )
    engine.generate(Batch(prompts=PROMPTS, new_tokens=3, stop="fixed"))
    assert computed == [(2, 1)] * 3
