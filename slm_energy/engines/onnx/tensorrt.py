"""TensorRT through ONNX Runtime: its engines are built in advance, for every length.

TensorRT compiles a graph for a range of shapes. By default it recompiles, while serving, whenever a
shape falls outside the range seen so far. Here the range is given in advance: up to the batch size
and the context of the model. The engines are a cache entry.
"""

from __future__ import annotations

from pathlib import Path

from slm_energy import cache
from slm_energy.devices.nvidia import visible_devices
from slm_energy.engines.base import LoadRequest, threads
from slm_energy.engines.onnx import export, providers
from slm_energy.engines.onnx import session as ort
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.engines.onnx.simplify import Dims, dimensions
from slm_energy.models.folder import context_length
from slm_energy.serialization import Json

PACKAGE = "tensorrt-cu13-libs"


def needed(request: LoadRequest) -> bool:
    """Whether the engines are still to be built."""
    return not cache.intact(_entry_path(request))


def make(request: LoadRequest) -> None:
    """Build the engines unless the cache holds intact ones.

    Raises:
        EngineError: TensorRT rejects the graph.
    """
    from onnx import load

    graph = export.entry_path(request) / GRAPH
    inputs = load(graph, load_external_data=False).graph.input
    length = context_length(request.model_path) or export.DEFAULT_CONTEXT
    shapes = {value.name: dimensions(value) for value in inputs}
    ranges = profiles(shapes, request.settings.workload.batch_size, length)

    def fill(folder: Path) -> dict[str, Json]:
        chain = providers.chain(request.settings.provider, _fixed(request, folder) | ranges)
        ort.open_session(graph, chain, threads(request.settings), "all", True)
        return {"profiles": ranges}

    cache.make(_entry_path(request), _identity(request), fill, request.settings.model.name)


def options(request: LoadRequest) -> dict[str, str]:
    """Provider options that make a session use the engines in the cache.

    Raises:
        EngineError: the engines were not built yet.
    """
    folder = _entry_path(request)
    ranges: dict[str, str] = cache.facts(folder)["profiles"]  # type: ignore[assignment]
    return _fixed(request, folder) | ranges


def profiles(inputs: dict[str, Dims], rows: int, length: int) -> dict[str, str]:
    """Provider options that give the range of shapes.

    Args:
        inputs: dimensions of each input of the graph; names stand for dynamic ones.
        rows: requests in the largest batch.
        length: longest sequence in tokens.
    """
    return {
        "trt_profile_min_shapes": _profile(inputs, 1, 1, 0),
        "trt_profile_opt_shapes": _profile(inputs, rows, 1, length // 2),
        "trt_profile_max_shapes": _profile(inputs, rows, length, length),
    }


def _profile(inputs: dict[str, Dims], rows: int, new: int, past: int) -> str:
    """`name:1x4x0x64,...` for each input."""
    fixed = {
        "input_ids": [rows, new],
        "position_ids": [rows, new],
        "attention_mask": [rows, past + new],
    }
    shapes = []
    for name, shape in inputs.items():
        cached = [rows, *(dim if isinstance(dim, int) else past for dim in shape[1:])]
        shapes.append(f"{name}:{'x'.join(map(str, fixed.get(name, cached)))}")
    return ",".join(shapes)


def _fixed(request: LoadRequest, folder: Path) -> dict[str, str]:
    return {
        "trt_fp16_enable": str(request.settings.engine.dtype == "float16"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _entry_path(request: LoadRequest) -> Path:
    return cache.place(request.cache_path, "tensorrt", _identity(request))


def _identity(request: LoadRequest) -> dict[str, Json]:
    return {
        "graph": export.entry_path(request).name,
        "gpu": visible_devices()[request.settings.provider.device].name,
        "batch": request.settings.workload.batch_size,
        "versions": request.versions_of(*export.RUNTIMES, PACKAGE),
    }
