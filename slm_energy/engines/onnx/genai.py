"""ONNX Runtime GenAI: Microsoft's own generation loop.

It runs in a separate environment, because it installs another build of ONNX Runtime.
`graph=exported` is optimum's stock graph, which the sweep's interpreter exports as for engine onnx.
`graph=builder` is that of the library's own model builder (attention as one operator; Llama's
relatives), which is made in the library's environment. With either, the library selects each
prompt's last position itself.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.config.groups import Scalar
from slm_energy.engines import decode, precision
from slm_energy.engines.base import (
    Batch,
    Completion,
    EngineSpec,
    LoadRequest,
    derived_from,
    find,
    threads,
)
from slm_energy.engines.onnx import builder, export, weights
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.errors import EngineError, one_line
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json, write_json

_BUILDER = ("onnxruntime-genai", "onnxruntime")
_RECIPE = 3
"""To be raised when this package makes another folder of the same graph: part of the identity."""


def _library() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # see `session.library`
    import onnxruntime_genai

    return onnxruntime_genai


class GenaiEngine:
    """An ONNX Runtime GenAI model over the exported graph."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Load the graph and configuration that `prepare` made, and run one token through it.

        The library does not report its number of threads or its type: the requested number and the
        type of the graph are reported instead.

        Raises:
            EngineError: nothing is prepared, the library rejects it, or a padded batch computes
                something else (checked if workload.batch_size is above 1).
        """
        folder = _entry_path(request)
        facts = cache.facts(folder)
        self.open(folder, int(str(facts["reserved_id"])), request.settings)
        self._eos_ids = request.eos_ids
        padded = None
        if request.settings.workload.batch_size > 1:
            padded = self._require_batches(request.settings.engine.dtype)
        else:
            self._start(Batch(prompts=((0,),), new_tokens=1, stop="fixed"))
        return {
            "provider": self._model.device_type.lower(),
            "dtype": facts["dtype"],
            "weights": facts["weights"],
            "threads": threads(request.settings),
            "spinning": _spins(request.settings),
            "told_by_runtime": ["provider"],
            "graph": "builder" if _builds(request.settings) else "exported",
            "kv_cache": True,
            "attention": facts["attention"],
            "export_deviation": facts["deviation"],
            "unused_weights": facts.get("unused_weights"),
            "padding_deviation": padded,
            "exported_by": facts["versions"],
            "context": graph_context(request.model_path),
            "decode": request.settings.engine.decode,
        }

    def open(self, folder: Path, reserved: int, settings: Settings) -> None:
        """Open a graph and its configuration.

        Args:
            folder: of both.
            reserved: the token that the library masks.
            settings: with threads and spinning.

        Raises:
            EngineError: the library rejects them.
        """
        onnxruntime_genai = _library()
        session = {
            "intra_op_num_threads": threads(settings),
            "session.intra_op.allow_spinning": str(int(_spins(settings))),
        }
        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        try:
            self._model = onnxruntime_genai.Model(config)
        except RuntimeError as error:
            raise EngineError(
                f"engine.name=onnxruntime_genai: {folder} cannot be opened: {one_line(error)}"
            ) from error
        self._reserved = reserved

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits, or the reserved token is read or generated.
        """
        generator = self._start(batch)
        answers = decode.collect(self._steps(generator), batch, self._eos_ids)
        # An earlier NaN stays in the cache and makes every later logit NaN.
        if np.isnan(generator.get_output("logits")).any():
            raise EngineError("NaN logits: try engine.dtype=float32, or another model.source")
        return answers

    def close(self) -> None:
        """Drop the model."""
        del self._model

    def _start(self, batch: Batch) -> Any:
        """Return a generator that has processed the prompts."""
        import onnxruntime_genai

        ids = right_padded(batch.prompts, self._reserved)
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(
            do_sample=False, batch_size=len(ids), max_length=ids.shape[1] + batch.new_tokens
        )
        generator = onnxruntime_genai.Generator(self._model, parameters)
        generator.append_tokens(ids)
        return generator

    def _require_batches(self, dtype: str) -> float:
        """Compare a padded batch, and one further token, with each prompt alone, by their logits.

        The library pads on the right: a graph that counts positions itself counts the padding, too.

        Returns:
            The largest difference as a share of the largest logit.

        Raises:
            EngineError: it is larger than the tolerance, or there are NaN logits.
        """
        prompts = decode.probe(self._reserved).prompts
        generator = self._start(Batch(prompts=prompts, new_tokens=2, stop="fixed"))
        together = [generator.get_logits().copy()]
        ids = next(self._steps(generator))
        together.append(generator.get_logits())
        longer = tuple((*prompt, token) for prompt, token in zip(prompts, ids, strict=True))
        largest = decode.deviation(together, [self.alone(prompts), self.alone(longer)])
        if largest > decode.TOLERANCE[dtype]:
            raise EngineError(
                f"engine.name=onnxruntime_genai: a padded batch differs by {largest:.1e} of the"
                " largest logit from its prompts alone: set workload.batch_size=1",
                permanent=True,
            )
        return largest

    def alone(self, prompts: tuple[tuple[int, ...], ...]) -> Any:
        """Logits (b, 1, vocabulary) after each prompt, computed one by one."""
        batches = (Batch(prompts=(prompt,), new_tokens=1, stop="fixed") for prompt in prompts)
        return np.concatenate([self._start(batch).get_logits() for batch in batches])

    def _steps(self, generator: Any) -> Iterator[list[int]]:
        while True:
            generator.generate_next_token()
            column: list[int] = generator.get_next_tokens().tolist()
            if self._reserved in column:
                raise _reserved_token_error(self._reserved)
            yield column


def right_padded(prompts: tuple[tuple[int, ...], ...], reserved: int) -> Any:
    """Pad prompts on the right with `reserved`, the token that the library masks.

    Returns:
        Token ids (b, longest).

    Raises:
        EngineError: a prompt contains the reserved token.
    """
    ids = np.full((len(prompts), max(map(len, prompts))), reserved, dtype=np.int32)
    for row, prompt in enumerate(prompts):
        if reserved in prompt:
            raise _reserved_token_error(reserved)
        ids[row, : len(prompt)] = prompt
    return ids


def _reserved_token_error(reserved: int) -> EngineError:
    return EngineError(
        f"engine.name=onnxruntime_genai: token {reserved} occurs, which is reserved as padding"
        " and end-of-text token: use engine.name=onnx",
        permanent=True,
    )


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    if importlib.util.find_spec("onnxruntime_genai") is None:
        return (
            "engine onnxruntime_genai needs a separate environment: slm-energy env create"
            " onnxruntime_genai, then engine.python=onnxruntime_genai"
        )
    if settings.engine.decode != "generate":
        return "engine onnxruntime_genai supports only its own loop: set engine.decode=generate"
    if settings.provider.name != "cpu":
        return f"engine onnxruntime_genai has no provider {settings.provider.name}: use cpu"
    if _builds(settings) and importlib.util.find_spec("torch") is None:
        return (
            "engine.options.graph=builder needs torch and transformers in the environment:"
            " slm-energy env remove onnxruntime_genai, then env create onnxruntime_genai"
        )
    return precision.ineffective(settings.engine.dtype, settings.engine.options)


def _builds(settings: Settings) -> bool:
    return settings.engine.options.get("graph", "exported") == "builder"


def _spins(settings: Settings) -> bool:
    return settings.engine.options.get("spinning", "on") == "on"


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


def _entry_path(request: LoadRequest) -> Path:
    return cache.place(request.cache_path, "onnxruntime_genai", _identity(request))


def _identity(request: LoadRequest) -> dict[str, Json]:
    """Without an exporter's versions: the worker, in another environment, cannot know them."""
    made = derived_from(request, _RECIPE) | precision.identity(request.settings.engine)
    if _builds(request.settings):
        made |= {"graph": "builder", "versions": request.versions_of(*_BUILDER)}
    return made


def _needs_preparation(request: LoadRequest) -> bool:
    """Whether no intact entry exists, or other versions exported its graph."""
    folder = _entry_path(request)
    if not cache.intact(folder):
        return True
    return not _builds(request.settings) and cache.facts(folder)["graph"] != _source(request).name


def _source(request: LoadRequest) -> Path:
    return export.entry_path(_graph(request))


def _prepare(request: LoadRequest) -> None:
    if _builds(request.settings):
        cache.make(
            _entry_path(request),
            _identity(request),
            lambda folder: builder.build(folder, request, GenaiEngine()),
            request.settings.model.name,
        )
        return
    reason = export.missing(find("onnx").versions(), "generate")
    if reason is not None:
        raise EngineError(reason)
    export.make(_graph(request))
    if _needs_preparation(request):
        cache.remove(_entry_path(request))
    cache.make(
        _entry_path(request),
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
    config = _configuration(graph, graph_context(request.model_path) or export.DEFAULT_CONTEXT)
    write_json(folder / "genai_config.json", config)
    facts = cache.facts(source)
    return {
        "graph": source.name,
        "dtype": request.settings.engine.dtype,
        "reserved_id": config["model"]["pad_token_id"],
        "versions": {name: _graph(request).versions[name] for name in export.PACKAGES},
        **facts,
    }


def _configuration(graph: Any, context: int) -> dict[str, Any]:
    """The library's configuration of a decoder, derived from the graph."""
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


ENGINE = EngineSpec(
    name="onnxruntime_genai",
    packages=("onnxruntime-genai", "onnxruntime", "onnxruntime-gpu"),
    create=GenaiEngine,
    imports=lambda settings: _library(),
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    prepares_in_sweep=lambda settings: not _builds(settings),
    options={
        "graph": ("exported", "builder"),
        "spinning": ("on", "off"),
        "scheme": precision.SCHEMES,
        "group_size": weights.GROUP_SIZES,
    },
    dtypes=("float32", "int8", "int4"),
)
