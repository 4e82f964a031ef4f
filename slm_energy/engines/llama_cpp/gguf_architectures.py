"""Table of architectures: their names, settings and tensors in llama.cpp.

The keys of the settings are GGUF's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md),
without the architecture's name as a prefix. Models that llama.cpp would silently compute
differently from transformers are refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from slm_energy.errors import EngineError

Config = Mapping[str, Any]
Setting = bool | int | float | str
Change = Literal["transpose", "by_layer", "group_qkv", "rotary_pairs", "plus_one"]

_SILU = ("silu", "swish")
_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python")
"""llama.cpp computes all of them as one GELU, the tanh form."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One architecture of transformers, as llama.cpp implements it.

    Attributes:
        name: in llama.cpp.
        activations: names in config.json of the activation that llama.cpp computes.
        defaults: transformers' values for keys that config.json lacks.
        settings: GGUF key to the key of config.json, beyond those that all architectures have;
            each has a default.
        requires: values without which llama.cpp computes something else.
        changes: transformations of a tensor, in order, by the end of its name.
        own_head: it needs a separate output matrix even where it is the token embedding.
    """

    name: str
    activations: tuple[str, ...] = _SILU
    defaults: Config = dataclasses.field(default_factory=dict)
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    requires: Config = dataclasses.field(default_factory=dict)
    changes: Mapping[str, tuple[Change, ...]] = dataclasses.field(default_factory=dict)
    own_head: bool = False


_PAIRS: Mapping[str, tuple[Change, ...]] = {
    "q_proj.weight": ("rotary_pairs",),
    "q_proj.bias": ("rotary_pairs",),
    "k_proj.weight": ("rotary_pairs",),
    "k_proj.bias": ("rotary_pairs",),
}
_GROUPS: Mapping[str, tuple[Change, ...]] = {
    "query_key_value.weight": ("group_qkv",),
    "query_key_value.bias": ("group_qkv",),
}
_TIED = {"tie_word_embeddings": True}

ARCHITECTURES = {
    "llama": Architecture(name="llama", changes=_PAIRS),
    "granite": Architecture(
        name="granite",
        defaults={
            "attention_multiplier": 1.0,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
        changes=_PAIRS,
        settings={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
    ),
    "smollm3": Architecture(
        name="smollm3",
        defaults=_TIED,
        changes=_PAIRS,
        requires={"no_rope_layer_interval": 4},
    ),
    "gemma": Architecture(
        name="gemma",
        activations=_GELU,
        defaults=_TIED,
        changes={"norm.weight": ("plus_one",)},
    ),
    "qwen2": Architecture(name="qwen2", defaults={"use_sliding_window": False}),
    "phi": Architecture(
        name="phi2",
        activations=_GELU,
        defaults={"partial_rotary_factor": 0.5},
        requires={"qk_layernorm": False},
        own_head=True,
    ),
    "stablelm": Architecture(
        name="stablelm",
        defaults={"partial_rotary_factor": 0.25},
        requires={"qk_layernorm": False, "use_parallel_residual": False},
        own_head=True,
    ),
    "starcoder2": Architecture(name="starcoder2", activations=_GELU, defaults=_TIED),
    "gpt_neox": Architecture(
        name="gptneox",
        activations=_GELU,
        defaults={"rotary_pct": 0.25, "use_parallel_residual": True},
        settings={"use_parallel_residual": "use_parallel_residual"},
        changes=_GROUPS,
        own_head=True,
    ),
    "bloom": Architecture(
        name="bloom",
        activations=("gelu",),
        # The position bias is computed, so length is unlimited; config.json may give none.
        defaults={**_TIED, "hidden_act": "gelu", "seq_length": 2048},
        requires={"apply_residual_connection_post_layernorm": False},
        changes=_GROUPS,
    ),
    "gpt2": Architecture(
        name="gpt2",
        activations=_GELU,
        defaults=_TIED,
        requires={"scale_attn_weights": True},
        changes={
            "c_attn.weight": ("transpose", "by_layer"),
            "c_attn.bias": ("by_layer",),
            "c_proj.weight": ("transpose",),
            "c_fc.weight": ("transpose",),
        },
    ),
    "gpt_bigcode": Architecture(
        name="starcoder",
        activations=_GELU,
        defaults=_TIED,
        requires={"scale_attn_weights": True, "multi_query": True},
    ),
}
"""Architecture by `model_type` of config.json."""


def find(config: Config) -> tuple[Architecture, Config]:
    """Return a model's architecture, and its configuration with every default filled in.

    Raises:
        EngineError: llama.cpp has no such architecture, or computes it differently.
    """
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise EngineError(
            f"engine llama_cpp does not support architecture {kind}: choose another engine for"
            " this model",
            permanent=True,
        )
    architecture = ARCHITECTURES[kind]
    complete = {**architecture.defaults, **config}
    activation = _first(complete, "hidden_act", "hidden_activation", "activation_function")
    wrong = {k: complete[k] for k, v in architecture.requires.items() if complete.get(k, v) != v}
    if activation not in architecture.activations:
        wrong["hidden_act"] = activation
    rotary = complete.get("no_rope_layers")
    if kind == "smollm3" and rotary and rotary != _smollm3_pattern(complete):
        wrong["no_rope_layers"] = rotary
    if wrong:
        key, value = next(iter(wrong.items()))
        raise EngineError(
            f"llama.cpp computes {kind} differently where {key}={value}:"
            " choose another engine for this model",
            permanent=True,
        )
    return architecture, complete


def settings(architecture: Architecture, config: Config) -> dict[str, Setting]:
    """Return the architecture's GGUF settings, without its name as a prefix of each key.

    Raises:
        EngineError: config.json lacks a key, or its rope scaling is not supported.
    """
    width, heads = _size(config, "hidden_size", "n_embd"), head_count(config)
    head_dim = int(config.get("head_dim") or width // heads)
    values: dict[str, Setting] = {
        "context_length": _context(config),
        "vocab_size": _size(config, "vocab_size"),
        "embedding_length": width,
        "block_count": layer_count(config),
        "feed_forward_length": int(_first(config, "intermediate_size", "n_inner") or 4 * width),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_head_count(config),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
    }
    rms = config.get("rms_norm_eps")
    if rms is not None:
        values["attention.layer_norm_rms_epsilon"] = float(rms)
    centred = _first(config, "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
    if centred is not None:
        values["attention.layer_norm_epsilon"] = float(centred)
    for key, name in architecture.settings.items():
        kind = type(architecture.defaults[name])  # JSON may write 12 for 12.0, GGUF is typed
        values[key] = kind(config[name])
    return values | _rope(config, head_dim)


def layer_count(config: Config) -> int:
    """Number of transformer layers."""
    return _size(config, "num_hidden_layers", "n_layer")


def head_count(config: Config) -> int:
    """Number of attention heads."""
    return _size(config, "num_attention_heads", "n_head")


def kv_head_count(config: Config) -> int:
    """Number of key-value heads."""
    if config.get("multi_query"):
        return 1
    return int(config.get("num_key_value_heads") or head_count(config))


def _rope(config: Config, head_dim: int) -> dict[str, Setting]:
    """Settings of rotary positions; architectures without them ignore these."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    share = rope.get("partial_rotary_factor") or _first(
        config, "partial_rotary_factor", "rotary_pct"
    )
    base = rope.get("rope_theta") or _first(config, "rope_theta", "rotary_emb_base")
    values: dict[str, Setting] = {
        "rope.dimension_count": int(head_dim * (1.0 if share is None else share)),
        "rope.freq_base": float(10000.0 if base is None else base),
    }
    scaling = str(rope.get("rope_type", rope.get("type", "default")))
    if scaling == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    elif scaling != "default":
        raise EngineError(
            f"engine llama_cpp: rope scaling {scaling!r} is not supported:"
            " choose another engine for this model",
            permanent=True,
        )
    return values


def _context(config: Config) -> int:
    """Longest sequence: llama.cpp does not slide these architectures' attention window."""
    length = _size(config, "max_position_embeddings", "n_positions", "n_ctx", "seq_length")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return min(length, int(window)) if window else length


def _smollm3_pattern(config: Config) -> list[int]:
    """Every fourth layer without rotary positions: the only pattern that llama.cpp supports."""
    return [int((layer + 1) % 4 != 0) for layer in range(layer_count(config))]


def _size(config: Config, *names: str) -> int:
    value = _first(config, *names)
    if value is None:
        raise EngineError(
            f"config.json lacks {' or '.join(names)}: set another model.source", permanent=True
        )
    return int(value)


def _first(config: Config, *names: str) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)
