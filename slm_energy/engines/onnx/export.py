"""Export a model to ONNX once: an entry of the cache with the graph, its weights and its config.

Which exporter makes it is decided by what is installed where the engine runs: optimum, or else
transformers' own (version 5). Whatever made it, inputs and outputs have the same names, and the
graph has proved on padded prompts that it computes what the torch model does. A graph with 8-bit
weights is made from the entry in float32.
"""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from slm_energy import cache
from slm_energy.config.groups import Dtype
from slm_energy.engines import decode
from slm_energy.engines.base import LoadRequest, derived_from, threads
from slm_energy.engines.onnx import export_optimum, export_transformers
from slm_energy.engines.onnx import session as ort
from slm_energy.engines.onnx.external_data import GRAPH, quantize
from slm_energy.engines.onnx.providers import PROVIDERS
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

PACKAGES = ("optimum-onnx", "optimum", "onnx", "onnxscript", "torch", "transformers")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
_EXTRA = "pip install 'slm-energy[onnx]'"
_RECIPE = 3
"""To be raised when this package makes another graph of the same model: part of the identity."""


def missing(versions: Mapping[str, str], decode: str) -> str | None:
    """The reason why nothing can be exported with these packages, or None."""
    if _has_optimum(versions):
        return None
    if decode == "generate":
        return f"engine onnx with engine.decode=generate needs optimum: {_EXTRA}"
    if not _transformers_exports(versions):
        return f"engine onnx needs optimum to export models: {_EXTRA}"
    lacks = [name for name in ("onnx", "onnxscript", "torch") if versions[name] == "absent"]
    if lacks:
        return f"engine onnx cannot export without {lacks[0]}: pip install {lacks[0]}"
    return None


def place(request: LoadRequest) -> Path:
    """The folder where this request's export is, or will be."""
    return cache.place(request.cache_path, "onnx", _identity(request))


def needed(request: LoadRequest) -> bool:
    """Tell whether the export is still to be made."""
    return not cache.intact(place(request))


def make(request: LoadRequest) -> None:
    """Make the entry unless it is intact.

    Raises:
        EngineError: the architecture cannot be exported, or the graph computes something else.
    """
    ort.library()
    if request.settings.engine.dtype != "int8":
        cache.make(place(request), _identity(request), lambda folder: _export(folder, request))
        return
    exact = _with_dtype(request, "float32")
    make(exact)
    cache.make(place(request), _identity(request), lambda folder: _quantized(folder, exact))


def quantization(told: Mapping[str, Json]) -> str:
    """What is in 8 bits in an entry made with `engine.dtype=int8`, from its facts."""
    return (
        f"weights of {told['quantized']} of {told['linear_layers']} linear layers in 8 bits, one"
        " scale per output; their inputs rounded to 8 bits at each call"
    )


def _identity(request: LoadRequest) -> dict[str, Json]:
    return {
        **derived_from(request, _RECIPE),
        "graph": "lean" if _is_lean(request) else "stock",
        # The runtime infers shapes, rounds to 8 bits and computes the deviation.
        "versions": {name: request.versions[name] for name in (*PACKAGES, *RUNTIMES)},
    }


def _with_dtype(request: LoadRequest, dtype: Dtype) -> LoadRequest:
    engine = dataclasses.replace(request.settings.engine, dtype=dtype)
    return dataclasses.replace(
        request, settings=dataclasses.replace(request.settings, engine=engine)
    )


def _has_optimum(versions: Mapping[str, str]) -> bool:
    return versions["optimum-onnx"] != "absent"


def _transformers_exports(versions: Mapping[str, str]) -> bool:
    installed = versions["transformers"]
    return installed != "absent" and int(installed.partition(".")[0]) >= 5


def _is_lean(request: LoadRequest) -> bool:
    """Our loop gets a graph without needless work; the library's class gets the library's own."""
    return request.settings.engine.decode == "session"


def _export(folder: Path, request: LoadRequest) -> dict[str, Json]:
    from slm_energy.engines.torch.eager import attention_deviation, probed
    from slm_energy.engines.torch.weights import load_weights

    settings = request.settings
    with warnings.catch_warnings():
        # Tracing warns of every shape it looks at; the comparison below tells whether it was right.
        warnings.simplefilter("ignore")
        model = load_weights(settings.model, request.model_path, settings.engine.dtype)
        attention_deviation(model)
        attention = model.config._attn_implementation
        try:
            _write(folder, model, request)
        except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
            raise EngineError(
                f"engine.name=onnx: {model.config.model_type} cannot be exported: {one_line(error)}"
            ) from error
        model.config._attn_implementation = attention
        theirs = probed(model, decode.probe(model.config.vocab_size))
        what = f"engine.name=onnx: the graph made from {model.config.model_type}"
        del model  # so that the weights are not in memory twice
    ours = _probed(folder, request)
    deviation = decode.require_close(ours, theirs, settings.engine.dtype, what)
    return {"attention": attention, "deviation": deviation}


def _write(folder: Path, model: Any, request: LoadRequest) -> None:
    if not _is_lean(request):
        export_optimum.stock(folder, model)
        return
    if _has_optimum(request.versions):
        export_optimum.lean(folder, model)
    else:
        export_transformers.lean(folder, model)
    model.config.save_pretrained(folder)


def _quantized(folder: Path, exact: LoadRequest) -> dict[str, Json]:
    source = place(exact)
    told = cache.facts(source)
    shutil.copy(source / "config.json", folder)
    layers, quantized = quantize(source, folder)
    what = "engine.name=onnx: the graph with 8-bit weights"
    ours, theirs = _probed(folder, exact), _probed(source, exact)
    told["deviation"] = decode.require_close(ours, theirs, "int8", what)
    return told | {"linear_layers": layers, "quantized": quantized}


def _vocabulary(folder: Path) -> int:
    import json

    size: int = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return size


def _probed(folder: Path, request: LoadRequest) -> list[npt.NDArray[Any]]:
    session = ort.open_session(
        folder / GRAPH, [PROVIDERS["cpu"]], threads(request.settings), "all", True
    )
    batch = decode.probe(_vocabulary(folder))
    return decode.probed(ort.Decoding(ort.Graph(session), batch, False, ("cpu", 0)), batch)
