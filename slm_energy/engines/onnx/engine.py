"""ONNX Runtime on a CPU or an NVIDIA GPU, with a graph that was exported once.

With `decode=session` the worker imports neither torch nor transformers, and the graph omits
unnecessary work. With `decode=generate` optimum's `ORTModelForCausalLM` serves optimum's own graph,
as its users run it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_energy import cache
from slm_energy.cell import Settings
from slm_energy.engines import decode, precision
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, threads
from slm_energy.engines.onnx import export, export_fused, providers, tensorrt, weights
from slm_energy.engines.onnx import session as ort
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.engines.onnx.providers import Node
from slm_energy.engines.torch.device import has_cuda_build
from slm_energy.errors import EngineError
from slm_energy.models.folder import graph_context
from slm_energy.serialization import Json


class OnnxEngine:
    """An ONNX Runtime session over an exported graph."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Open the exported graph on the requested provider, and run one token through it.

        Raises:
            EngineError: nothing was exported yet, or the requested provider or type is not in use.
        """
        engine, provider = request.settings.engine, request.settings.provider
        folder = export.entry_path(request)
        exported = cache.facts(folder)
        self._eos_ids = request.eos_ids
        self._session = _open(request, folder)
        computed = providers.nodes(self._session)
        placed = providers.placement(provider.name, self._session.get_providers(), computed)
        self._graph = ort.Graph(self._session)
        on_gpu = provider.name != "cpu"
        self._device = ("cuda", provider.device) if on_gpu else ("cpu", 0)
        requested = str(engine.options.get("io_binding", "auto"))
        faster = on_gpu or (engine.decode == "session" and self._graph.binding_is_faster())
        self._binding = faster if requested == "auto" else requested == "on"
        self._model: Any = None
        if engine.decode == "generate":
            self._model = _convenience(folder, self._graph, self._binding)
        first = Batch(prompts=((1,),), new_tokens=1, stop="fixed")
        ort.decoding(self._graph, first, self._binding, self._device).prefill()
        options = self._session.get_session_options()
        in_force = self._session.get_provider_options()
        return {
            "provider": provider.name,
            **placed,
            **providers.tf32(in_force),
            **providers.device_identity(in_force),
            "dtype": dtype(engine.dtype, self._graph.dtype.name, exported, computed),
            "weights": exported["weights"],
            "threads": options.intra_op_num_threads,
            "spinning": options.get_session_config_entry(ort.SPINNING) == "1",
            "graph_optimization": options.graph_optimization_level.name,
            "io_binding": self._binding,
            "kv_cache": bool(self._graph.caches),
            "attention": exported["attention"],
            "attention_fused": sum(node.operator == export_fused.OPERATOR for node in computed),
            "export_deviation": exported["deviation"],
            "unused_weights": exported.get("unused_weights"),
            "context": graph_context(request.model_path),
            "decode": engine.decode,
        }

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        if self._model is not None:
            return decode.generate(self._model, batch, self._eos_ids, self._model.device)
        decoding = ort.decoding(self._graph, batch, self._binding, self._device)
        return decode.greedy(decoding, batch, self._eos_ids)

    def close(self) -> None:
        """Drop the session."""
        del self._model, self._graph, self._session


def _open(request: LoadRequest, folder: Path) -> Any:
    engine, provider = request.settings.engine, request.settings.provider
    options = tensorrt.options(request) if provider.name == "tensorrt" else None
    return ort.open_session(
        folder / GRAPH,
        providers.chain(provider, options),
        threads=threads(request.settings),
        optimization=str(engine.options.get("graph_optimization", "all")),
        spinning=engine.options.get("spinning", "on") == "on",
    )


def _convenience(folder: Path, graph: ort.Graph, binding: bool) -> Any:
    model_class, config_class = _classes()
    config = config_class.from_pretrained(folder, local_files_only=True)
    model = model_class(config=config, session=graph.session, use_io_binding=binding)
    # optimum derives these from the config, wrongly for Qwen3 and Phi-3; the graph has them right.
    _, model.num_key_value_heads, _, model.embed_size_per_head = graph.cache_shape[0]
    decode.prepare_generate(model)
    return model


def _classes() -> tuple[Any, Any]:
    decode.skip_extras()
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoConfig

    return ORTModelForCausalLM, AutoConfig


def _imports(settings: Settings) -> None:
    ort.library()
    if settings.engine.decode == "generate":
        _classes()


def dtype(requested: str, caches: str, exported: dict[str, Json], computed: list[Node]) -> Json:
    """The type in force: that of the caches, or of the weights if they are quantized.

    Args:
        requested: `engine.dtype`.
        caches: type of the graph's caches.
        exported: facts of the export's cache entry.
        computed: the session's nodes.

    Raises:
        EngineError: not all layers that were exported with quantized weights run with them.
    """
    if not precision.is_quantized(requested):
        return caches
    running = sum(node.operator == weights.PRODUCT for node in computed)
    if running != exported["quantized"] or not running:
        raise EngineError(
            f"engine.dtype={requested}: {running} products with quantized weights run,"
            f" {exported['quantized']} were exported: use engine.dtype=float32",
            permanent=True,
        )
    return requested


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    engine, provider = settings.engine, settings.provider.name
    reason = providers.missing(settings.provider)
    if reason is not None:
        return reason
    if provider == "cpu" and engine.dtype == "float16":
        return "engine onnx with engine.dtype=float16 on cpu: use float32, int8 or int4"
    if provider != "cpu" and precision.is_quantized(engine.dtype):
        return f"engine onnx with engine.dtype={engine.dtype} on {provider}: supported on cpu only"
    if (reason := precision.ineffective(engine.dtype, engine.options)) is not None:
        return reason
    if provider != "cpu" and engine.decode == "generate" and not has_cuda_build():
        return f"provider.name={provider}, engine.decode=generate: this torch is a CPU-only build"
    return export.missing(ENGINE.versions(), engine.decode, engine.dtype)


def _needs_preparation(request: LoadRequest) -> bool:
    return export.needed(request) or (
        request.settings.provider.name == "tensorrt" and tensorrt.needed(request)
    )


def _prepare(request: LoadRequest) -> None:
    export.make(request)
    if request.settings.provider.name == "tensorrt":
        tensorrt.make(request)


ENGINE = EngineSpec(
    name="onnx",
    packages=(*export.RUNTIMES, *export.PACKAGES, tensorrt.PACKAGE),
    create=OnnxEngine,
    imports=_imports,
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    options={
        "graph_optimization": tuple(ort.OPTIMIZATION),
        "io_binding": ("auto", "on", "off"),
        "spinning": ("on", "off"),
        "scheme": precision.SCHEMES,
        "group_size": weights.GROUP_SIZES,
    },
    dtypes=("float32", "float16", "int8", "int4"),
)
