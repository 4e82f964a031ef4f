"""Tiny transformers models with random weights."""

import dataclasses
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from slm_energy.engines.base import LoadRequest

SMALL = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}
PROMPT = (5, 17, 3, 42)
PROMPTS = (PROMPT, PROMPT[:2])


def gpt2_twin(folder: Path, **switches: bool) -> Path:
    """A tiny GPT-2 with weights large enough for its attention to matter."""
    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=3, n_head=2, n_embd=16, n_positions=64, initializer_range=0.6, **SMALL, **switches
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def llama_twin(folder: Path, dtype: torch.dtype = torch.float32, fill: float | None = None) -> Path:
    """A tiny Llama; `fill` replaces the weights of its last layer's norm."""
    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        **SMALL,
    )
    model = LlamaForCausalLM(config).to(dtype)
    if fill is not None:
        model.model.norm.weight.data.fill_(fill)
    model.save_pretrained(folder)
    return folder


def batched(target: LoadRequest) -> LoadRequest:
    """The same request, to serve two prompts at a time."""
    workload = dataclasses.replace(target.settings.workload, batch_size=2)
    settings = dataclasses.replace(target.settings, workload=workload)
    return dataclasses.replace(target, settings=settings)
