"""TensorRT behind ONNX Runtime: its engines are built beforehand, for every length.

TensorRT compiles a graph for a range of shapes. Left to itself it compiles again whenever a shape
falls outside the range seen so far, in the middle of serving. Here the range is told to it: up to
the batch size and the context of the model. What it builds is an entry of the cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.devices.nvidia import visible_devices
from slm_energy.engines.base import LoadRequest, threads
from slm_energy.engines.onnx import export, providers
from slm_energy.engines.onnx import session as ort
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.models.folder import context_length
from slm_energy.serialization import Json

PACKAGE = "tensorrt-cu13-libs"
_CONTEXT = 2048
"""Longest sequence for a model that names no limit."""


def needed(request: LoadRequest) -> bool:
    """Tell whether the engines are still to be built."""
    return not cache.intact(_place(request))


def make(request: LoadRequest) -> None:
    """Build them unless they are there.

    Raises:
        EngineError: TensorRT refuses the graph.
    """
    from onnx import load

    graph = export.place(request) / GRAPH
    inputs = load(graph, load_external_data=False).graph.input
    length = context_length(request.model_path) or _CONTEXT
    ranges = profiles(_shapes(inputs), request.settings.workload.batch_size, length)

    def fill(folder: Path) -> dict[str, Json]:
        chain = providers.chain(request.settings.provider, _fixed(request, folder) | ranges)
        ort.open_session(graph, chain, threads(request.settings), "all", True)
        return {"profiles": ranges}

    cache.make(_place(request), _identity(request), fill)


def options(request: LoadRequest) -> dict[str, str]:
    """What makes a session take the engines from the cache.

    Raises:
        EngineError: they were not built yet.
    """
    folder = _place(request)
    told: dict[str, str] = cache.facts(folder)["profiles"]  # type: ignore[assignment]
    return _fixed(request, folder) | told


def profiles(inputs: dict[str, list[int | str]], rows: int, length: int) -> dict[str, str]:
    """The range of shapes, as options of the provider.

    Args:
        inputs: dimensions of each input of the graph; names stand for free ones.
        rows: requests in the largest batch.
        length: longest sequence in tokens.
    """
    return {
        "trt_profile_min_shapes": _profile(inputs, 1, 1, 0),
        "trt_profile_opt_shapes": _profile(inputs, rows, 1, length // 2),
        "trt_profile_max_shapes": _profile(inputs, rows, length, length),
    }


def _profile(inputs: dict[str, list[int | str]], rows: int, new: int, past: int) -> str:
    """`name:1x4x0x64,...` for each input."""
    fixed = {
        "input_ids": [rows, new],
        "position_ids": [rows, new],
        "attention_mask": [rows, past + new],
    }
    found = []
    for name, shape in inputs.items():
        cached = [rows, *(dim if isinstance(dim, int) else past for dim in shape[1:])]
        found.append(f"{name}:{'x'.join(map(str, fixed.get(name, cached)))}")
    return ",".join(found)


def _shapes(inputs: Any) -> dict[str, list[int | str]]:
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in inputs
    }


def _fixed(request: LoadRequest, folder: Path) -> dict[str, str]:
    return {
        "trt_fp16_enable": str(request.settings.engine.dtype == "float16"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _place(request: LoadRequest) -> Path:
    return cache.place(request.cache_path, "tensorrt", _identity(request))


def _identity(request: LoadRequest) -> dict[str, Json]:
    return {
        "graph": export.place(request).name,
        "gpu": visible_devices()[request.settings.provider.device].name,
        "batch": request.settings.workload.batch_size,
        "versions": {name: request.versions[name] for name in (*export.RUNTIMES, PACKAGE)},
    }
