"""ONNX Runtime on a processor or an NVIDIA GPU, with a graph that optimum exported once.

With `decode=session` the worker imports neither torch nor transformers, and the graph is freed of
needless work. With `decode=generate` optimum's `ORTModelForCausalLM` serves optimum's own graph, as
its users have it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.cell import Settings
from slm_energy.engines import cuda, decode, onnx_export
from slm_energy.engines import onnx_session as ort
from slm_energy.engines.base import Answer, Batch, Engine, EngineSpec, Job
from slm_energy.engines.torch import has_cuda_build
from slm_energy.errors import EngineError
from slm_energy.models import context_length
from slm_energy.plain import Json, read_json


class OnnxEngine:
    """An ONNX Runtime session over an exported graph."""

    def load(self, job: Job) -> dict[str, Json]:
        """Open the exported graph on the asked provider.

        Raises:
            EngineError: nothing was exported yet, or the session fell back to another provider.
        """
        engine, provider = job.settings.engine, job.settings.provider
        folder = onnx_export.entry(job, exporters())
        if not (folder / onnx_export.MANIFEST).is_file():
            raise EngineError(f"nothing is exported in {folder}: run the prepare step first")
        manifest = read_json(folder / onnx_export.MANIFEST, onnx_export.Manifest)
        self._eos_ids = job.eos_ids
        self._session = ort.open_session(
            folder / onnx_export.GRAPH,
            provider.name,
            provider.device,
            threads=engine.threads or len(os.sched_getaffinity(0)),
            optimization=str(engine.options.get("graph_optimization", "all")),
            spinning=engine.options.get("spinning", "on") == "on",
        )
        providers = self._session.get_providers()
        if providers[0] != ort.PROVIDERS[provider.name]:
            raise EngineError(
                f"provider.name={provider.name}: ONNX Runtime fell back to {providers[0]};"
                " check that its CUDA and cuDNN libraries load (worker.log says which did not)"
            )
        self._graph = ort.Graph(self._session)
        self._device = (provider.name, provider.device if provider.name == "cuda" else 0)
        asked = str(engine.options.get("io_binding", "auto"))
        pays = provider.name == "cuda" or (
            engine.decode == "session" and self._graph.binding_pays()
        )
        self._binding = pays if asked == "auto" else asked == "on"
        self._model: Any = None
        if engine.decode == "generate":
            self._model = _convenience(folder, self._graph, self._binding)
        options = self._session.get_session_options()
        return {
            "provider": provider.name,
            "providers": providers,
            "provider_node_share": ort.node_share(self._session, provider.name),
            "dtype": self._graph.dtype.name,
            "threads": options.intra_op_num_threads,
            "spinning": options.get_session_config_entry(ort.SPINNING) == "1",
            "graph_optimization": options.graph_optimization_level.name,
            "io_binding": self._binding,
            "kv_cache": bool(self._graph.caches),
            "attention": manifest.attention,
            "export_deviation": manifest.deviation,
            "context": context_length(job.model_path),
            "decode": engine.decode,
        }

    def generate(self, batch: Batch) -> list[Answer]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        if self._model is not None:
            return decode.generate(self._model, batch, self._eos_ids, self._model.device)
        peaks: list[list[float]] = []
        result = decode.collect(self._steps(batch, peaks), batch, self._eos_ids)
        decode.require_numbers(peaks)
        return result

    def close(self) -> None:
        """Drop the session."""
        del self._model, self._graph, self._session

    def _steps(self, batch: Batch, peaks: list[list[float]]) -> Iterator[list[int]]:
        decoding = ort.Decoding(self._graph, batch, self._binding, self._device)
        rows = np.arange(len(batch.prompts))
        logits = decoding.prefill()
        while True:
            ids: npt.NDArray[np.int64] = logits.argmax(axis=-1)
            peaks.append(logits[rows, ids].tolist())
            yield ids.tolist()
            logits = decoding.step(ids)


def _convenience(folder: Path, graph: ort.Graph, binding: bool) -> Any:
    decode.skip_sklearn()
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    model = ORTModelForCausalLM(config=config, session=graph.session, use_io_binding=binding)
    # optimum derives these from the config, wrongly for Qwen3 and Phi-3; the graph knows them.
    _, model.num_key_value_heads, _, model.embed_size_per_head = graph.cache_shape[0]
    decode.prepare_generate(model)
    return model


def exporters() -> dict[str, str]:
    """Versions of the packages that decide what an exported graph is."""
    found = ENGINE.versions()
    return {name: found[name] for name in onnx_export.PACKAGES}


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    provider, dtype = settings.provider.name, settings.engine.dtype
    if provider not in ort.PROVIDERS:
        return f"engine onnx has no provider {provider}: use cpu or cuda"
    if dtype == "bfloat16":
        return "engine onnx with engine.dtype=bfloat16: ONNX Runtime lacks operators in that type"
    if provider == "cpu":
        if dtype != "float32":
            return f"engine onnx with engine.dtype={dtype} on cpu: use float32 there"
        return None
    if not _has_cuda_build():
        return "provider.name=cuda: this onnxruntime is a CPU-only build; install onnxruntime-gpu"
    if settings.engine.decode == "generate" and not has_cuda_build():
        return "provider.name=cuda, engine.decode=generate: this torch is a CPU-only build"
    return cuda.missing(settings.provider.device)


def _has_cuda_build() -> bool:
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return False
    return any((Path(found.origin).parent / "capi").glob("*onnxruntime_providers_cuda*"))


def _create() -> Engine:
    return OnnxEngine()


def _needs_preparation(job: Job) -> bool:
    return not onnx_export.intact(onnx_export.entry(job, exporters()))


def _prepare(job: Job) -> None:
    onnx_export.export(job, exporters())


ENGINE = EngineSpec(
    name="onnx",
    packages=("onnxruntime-gpu", "onnxruntime", *onnx_export.PACKAGES),
    create=_create,
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    options={
        "graph_optimization": tuple(ort.OPTIMIZATION),
        "io_binding": ("auto", "on", "off"),
        "spinning": ("on", "off"),
    },
)
