"""Export a model to ONNX once: a cache entry with the graph, its weights and its config.

The packages installed in the engine's environment decide the exporter: optimum, or else
transformers' own (version 5). With either, inputs and outputs have the same names, and the graph's
logits for padded prompts are compared with the torch model's. A graph with quantized weights is
made from the export in float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from slm_energy import cache
from slm_energy.config.groups import Dtype
from slm_energy.engines import decode, precision
from slm_energy.engines.base import LoadRequest, derived_from, threads
from slm_energy.engines.onnx import export_fused, export_optimum, export_transformers, weights
from slm_energy.engines.onnx import session as ort
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.engines.onnx.providers import PROVIDERS
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

PACKAGES = ("optimum-onnx", "optimum", "onnx", "onnxscript", "torch", "transformers")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
DEFAULT_CONTEXT = 2048
"""Longest sequence in tokens for a model that states no limit."""
_EXTRA = "pip install 'slm-energy[onnx]'"
_RECIPE = 8
"""To be raised when this package makes another graph of the same model: part of the identity."""


def missing(versions: Mapping[str, str], decode: str, dtype: str = "float32") -> str | None:
    """Why these packages cannot export a model, or None."""
    if precision.is_quantized(dtype) and importlib.util.find_spec("onnx_ir") is None:
        return f"engine onnx with engine.dtype={dtype} needs onnx-ir: pip install onnx-ir"
    if _has_optimum(versions):
        return None
    if decode == "generate":
        return f"engine onnx with engine.decode=generate needs optimum: {_EXTRA}"
    if not _transformers_exports(versions):
        return f"engine onnx needs optimum to export models: {_EXTRA}"
    absent = [name for name in ("onnx", "onnxscript", "torch") if versions[name] == "absent"]
    if absent:
        return f"engine onnx cannot export without {absent[0]}: pip install {absent[0]}"
    return None


def entry_path(request: LoadRequest) -> Path:
    """Folder of this request's export in the cache, whether it exists or not."""
    return cache.place(request.cache_path, "onnx", _identity(request))


def needed(request: LoadRequest) -> bool:
    """Whether the export is still to be made."""
    return not cache.intact(entry_path(request))


def make(request: LoadRequest) -> None:
    """Export the model unless the cache holds an intact export.

    Raises:
        EngineError: the architecture cannot be exported, or the graph computes something else.
    """
    ort.library()
    name = request.settings.model.name
    if not precision.is_quantized(request.settings.engine.dtype):
        cache.make(
            entry_path(request), _identity(request), lambda folder: _export(folder, request), name
        )
        return
    exact = _with_dtype(request, "float32")
    make(exact)
    cache.make(
        entry_path(request),
        _identity(request),
        lambda folder: _quantized(folder, request, exact),
        name,
    )


def _identity(request: LoadRequest) -> dict[str, Json]:
    return {
        **derived_from(request, _RECIPE),
        **precision.identity(request.settings.engine),
        "graph": _kind(request),
        # The runtime infers shapes, quantizes and computes the deviation.
        "versions": request.versions_of(*PACKAGES, *RUNTIMES),
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


def _kind(request: LoadRequest) -> str:
    """`stock`: the library's own graph, which it serves itself; else a graph for our loop.

    `fused` has operators that only the processor has in float32, where the model allows it.
    """
    if request.settings.engine.decode != "session":
        return "stock"
    return "fused" if request.settings.provider.name == "cpu" else "lean"


def _export(folder: Path, request: LoadRequest) -> dict[str, Json]:
    from slm_energy.engines.torch.decoding import is_graphable
    from slm_energy.engines.torch.probe import attention_deviation, probe_logits
    from slm_energy.engines.torch.weights import load_weights

    settings = request.settings
    with warnings.catch_warnings():
        # Tracing warns about every shape that it reads; the comparison below checks the result.
        warnings.simplefilter("ignore")
        model = load_weights(settings.model, request.model_path, settings.engine.dtype)
        if not is_graphable(model):
            raise EngineError(
                f"engine.name=onnx: {model.config.model_type} keeps states besides keys and values,"
                " which the export does not: use engine=torch, llama_cpp or vllm",
                permanent=True,
            )
        attention_deviation(model)
        attention, unused = model.config._attn_implementation, model.unused_weights
        try:
            _write(folder, model, request)
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                f"engine.name=onnx: {model.config.model_type} cannot be exported: {one_line(error)}"
            ) from error
        model.config._attn_implementation = attention
        theirs = probe_logits(model, decode.probe(model.config.vocab_size))
        what = f"engine.name=onnx: the graph made from {model.config.model_type}"
        del model  # so that memory does not hold the weights twice
    ours = _probe_logits(folder, request)
    dtype = settings.engine.dtype
    return {
        "attention": attention,
        "unused_weights": unused,
        "deviation": decode.require_close(ours, theirs, dtype, what),
        **weights.describe(folder, dtype),
    }


def _write(folder: Path, model: Any, request: LoadRequest) -> None:
    kind = _kind(request)
    if kind == "stock":
        export_optimum.stock(folder, model)
        return
    with contextlib.suppress(export_fused.NotFusable):
        if kind == "fused":
            export_fused.fused(folder, model)
            kind = "written"
    if kind != "written":
        (export_optimum if _has_optimum(request.versions) else export_transformers).lean(
            folder, model
        )
    model.config.save_pretrained(folder)


def _quantized(folder: Path, request: LoadRequest, exact: LoadRequest) -> dict[str, Json]:
    source, dtype = entry_path(exact), request.settings.engine.dtype
    shutil.copy(source / "config.json", folder)
    bits, made = precision.BITS[dtype], precision.grouped(request.settings.engine.options)
    assert made.group_size is not None
    weights.quantize(source, folder, bits, made.group_size, symmetric=made.symmetric)
    what = f"engine.name=onnx: the graph with {bits}-bit weights"
    ours, theirs = _probe_logits(folder, exact), _probe_logits(source, exact)
    deviation = decode.require_close(ours, theirs, dtype, what)
    return cache.facts(source) | {"deviation": deviation} | weights.describe(folder, dtype)


def _vocabulary(folder: Path) -> int:
    import json

    size: int = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return size


def _probe_logits(folder: Path, request: LoadRequest) -> list[npt.NDArray[Any]]:
    session = ort.open_session(
        folder / GRAPH, [PROVIDERS["cpu"]], threads(request.settings), "all", True
    )
    batch = decode.probe(_vocabulary(folder))
    return decode.probe_logits(ort.decoding(ort.Graph(session), batch, False, ("cpu", 0)), batch)
