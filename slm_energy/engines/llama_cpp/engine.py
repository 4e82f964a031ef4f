"""llama.cpp on a processor or an NVIDIA GPU, with a GGUF file converted from the weights once.

With `decode=session` our loop calls the C interface; with `decode=generate` the `Llama` class of
llama-cpp-python generates, one request after another, because it does not support batches.

In float32 it computes what torch computes, except for one function: GELU comes from a 16-bit
table, always in its tanh form, and shifts logits by about 4e-4 of the largest. With 16-bit weights
it rounds activations to their type in each product; everything between products stays in float32.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from slm_energy import cache, extras
from slm_energy.cell import Settings
from slm_energy.devices import cuda
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, threads
from slm_energy.engines.llama_cpp import gguf_architectures, gguf_export
from slm_energy.engines.llama_cpp.bindings import LoadOptions, Session, longest
from slm_energy.engines.llama_cpp.convenience import Convenience
from slm_energy.engines.llama_cpp.session import Decoding
from slm_energy.errors import EngineError
from slm_energy.models.architecture import shrink
from slm_energy.serialization import Json

_CACHE_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
"""Type of the KV cache: llama.cpp's own default is f16 regardless of the weights."""

_TOLERANCE = decode.TOLERANCE | {"float32": 0.01}
"""Wider in float32 than for other engines, because of the GELU table."""

_QUANTIZATION = (
    "matrices in Q8_0: 8 bits, one 16-bit scale for 32 weights; activations are rounded alike in"
    " every product with them; the rest is float32"
)


_ONE = Batch(prompts=((1,),), new_tokens=1, stop="fixed")


class LlamaCppEngine:
    """A GGUF file loaded in llama.cpp."""

    def load(self, request: LoadRequest) -> dict[str, Json]:
        """Map the weights and run one token through them.

        Raises:
            EngineError: the model was not exported yet, or llama.cpp did not load it as requested.
        """
        engine, provider = request.settings.engine, request.settings.provider
        folder = gguf_export.cache_folder(request)
        exported = cache.facts(folder)
        options = _load_options(request, folder / gguf_export.FILE)
        self._eos_ids = request.eos_ids
        self._runtime: Session | Convenience = (
            Session(options) if engine.decode == "session" else Convenience(options)
        )
        facts = self._runtime.facts()
        _require(facts, request)
        if provider.name == "cuda":
            facts["tf32"] = os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
            facts |= device_identity(facts)
        if isinstance(self._runtime, Session):
            Decoding(self._runtime, _ONE).prefill()
        else:
            self._runtime.prefill(_ONE)
        return facts | {
            "provider": provider.name,
            "dtype": engine.dtype,
            "quantization": _QUANTIZATION if engine.dtype == "int8" else None,
            "kv_cache": True,
            "attention": "flash" if options.flash else "eager",
            "architecture": exported["architecture"],
            "matrices": exported["matrices"],
            "export_deviation": exported["deviation"],
            "unused_weights": exported.get("unused_weights"),
            "decode": engine.decode,
            "batched": engine.decode == "session",
        }

    def compile(self, batches: Sequence[Batch]) -> dict[str, Json]:
        """Create a context exactly as long as these batches need.

        Returns:
            The settings in force.

        Raises:
            EngineError: it cannot be created.
        """
        self._runtime.reserve(
            max(len(batch.prompts) for batch in batches),
            max(longest(batch) for batch in batches),
            max(sum(map(len, batch.prompts)) for batch in batches),
        )
        return self._runtime.facts()

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        if isinstance(self._runtime, Convenience):
            return self._runtime.generate(batch, self._eos_ids)
        return decode.greedy(Decoding(self._runtime, batch), batch, self._eos_ids)

    def close(self) -> None:
        """Free the weights."""
        self._runtime.close()


def _load_options(request: LoadRequest, file: Path) -> LoadOptions:
    engine, provider = request.settings.engine, request.settings.provider
    return LoadOptions(
        file=file,
        cuda_device=provider.device if provider.name == "cuda" else None,
        threads=threads(request.settings),
        kv_type=_CACHE_TYPES[engine.dtype],
        flash=engine.options.get("flash_attention", "off") == "on",
    )


def _require(facts: Mapping[str, Any], request: LoadRequest) -> None:
    """Raise EngineError unless the library reports what was requested."""
    dtype, provider = request.settings.engine.dtype, request.settings.provider.name
    if set(facts["tensors"]) != {gguf_export.TYPES[dtype].lower(), "f32"}:
        raise EngineError(
            f"engine.dtype={dtype}: llama.cpp loaded tensors of {facts['tensors']}", permanent=True
        )
    if facts["kv_type"] != _CACHE_TYPES[dtype]:
        raise EngineError(
            f"engine.dtype={dtype}: the KV cache is {facts['kv_type']}", permanent=True
        )
    on_gpu = any(name.startswith("CUDA") for name in facts["weights_mib"])
    if on_gpu != (provider == "cuda"):
        raise EngineError(f"provider.name={provider}: weights are in {facts['weights_mib']}")


def device_identity(facts: Mapping[str, Any]) -> dict[str, Json]:
    """`device_uuid` of the GPU that holds the weights; empty if that is not exactly one.

    Args:
        facts: `weights_mib` by device, as the library reports it; `CUDA1` is the GPU that CUDA
            numbers 1.
    """
    devices = facts["weights_mib"]
    indices = {int(name[4:]) for name in devices if re.fullmatch(r"CUDA\d+", name)}
    return cuda.identity(indices.pop()) if len(indices) == 1 else {}


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    provider = settings.provider
    if provider.name not in ("cpu", "cuda"):
        return f"engine llama_cpp has no provider {provider.name}: use cpu or cuda"
    if lacking := extras.missing("llama_cpp", "llama_cpp", "gguf"):
        return f"engine llama_cpp needs {lacking}"
    model = settings.model
    if model.attention != "auto":
        return f"model.attention={model.attention}: llama.cpp has its own; use auto"
    try:
        if model.architecture:
            tiny = model.scale == "tiny"
            gguf_architectures.find(shrink(model.architecture, 1) if tiny else model.architecture)
    except EngineError as error:
        return str(error)
    if provider.name == "cuda" and not _has_cuda_build():
        return (
            "provider.name=cuda: this llama-cpp-python is a CPU-only build; build it with"
            " CMAKE_ARGS=-DGGML_CUDA=on"
        )
    return None


def _has_cuda_build() -> bool:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return False
    return any((Path(spec.origin).parent / "lib").glob("*ggml-cuda*"))


def _needs_preparation(request: LoadRequest) -> bool:
    return not cache.intact(gguf_export.cache_folder(request))


def _prepare(request: LoadRequest) -> None:
    def fill(folder: Path) -> dict[str, Json]:
        file = folder / gguf_export.FILE
        facts = gguf_export.convert(request.model_path, file, request.settings.engine.dtype)
        return {**facts, "deviation": _deviation(request, file)}

    cache.make(
        gguf_export.cache_folder(request),
        gguf_export.identity(request),
        fill,
        request.settings.model.name,
    )


def _deviation(request: LoadRequest, file: Path) -> float | None:
    """Compare the file's logits with torch's in float32, on a probe's prompts and one more token.

    Returns:
        Largest difference as a share of the largest logit; None if torch is not installed.

    Raises:
        EngineError: they differ by more than rounding.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return None
    from slm_energy.engines.torch.eager import probe_logits
    from slm_energy.engines.torch.weights import load_weights

    model = load_weights(request.settings.model, request.model_path, "float32")
    batch = decode.probe(model.config.vocab_size)
    expected = probe_logits(model, batch)
    del model  # so that the weights are not in memory twice
    with closing(
        Session(dataclasses.replace(_load_options(request, file), cuda_device=None))
    ) as session:
        logits = decode.probe_logits(Decoding(session, batch), batch)
    label = f"engine.name=llama_cpp: the GGUF file of {request.model_path}"
    return decode.require_close(logits, expected, request.settings.engine.dtype, label, _TOLERANCE)


ENGINE = EngineSpec(
    name="llama_cpp",
    packages=("llama-cpp-python", "gguf"),
    create=LlamaCppEngine,
    imports=lambda settings: importlib.import_module("llama_cpp"),
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    options={"flash_attention": ("off", "on")},
    dtypes=("float32", "bfloat16", "float16", "int8"),
)
