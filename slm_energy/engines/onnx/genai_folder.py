"""The folder that ONNX Runtime GenAI opens: a graph, and the library's configuration of it.

`graph=exported` is optimum's stock graph, which the sweep's interpreter exports as for engine onnx.
`graph=builder` is that of the library's own model builder (attention as one operator; Llama's
relatives), which is made in the library's environment.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.config.groups import Scalar
from slm_energy.engines import precision
from slm_energy.engines.base import LoadRequest, derived_from, find
from slm_energy.engines.onnx import builder, export
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.errors import EngineError
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json, write_json

_BUILDER = ("onnxruntime-genai", "onnxruntime")
_RECIPE = 3
"""To be raised when this package makes another folder of the same graph: part of the identity."""


def builds(settings: Settings) -> bool:
    """Whether the graph is the builder's."""
    return settings.engine.options.get("graph", "exported") == "builder"


def _rounding(request: LoadRequest) -> dict[str, Scalar]:
    """The options about 4-bit weights, which are also the export's."""
    options = request.settings.engine.options
    return {name: options[name] for name in ("scheme", "group_size") if name in options}


def _graph(request: LoadRequest) -> LoadRequest:
    """The request to engine onnx, in the sweep's interpreter, for the export to use."""
    engine = dataclasses.replace(
        request.settings.engine, name="onnx", decode="generate", options=_rounding(request)
    )
    return dataclasses.replace(
        request,
        settings=dataclasses.replace(request.settings, engine=engine),
        versions=find("onnx").versions(),
    )


def entry_path(request: LoadRequest) -> Path:
    """The folder in the cache."""
    return cache.place(request.cache_path, "onnxruntime_genai", _identity(request))


def _identity(request: LoadRequest) -> dict[str, Json]:
    """Without an exporter's versions: the worker, in another environment, cannot know them."""
    made = derived_from(request, _RECIPE) | precision.identity(request.settings.engine)
    if builds(request.settings):
        made |= {"graph": "builder", "versions": request.versions_of(*_BUILDER)}
    return made


def needs_preparation(request: LoadRequest) -> bool:
    """Whether no intact entry exists, or other versions exported its graph."""
    folder = entry_path(request)
    if not cache.intact(folder):
        return True
    return not builds(request.settings) and cache.facts(folder)["graph"] != _source(request).name


def _source(request: LoadRequest) -> Path:
    return export.entry_path(_graph(request))


def prepare(request: LoadRequest, engine: builder.Opens) -> None:
    """Make the folder.

    Args:
        request: what to make it of.
        engine: which compares a built graph with torch.

    Raises:
        EngineError: the graph cannot be made, or computes something else than torch.
    """
    if builds(request.settings):
        cache.make(
            entry_path(request),
            _identity(request),
            lambda folder: builder.build(folder, request, engine),
            request.settings.model.name,
        )
        return
    reason = export.missing(find("onnx").versions(), "generate")
    if reason is not None:
        raise EngineError(reason)
    export.make(_graph(request))
    if needs_preparation(request):
        cache.remove(entry_path(request))
    cache.make(
        entry_path(request),
        _identity(request),
        lambda folder: _fill(folder, request),
        request.settings.model.name,
    )


def _fill(folder: Path, request: LoadRequest) -> dict[str, Json]:
    import onnx

    source = _source(request)
    for file in source.glob(f"{GRAPH}*"):  # the graph and its weights, whatever their names
        os.link(file, folder / file.name)
    graph = onnx.load(source / GRAPH, load_external_data=False).graph
    config = configuration(graph, graph_context(request.model_path) or export.DEFAULT_CONTEXT)
    write_json(folder / "genai_config.json", config)
    facts = cache.facts(source)
    return {
        "graph": source.name,
        "dtype": request.settings.engine.dtype,
        "reserved_id": config["model"]["pad_token_id"],
        "versions": {name: _graph(request).versions[name] for name in export.PACKAGES},
        **facts,
    }


def configuration(graph: Any, context: int) -> dict[str, Any]:
    """The library's configuration of a decoder.

    Args:
        graph: an ONNX graph with its inputs and outputs.
        context: the longest sequence, in tokens.
    """
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    caches = [name for name in inputs if name.startswith("past_key_values")]
    heads, head_size = (inputs[caches[0]][axis].dim_value for axis in (1, 3))
    logits = next(output for output in graph.output if output.name == "logits")
    vocabulary = logits.type.tensor_type.shape.dim[2]
    last = vocabulary.dim_value - 1
    other_inputs = [name for name in inputs if name not in caches]
    return {
        "model": {
            "type": "llama",  # any decoder with a cache of keys and values
            "bos_token_id": 0,
            "eos_token_id": last,
            "pad_token_id": last,
            "context_length": context,
            "vocab_size": vocabulary.dim_value,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": GRAPH,
                "head_size": head_size,
                "hidden_size": heads * head_size,
                "num_attention_heads": heads,
                "num_key_value_heads": heads,
                "num_hidden_layers": len(caches) // 2,
                "inputs": {name: name for name in other_inputs}
                | {
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"max_length": context, "past_present_share_buffer": False},
    }
