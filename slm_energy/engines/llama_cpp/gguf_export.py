"""Conversion of a Hugging Face folder to a cached GGUF file, llama.cpp's own format.

The file is written tensor by tensor: memory holds the largest tensor, not the model.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy import cache
from slm_energy.config.groups import Dtype
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.llama_cpp import gguf_architectures as table
from slm_energy.engines.llama_cpp import gguf_tokenizer
from slm_energy.engines.llama_cpp.gguf_weights import Array, Tensor, open_weights
from slm_energy.errors import EngineError, ModelError
from slm_energy.models.folder import eos_ids
from slm_energy.models.weights import is_weight
from slm_energy.serialization import Json

FILE = "model.gguf"
_RECIPE = 1
"""Raise it when the same weights should give a different file."""

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "Q8_0"}
"""GGUF's name of the matrices' type per `engine.dtype`."""

_EMBEDDING, _HEAD, _POSITIONS = "token_embd.weight", "output.weight", "position_embd.weight"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """One tensor of the file.

    Attributes:
        name: in the file.
        kind: GGUF's name of its type.
        shape: in the file, the outermost dimension first.
        layer: index of its layer; 0 if it belongs to none.
        changes: transformations of its values, in order.
        tensor: the source of its values.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layer: int
    changes: tuple[table.Change, ...]
    tensor: Tensor


def cache_folder(request: LoadRequest) -> Path:
    """The folder of this request's file, which may not exist yet."""
    return cache.place(request.cache_path, "gguf", identity(request))


def identity(request: LoadRequest) -> dict[str, Json]:
    """Everything that determines the file's content."""
    return {
        "recipe": _RECIPE,
        "model": request.model_digest,
        "dtype": request.settings.engine.dtype,
        # llama.cpp computes the deviation stored with the file.
        "versions": request.versions_of("gguf", "llama-cpp-python"),
    }


def convert(model_path: Path, out: Path, dtype: Dtype) -> dict[str, Json]:
    """Write a model folder's weights and tokenizer as one GGUF file.

    Matrices get the requested type; `int8` is Q8_0: blocks of 32 weights in 8 bits with a scale of
    16 bits. Vectors stay float32, as llama.cpp requires; with `int8`, so do embeddings that are
    not also the output layer.

    Args:
        model_path: a folder in the Hugging Face layout.
        out: the file to write; its folder exists.
        dtype: type of the matrices.

    Returns:
        `architecture` as llama.cpp calls it, `tokenizer` (exact, approximate or none),
        `matrices`: how many there are of each type, and `unused_weights`: names of the stored
        tensors for which config.json has no place.

    Raises:
        EngineError: llama.cpp has no such architecture, or computes it differently.
        ModelError: the weights cannot be read.
    """
    import gguf

    config = json.loads((model_path / "config.json").read_text(encoding="utf-8"))
    architecture, config = table.find(config)
    settings = table.settings(architecture, config)
    parts, unused = _plan(architecture, config, open_weights(model_path), TYPES[dtype])
    with closing(gguf.GGUFWriter(out, architecture.name)) as writer:
        for key, value in settings.items():
            writer.add_key_value(f"{architecture.name}.{key}", value, _value_type(value))
        tokenizer = _add_tokenizer(writer, model_path, config["vocab_size"])
        writer.add_file_type(
            gguf.LlamaFileType[("ALL_" if dtype == "float32" else "MOSTLY_") + TYPES[dtype]]
        )
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for part in parts:
            kind = gguf.GGMLQuantizationType[part.kind]
            size = math.prod(gguf.quant_shape_to_byte_shape(part.shape, kind))
            writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for part in parts:
            kind = gguf.GGMLQuantizationType[part.kind]
            writer.write_tensor_data(gguf.quantize(_values(part, config), kind))
    matrices = [part.kind for part in parts if len(part.shape) > 1]
    return {
        "architecture": architecture.name,
        "tokenizer": tokenizer,
        "matrices": {kind: matrices.count(kind) for kind in sorted(set(matrices))},
        "unused_weights": list[Json](unused),
    }


def _plan(
    architecture: table.Architecture, config: table.Config, weights: Mapping[str, Tensor], kind: str
) -> tuple[list[_Part], list[str]]:
    """List the tensors of the file, and the names of stored weights that are not in it.

    Raises:
        EngineError: llama.cpp does not know a tensor.
        ModelError: the output layer is missing, in place of which llama.cpp would take another.
    """
    import gguf

    arch = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[architecture.name]
    names = gguf.get_tensor_name_map(arch, table.layer_count(config))
    sources: dict[str, str] = {}
    unused: list[str] = []
    for source in filter(is_weight, weights):
        if _layer(source) >= table.layer_count(config):
            unused.append(source)
            continue
        shorter = source.removeprefix("transformer.")  # Bloom's files have both
        targets = [names.get_name(key, (".weight", ".bias")) for key in (source, shorter)]
        if targets == [None, None]:
            raise EngineError(
                f"llama.cpp does not know the tensor {source} in {architecture.name}:"
                " choose another engine for this model",
                permanent=True,
            )
        sources[str(targets[0] or targets[1])] = source
    if config.get("tie_word_embeddings"):
        head, embedding = sources.pop(_HEAD, None), sources[_EMBEDDING]
        if head and not np.array_equal(weights[head].read(), weights[embedding].read()):
            unused.append(head)
    elif _HEAD not in sources:
        raise ModelError(
            "the weights lack the output layer, which config.json (tie_word_embeddings) does not"
            " share with the embedding: fetch the model again, or change model.source"
        )
    if architecture.own_head:
        sources.setdefault(_HEAD, sources[_EMBEDDING])
    looked_up = {_POSITIONS, *({_EMBEDDING} if _HEAD in sources else ())}
    in_float = looked_up if kind == "Q8_0" else set()
    parts = [
        _part(architecture, name, source, weights[source], "F32" if name in in_float else kind)
        for name, source in sources.items()
    ]
    return parts, unused


def _part(
    architecture: table.Architecture, name: str, source: str, tensor: Tensor, kind: str
) -> _Part:
    import gguf

    ends = (changes for end, changes in architecture.changes.items() if source.endswith(end))
    changes = next(ends, ())
    shape = tensor.shape[::-1] if "transpose" in changes else tensor.shape
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return _Part(
        name=name,
        kind="F32" if len(shape) == 1 or shape[-1] % block else kind,
        shape=shape,
        layer=max(0, _layer(source)),
        changes=changes,
        tensor=tensor,
    )


def _layer(source: str) -> int:
    """Index of a tensor's layer; -1 if it belongs to none."""
    found = re.search(r"\.(\d+)\.", source)
    return int(found[1]) if found else -1


def _values(part: _Part, config: table.Config) -> Array:
    """Read a tensor and transform it to llama.cpp's layout."""
    values = part.tensor.read()
    for change in part.changes:
        if change == "transpose":
            values = values.T
        elif change == "plus_one":  # Gemma's norms multiply by 1 + weight
            values = values + 1
        elif change == "group_qkv":  # from q, k, v of each head to all q, all k, all v
            heads = values.reshape(table.head_count(config), 3, -1, *values.shape[1:])
            values = heads.swapaxes(0, 1).reshape(values.shape)
        elif change == "rotary_pairs":  # the two halves of a rotated pair become adjacent
            of_q = part.name.split(".")[-2] == "attn_q"
            count = table.head_count(config) if of_q else table.kv_head_count(config)
            halves = values.reshape(count, 2, -1, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        elif change == "by_layer" and config.get("scale_attn_by_inverse_layer_idx"):
            values = values.copy()  # scaled queries scale the scores
            values[: len(values) // 3] /= part.layer + 1
    return np.ascontiguousarray(values)


def _add_tokenizer(writer: Any, model_path: Path, vocabulary: int) -> str:
    import gguf

    tokenizer = gguf_tokenizer.read(model_path, vocabulary)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
        return "none"
    kinds = [gguf.TokenType.NORMAL] * vocabulary
    for numbers, kind in (
        (tokenizer.unused, gguf.TokenType.UNUSED),
        (tokenizer.added, gguf.TokenType.USER_DEFINED),
        (tokenizer.special, gguf.TokenType.CONTROL),
    ):
        for number in numbers:
            kinds[number] = kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.split)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(tokenizer.merges)
    writer.add_add_bos_token(False)
    for number in eos_ids(model_path)[:1]:
        writer.add_eos_token_id(number)
    return "exact" if tokenizer.exact else "approximate"


def _value_type(value: table.Setting) -> Any:
    import gguf

    kinds = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}
    return gguf.GGUFValueType[kinds[type(value)]]
