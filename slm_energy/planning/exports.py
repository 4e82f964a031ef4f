"""What is still to be derived from a model's weights before a cell can be served."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from slm_energy.cache import CacheEntry
from slm_energy.cell import Cell, Settings
from slm_energy.config.groups import Dtype
from slm_energy.engines import precision
from slm_energy.planning.memory import is_stock, linear_bytes, other_bytes
from slm_energy.planning.size import Size
from slm_energy.serialization import Json

_KINDS = {
    "torchscript": "torchscript",
    "onnx": "onnx",
    "onnxruntime_genai": "onnx",
    "openvino": "openvino",
    "openvino_genai": "openvino",
    "llama_cpp": "gguf",
}
"""Kind of an engine's entries in the cache. torch_compile keeps machine code of some megabytes,
which is left out."""


def missing(cell: Cell, size: Size, cached: Sequence[CacheEntry]) -> dict[tuple[str, ...], int]:
    """Exports that are not in the cache: an identity, and bytes on disk.

    A quantized graph is made from one in float32, which stays in the cache.

    Args:
        cell: its settings, and the digest of its model.
        size: of the model.
        cached: what is in the cache of exports.
    """
    settings, own = cell.settings, cell.settings.engine
    kind = _KINDS.get(own.name)
    if kind is None:
        return {}
    graph, dtypes = "", [own.dtype]
    if own.options.get("graph") == "builder":
        kind, graph = own.name, "builder"
    elif kind == "onnx":
        graph = "stock" if is_stock(settings) else "fused"
        if precision.is_quantized(own.dtype):
            dtypes.insert(0, "float32")
    # Engine onnx makes that of onnxruntime_genai, with versions that the cell does not name.
    by_another = kind == "onnx" and own.name != "onnx"
    needed = dict[tuple[str, ...], int]()
    for dtype in dtypes:
        wanted = {
            "model": cell.model_digest, "dtype": dtype,
            "attention": settings.model.attention, "graph": graph,
            **(precision.identity(own) if dtype == "int4" and kind != "gguf" else {}),
        }  # fmt: skip
        if not any(
            entry.kind == kind
            and wanted | entry.identity == entry.identity | wanted  # llama.cpp has one attention
            and (by_another or _same_versions(cell, entry.identity.get("versions")))
            for entry in cached
        ):
            identity = (kind, *map(str, wanted.values()))
            needed[identity] = _stored(settings, dtype, size)
    return needed


def random_weights(
    cell: Cell, size: Size, cached: Sequence[CacheEntry]
) -> dict[tuple[str, ...], int]:
    """Random weights that are still to be made, as in `missing`: two bytes each."""
    known = [entry.path.name for entry in cached if entry.kind == "random"]
    if cell.settings.model.weights != "random" or cell.model_digest in known:
        return {}
    return {("random", cell.model_digest): 2 * size.parameters}


def _same_versions(cell: Cell, made_with: Json) -> bool:
    """Whether the cell has these versions, as far as it names them."""
    made = made_with if isinstance(made_with, dict) else {}
    return all(cell.versions.get(name, version) == version for name, version in made.items())


def _stored(settings: Settings, dtype: Dtype, size: Size) -> int:
    """Bytes of an export's file."""
    engine = dataclasses.replace(settings.engine, dtype=dtype)
    settings = dataclasses.replace(settings, engine=engine)
    linear = linear_bytes(settings)
    if engine.name == "llama_cpp":
        return round(size.parameters * linear)
    shared = size.shared if engine.name.startswith("onnx") else 0
    return round(size.embedding * other_bytes(dtype) + (size.linear + shared) * linear)
