"""PyTorch, eager: transformers models on a CPU or an NVIDIA GPU.

SDPA attention is compared with eager attention on a few tokens at each load, because the SDPA path
of some architectures in transformers has silently dropped part of the computation.
"""

from __future__ import annotations

import importlib
from typing import Any

from slm_energy import extras
from slm_energy.cell import Settings
from slm_energy.config.groups import Dtype
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest
from slm_energy.engines.precision import BITS, STORED, grouped, ineffective
from slm_energy.engines.torch.decoding import (
    decoding,
    forward_parameters,
    greedy,
    makes_own_cache,
)
from slm_energy.engines.torch.device import device_identity, has_cuda_build, set_up, synchronize
from slm_energy.engines.torch.precision import effective_precision, quantize
from slm_energy.engines.torch.probe import attention_deviation, require_padding
from slm_energy.engines.torch.weights import keep_last_position, library, load_weights
from slm_energy.errors import EngineError
from slm_energy.models.folder import context_length
from slm_energy.serialization import Json


class TorchEngine:
    """A transformers model."""

    def load(self, load_request: LoadRequest) -> dict[str, Json]:
        """Load the weights in the requested type onto the requested device.

        Raises:
            EngineError: the weights cannot be loaded as requested, or SDPA attention is wrong.
        """
        self._eos_ids = load_request.eos_ids
        self._decode = load_request.settings.engine.decode
        self._model, effective = load_model(load_request)
        return effective

    def generate(self, batch: Batch) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        if self._decode == "session":
            return greedy(decoding(self._model, batch), batch, self._eos_ids)
        import torch

        with torch.inference_mode():
            result = decode.generate(self._model, batch, self._eos_ids, self._model.device)
        synchronize(self._model.device)
        return result

    def close(self) -> None:
        """Drop the weights."""
        del self._model


def load_model(load_request: LoadRequest) -> tuple[Any, dict[str, Json]]:
    """Load a model for decoding.

    Returns:
        The model on its device, and the effective settings (`Engine.load`).

    Raises:
        EngineError: the weights cannot be loaded as requested, or SDPA attention is wrong.
    """
    import torch

    settings = load_request.settings
    device = set_up(settings)
    dtype, size = settings.engine.dtype, grouped(settings.engine.options).group_size
    model = _on_device(load_request, device, size)
    first = next(model.parameters())
    if first.device != device:
        raise EngineError(f"provider.name={settings.provider.name}: weights are on {first.device}")
    accepted = forward_parameters(model.__class__)
    if settings.engine.decode == "session" and "logits_to_keep" not in accepted:
        keep_last_position(model)
    deviation = attention_deviation(model)
    if makes_own_cache(model) and settings.workload.batch_size > 1:
        require_padding(model)
    with torch.inference_mode():
        trial = decoding(model, decode.probe(model.config.vocab_size))
        trial.prefill()
    decode.prepare_generate(model)
    synchronize(device)
    return model, {
        "provider": first.device.type,
        "device": str(first.device),
        **device_identity(first.device),
        **effective_precision(model, dtype, size),
        "unused_weights": model.unused_weights,
        "threads": torch.get_num_threads(),
        "kv_cache": trial.cached,
        "cache": type(trial.cache).__name__,
        "attention": model.config._attn_implementation,
        "attention_deviation": deviation,
        "context": context_length(load_request.model_path),
        "decode": settings.engine.decode,
    }


def _on_device(load_request: LoadRequest, device: Any, group_size: int | None) -> Any:
    """The model with its weights on a device, rounded if the requested type has few bits."""
    model_config, dtype = load_request.settings.model, load_request.settings.engine.dtype
    # Kernels for 4-bit weights on GPUs multiply in bfloat16.
    loaded: Dtype = "bfloat16" if dtype == "int4" and device.type == "cuda" else dtype
    model = load_weights(model_config, load_request.model_path, loaded)
    if dtype == "int8":  # before it moves: a GPU need not hold it in float32
        quantize(model, dtype)
    model.to(device)
    if dtype == "int4":
        quantize(model, dtype, group_size)
    return model


def imports(settings: Settings) -> None:
    """Import what `load` imports."""
    library()
    if settings.engine.dtype in BITS:
        importlib.import_module("torchao.quantization")


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    dtype = settings.engine.dtype
    if reason := ineffective(dtype, settings.engine.options):
        return reason
    if dtype in BITS and (package := extras.missing("int8", "torchao")):
        return f"engine.dtype={dtype} needs {package}"
    if dtype == STORED and (package := extras.missing("quantized", "accelerate")):
        return f"engine.dtype={dtype} needs {package}"
    return library_unsupported(settings)


def library_unsupported(settings: Settings) -> str | None:
    """Why PyTorch cannot run on the requested provider here, or None."""
    engine, provider = settings.engine.name, settings.provider
    if provider.name not in ("cpu", "cuda"):
        return f"engine {engine} has no provider {provider.name}: use cpu or cuda"
    if package := extras.missing("torch", "torch", "transformers"):
        return f"engine {engine} needs {package}"
    if provider.name == "cuda" and not has_cuda_build():
        return "provider.name=cuda: this torch is a CPU-only build; install a CUDA build"
    return None


ENGINE = EngineSpec(
    name="torch",
    packages=("torch", "transformers", "torchao"),
    create=TorchEngine,
    imports=imports,
    unsupported=unsupported,
    options={"group_size": ("auto", "32", "64", "128")},
    dtypes=("float32", "bfloat16", "float16", "int8", "int4", "stored"),
)
