"""The size of a model, from its architecture alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from slm_energy.models.architecture import (
    CONTEXT,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    cached_numbers,
    first,
)

_GATED = (
    "llama", "qwen2", "qwen3", "gemma", "gemma3_text", "granite", "granitemoehybrid", "smollm3",
    "stablelm", "mistral", "phi3", "lfm2",
)  # fmt: skip
"""Families whose feed-forward layers have three matrices: N. Shazeer, GLU Variants Improve
Transformer, arXiv 2002.05202."""
_PLAIN = ("phi", "gpt2", "gpt_bigcode", "gpt_neox", "codegen", "starcoder2", "bloom")
"""Families with two."""
_LEARNED = ("gpt2", "gpt_bigcode")
"""Families that learn an embedding of each position."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Numbers of a model's parameters; biases and norms, below 0.5 %, are left out.

    Attributes:
        embedding: of tokens, and of positions.
        linear: in the linear layers, without an output layer that shares the embedding.
        shared: in the output layer, if it shares the embedding; else 0.
        cached: numbers per token in the keys and values of all layers.
        vocabulary: of its tokens.
        transposed: its matrices are stored as (inputs, outputs): GPT-2's Conv1D.
        after_output: in the matrices that ONNX Runtime packs after the output layer.
        heads: of attention, for queries.
    """

    embedding: int
    linear: int
    shared: int
    cached: int
    vocabulary: int
    transposed: bool
    after_output: int
    heads: int

    @property
    def parameters(self) -> int:
        """All of them; shared ones count once."""
        return self.embedding + self.linear


def size_of(config: Mapping[str, Any]) -> Size | None:
    """Count the parameters of an architecture; None for a family that is not known here.

    A layer has matrices for queries, keys, values and output, and two or three of the inner width.
    The counts of the shipped models are within 1 % of the published ones.

    Args:
        config: `model.architecture`, or a config.json.
    """
    family = config.get("model_type")
    hidden, layers, heads = (first(config, names) for names in (HIDDEN, LAYERS, HEADS))
    cached = cached_numbers(config)
    known = isinstance(config.get("vocab_size"), int) and family in (*_GATED, *_PLAIN)
    if cached is None or not known:
        return None
    head = config.get("head_dim") or hidden // heads
    key_heads = 1 if config.get("multi_query") else config.get("num_key_value_heads") or heads
    inner = _inner(config) or 4 * hidden
    attention = 2 * hidden * head * (heads + key_heads)
    tokens = hidden * config["vocab_size"]
    tied = config.get("tie_word_embeddings", True)
    places = (first(config, CONTEXT) or 0) if family in _LEARNED else 0
    kinds = config.get("layer_types") or ["attention"] * layers
    attending = sum("attention" in kind for kind in kinds)
    mixing = attending * attention + (layers - attending) * _state_space(config, hidden)
    forward = (3 if family in _GATED else 2) * hidden * inner
    halved = family in _PLAIN and "gelu_pytorch_tanh" in (
        config.get("activation_function"), config.get("hidden_act"),
    )  # fmt: skip
    return Size(
        embedding=tokens + places * hidden,
        linear=mixing + layers * forward + (0 if tied else tokens),
        shared=tokens if tied else 0,
        vocabulary=config["vocab_size"],
        cached=cached,
        transposed=family == "gpt2",
        heads=heads,
        after_output=layers * hidden * inner if halved and family != "gpt2" else 0,
    )


def _inner(config: Mapping[str, Any]) -> int | None:
    """Width of the feed-forward layers; LFM2 states that of one without a gate."""
    inner: int | None = first(config, INNER)
    if inner is None or not config.get("block_auto_adjust_ff_dim"):
        return inner
    step = int(config["block_multiple_of"])
    return math.ceil(int(2 * inner / 3 * config["block_ffn_dim_multiplier"]) / step) * step


def _state_space(config: Mapping[str, Any], hidden: int) -> int:
    """Parameters of what a layer has in place of attention: Mamba-2, or LFM2's convolution."""
    if "mamba_expand" not in config:
        return 4 * hidden * hidden
    wide = config["mamba_expand"] * hidden
    states = 2 * config["mamba_n_groups"] * config["mamba_d_state"]
    return int(hidden * (2 * wide + states + config["mamba_n_heads"]) + wide * hidden)
