"""Shrink `model.architecture`, or compare it with config.json, whose keys it uses.

Names of the same setting differ between families (`n_embd`, `hidden_size`) and between old and new
files; each tuple here holds the names of one setting.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm_energy.errors import ModelError

HIDDEN = ("hidden_size", "n_embd", "n_embed")
LAYERS = ("num_hidden_layers", "n_layer")
HEADS = ("num_attention_heads", "n_head")
INNER = ("intermediate_size", "n_inner", "block_ff_dim", "shared_intermediate_size")
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
ROTARY_SHARE = ("partial_rotary_factor", "rotary_pct")
_SYNONYMS = (HIDDEN, LAYERS, HEADS, INNER, ROTARY_SHARE, ("rope_theta", "rotary_emb_base"))

_LAYER_LISTS = ("no_rope_layers", "layer_types")
"""Lists with one entry for each layer."""

_TINY_LAYERS = 2
_TINY_CONTEXT = 512
_TINY_HEADS = 4
_TINY_KEY_HEADS = 2
_TINY_HEAD_DIM = 16


def shrink(full: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """Reduce an architecture to two narrow layers; all ratios and switches are unchanged.

    Widths are multiples of 32, the block of 8-bit formats. Where a list distinguishes layers, one
    of each kind is kept, the last; a list of one kind keeps two.

    Args:
        full: `model.architecture`.
        vocabulary: number of tokens of the tokenizer.

    Raises:
        ModelError: a number that must shrink is missing.
    """
    heads, hidden, context = (_number(full, names) for names in (HEADS, HIDDEN, CONTEXT))
    key_heads = full.get("num_key_value_heads") or heads
    head_dim = full.get("head_dim") or hidden // heads
    new_dim = _tiny_head_dim(head_dim, first(full, ROTARY_SHARE) or 1.0)
    new_key_heads = _TINY_HEADS if key_heads == heads else min(key_heads, _TINY_KEY_HEADS)
    new_heads = new_key_heads * heads // key_heads
    new_hidden = max(64, math.ceil(hidden * new_heads * new_dim / (heads * head_dim) / 32) * 32)
    new_context = min(context, _TINY_CONTEXT)
    changed: dict[str, Any] = dict.fromkeys(HIDDEN, new_hidden)
    changed |= dict.fromkeys(INNER, (first(full, INNER) or 0) * new_hidden // hidden // 32 * 32)
    kept = _one_of_each(full)
    changed |= dict.fromkeys(LAYERS, len(kept))
    changed |= dict.fromkeys(HEADS, new_heads)
    changed |= dict.fromkeys(CONTEXT, new_context)
    changed |= {
        "vocab_size": vocabulary,
        "num_key_value_heads": new_key_heads,
        "head_dim": new_dim,
        "rotary_dim": full.get("rotary_dim", 0) * new_dim // head_dim,
        "sliding_window": (full.get("sliding_window") or 0) * new_context // context,
        **{key: [full[key][layer] for layer in kept] for key in _LAYER_LISTS if key in full},
        "original_max_position_embeddings": new_context // 2,
        "rope_scaling": _fewer_factors(
            full.get("rope_scaling"), int((first(full, ROTARY_SHARE) or 1.0) * new_dim) // 2
        ),
        "mamba_d_state": _TINY_HEAD_DIM,
        "block_multiple_of": 32,
        # Granite scales attention scores by 1 / head_dim, Gemma by 1 / sqrt(head_dim).
        "query_pre_attn_scalar": full.get("query_pre_attn_scalar", 0) * new_dim // head_dim,
        "attention_multiplier": full.get("attention_multiplier", 0.0) * head_dim / new_dim,
    }
    tiny = {k: v if v is None else changed.get(k, v) for k, v in full.items()}
    if full.get("model_type") == "granitemoehybrid":  # its class checks these without Mamba, too
        inner = full.get("mamba_expand", 2) * new_hidden
        tiny |= {"mamba_n_heads": inner // _TINY_HEAD_DIM, "mamba_d_head": _TINY_HEAD_DIM}
    return tiny


def _one_of_each(full: Mapping[str, Any]) -> list[int]:
    """The layers of a tiny model, as indices of the full one's: the last of each kind."""
    count = _number(full, LAYERS)
    kinds = list(zip(*(full[key] for key in _LAYER_LISTS if key in full), strict=True))
    last = {kind: layer for layer, kind in enumerate(kinds)}
    return sorted(last.values()) if len(last) > 1 else list(range(count))[-_TINY_LAYERS:]


def _fewer_factors(scaling: Mapping[str, Any] | None, pairs: int) -> dict[str, Any] | None:
    """Scaling of rotary positions whose factors, one per rotated pair, are evenly thinned."""
    if scaling is None:
        return None
    return {
        key: value[:: max(1, len(value) // pairs)][:pairs] if isinstance(value, list) else value
        for key, value in scaling.items()
    }


def disagreement(
    configured: Mapping[str, Any], stored: Mapping[str, Any]
) -> tuple[str, object, object] | None:
    """Compare `model.architecture` with the config.json of the weights.

    Only settings that affect the computation count: the family, numbers, switches and the scaling
    of positions. A key missing from the file has the default of the family's class.

    Args:
        configured: `model.architecture`.
        stored: config.json.

    Returns:
        The first key that differs, its configured and its stored value; None if all agree.
    """
    family, stored_family = configured.get("model_type"), stored.get("model_type")
    if family not in (None, stored_family):
        return "model_type", family, stored_family
    # transformers 5 writes settings of rotary positions into a separate mapping.
    rotary = stored.get("rope_parameters") or {}
    given = {**stored, **rotary, "rope_scaling": _scaling(stored.get("rope_scaling") or rotary)}
    defaults = _defaults(str(stored_family)) if configured else {}
    for key, value in configured.items():
        names = next((names for names in _SYNONYMS if key in names), (key,))
        stored_value = first(given if any(name in given for name in names) else defaults, names)
        if not _agree(value, stored_value):
            return key, value, stored_value
    return None


def _scaling(rotary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Scaling of rotary positions; None if they are not scaled."""
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    return None if kind == "default" else rotary


def _agree(configured: Any, stored: Any) -> bool:
    if isinstance(configured, dict) or isinstance(stored, dict):
        # `type` and `rope_type` are synonyms; a key that only one side has is redundant.
        both = (configured or {}).keys() & (stored or {}).keys()
        return bool(both) and all(_agree(configured[key], stored[key]) for key in both)
    if isinstance(configured, list) and isinstance(stored, list):
        return len(configured) == len(stored) and all(map(_agree, configured, stored))
    if isinstance(configured, int | float) and isinstance(stored, int | float):
        return math.isclose(configured, stored, rel_tol=1e-6)
    return True  # None: computed by the class; strings name classes and activations


def _tiny_head_dim(full: int, rotary_share: float) -> int:
    """Size of a small head whose rotary part is even, as rotation requires."""
    sizes = range(_TINY_HEAD_DIM, full, 8)
    return next((size for size in sizes if rotary_share * size % 2 == 0), full)


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    number: int | None = first(config, names)
    if number is None:
        raise ModelError(f"model.scale=tiny needs model.architecture.{names[0]}, or {names[1]}")
    return number


def first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Value of the first of these names that has one, or None."""
    return next((config[name] for name in names if config.get(name) is not None), None)


def cached_numbers(config: Mapping[str, Any]) -> int | None:
    """Keys and values that a token leaves in the cache, over all layers; None if not told.

    Models with compressed keys (DeepSeek's) keep fewer.
    """
    hidden, layers, heads = (first(config, names) for names in (HIDDEN, LAYERS, HEADS))
    if not all(isinstance(each, int) and each > 0 for each in (hidden, layers, heads)):
        return None
    head = config.get("head_dim") or hidden // heads
    key_heads = 1 if config.get("multi_query") else config.get("num_key_value_heads") or heads
    kinds = config.get("layer_types") or ["attention"] * layers
    return int(2 * sum("attention" in kind for kind in kinds) * key_heads * head)


def _defaults(family: str) -> dict[str, Any]:
    """Defaults of the family's configuration class for keys missing from config.json.

    Read from the class's source: importing transformers takes seconds, and imports torch. Values
    that the class computes are unknown here; without transformers, all are.
    """
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        return {}
    path = Path(package.origin).parent / "models" / family / f"configuration_{family}.py"
    if not path.is_file():
        return {}
    pairs: list[tuple[str, ast.expr | None]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arguments):  # transformers 4: parameters of `__init__`
            last = zip(reversed(node.args), reversed(node.defaults), strict=False)
            pairs += [(argument.arg, default) for argument, default in last]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):  # 5: fields
            pairs.append((node.target.id, node.value))
    known = {name: value.value for name, value in pairs if isinstance(value, ast.Constant)}
    return {"tie_word_embeddings": True} | known  # default of the common base class
