"""PyTorch, eager: transformers models on a CPU or an NVIDIA GPU.

SDPA attention is compared with eager attention on a few tokens at each load, because the SDPA path
of some architectures in transformers has silently dropped part of the computation.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy import extras
from slm_energy.cell import Settings
from slm_energy.config.groups import Dtype
from slm_energy.devices import cuda
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, Completion, EngineSpec, LoadRequest, left_padded, threads
from slm_energy.engines.precision import BITS, STORED, grouped
from slm_energy.engines.torch.weights import (
    effective_precision,
    keep_last_position,
    library,
    load_weights,
    quantize,
    sdpa_is_wrong,
)
from slm_energy.errors import EngineError
from slm_energy.models.folder import context_length
from slm_energy.serialization import Json

_ATTENTION = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers in `config.layer_types` that keep keys and values."""


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
    on_gpu = device.type == "cuda"
    # Kernels for 4-bit weights on GPUs multiply in bfloat16.
    loaded: Dtype = "bfloat16" if dtype == "int4" and on_gpu else dtype
    model = load_weights(settings.model, load_request.model_path, loaded)
    if dtype == "int8":  # before it moves: a GPU need not hold it in float32
        quantize(model, dtype)
    model.to(device)
    if dtype == "int4":
        quantize(model, dtype, size)
    first = next(model.parameters())
    if first.device != device:
        raise EngineError(f"provider.name={settings.provider.name}: weights are on {first.device}")
    accepted = forward_parameters(model.__class__)
    if settings.engine.decode == "session" and "logits_to_keep" not in accepted:
        keep_last_position(model)
    deviation = attention_deviation(model)
    if makes_own_cache(model) and settings.workload.batch_size > 1:
        _require_padding(model)
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


def _require_padding(model: Any) -> None:
    """Compare padded prompts with the same prompts one at a time.

    transformers 4.57 does not mask padding in LFM2's convolutions.

    Raises:
        EngineError: they differ by more than rounding.
    """
    prompt = decode.probe(model.config.vocab_size).prompts[0]
    # Two tokens: within the reach of a short convolution.
    batch = Batch(prompts=(prompt, prompt[:2]), new_tokens=2, stop="fixed")
    together = probe_logits(model, batch)
    rows = [probe_logits(model, batch.request(row)) for row in range(2)]
    alone = [np.concatenate(each) for each in zip(*rows, strict=True)]
    deviation = decode.deviation(together, alone)
    if deviation > decode.TOLERANCE[str(model.dtype).removeprefix("torch.")]:
        raise EngineError(
            f"{model.config.model_type}: this version of transformers lets padding change the"
            f" logits of a batch by {deviation:.1e} of the largest: set workload.batch_size=1, or"
            " engine.python=transformers5",
            permanent=True,
        )


def set_up(settings: Settings) -> Any:
    """Set the number of threads; return the torch device of the requested provider."""
    import torch

    torch.set_num_threads(threads(settings))
    provider = settings.provider
    return torch.device("cpu" if provider.name == "cpu" else f"cuda:{provider.device}")


def device_identity(device: Any) -> dict[str, Json]:
    """`device_uuid` of a torch device, as NVML writes it; empty on a processor.

    Torch before 2.4 does not report it; then the driver does. It is that of the MIG device, if any.
    """
    if device.type != "cuda":
        return {}
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return cuda.identity(device.index) if uuid is None else {"device_uuid": f"GPU-{uuid}"}


def synchronize(device: Any) -> None:
    """Return when the device has finished all queued work."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


@functools.cache
def forward_parameters(architecture: type) -> frozenset[str]:
    """Parameter names of a transformers model's `forward`; looked up once per class."""
    return frozenset(inspect.signature(architecture.forward).parameters)  # type: ignore[attr-defined]


def decoding(model: Any, batch: Batch) -> Decoding | OwnCacheDecoding:
    """Decoding of one batch, with our cache or with the one that the architecture makes."""
    return OwnCacheDecoding(model, batch) if makes_own_cache(model) else Decoding(model, batch)


def makes_own_cache(model: Any) -> bool:
    """Whether layers keep a state other than keys and values (Mamba, short convolutions).

    Such architectures take no cache from outside. transformers has no public name for this.
    """
    return not model._supports_default_dynamic_cache()


def is_graphable(model: Any) -> bool:
    """Whether its cache has keys and values only, which is what exported graphs have.

    In transformers 5 caches made from outside hold the states of other layers, too.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ())
    return kinds <= _ATTENTION and not makes_own_cache(model)


class Decoding:
    """Decoding of one batch by a model: its cache, attention mask and position ids."""

    def __init__(self, model: Any, batch: Batch) -> None:
        import torch
        from transformers import DynamicCache

        ids, mask = left_padded(batch.prompts)
        self._model = model
        self._ids = torch.from_numpy(ids).to(model.device)
        self._length = ids.shape[1]
        self._arguments: dict[str, Any] = {"use_cache": True}
        accepted = forward_parameters(model.__class__)
        if "logits_to_keep" in accepted:
            self._arguments["logits_to_keep"] = 1
        self._mask = self._positions = None
        if not mask.all():  # without a mask the model takes its shorter path
            self._mask = torch.ones((len(ids), self._length + batch.new_tokens), dtype=torch.int64)
            self._mask[:, : self._length] = torch.from_numpy(mask)
            if "position_ids" in accepted:
                self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0).to(model.device)
            self._mask = self._mask.to(model.device)
        # By default GPT-BigCode would create a cache for an encoder, too.
        self.cache: Any = DynamicCache(config=model.config)

    @property
    def cached(self) -> bool:
        """Whether anything of the prompts is in the cache."""
        return bool(self.cache.get_seq_length() > 0)

    def prefill(self) -> Any:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        return self._forward(self._ids, 0)

    def step(self, ids: Any) -> Any:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next."""
        self._length += 1
        return self._forward(ids[:, None], self._length - 1)

    def _forward(self, ids: Any, start: int) -> Any:
        arguments = self._arguments
        if self._mask is not None:
            arguments["attention_mask"] = self._mask[:, : self._length]
        if self._positions is not None:
            arguments["position_ids"] = self._positions[:, start : self._length]
        output = self._model(input_ids=ids, past_key_values=self.cache, **arguments)
        self.cache = output.past_key_values
        return output.logits[:, -1]


class OwnCacheDecoding:
    """Decoding of one batch with the steps of transformers' `generate`, which make the cache."""

    def __init__(self, model: Any, batch: Batch) -> None:
        import torch

        ids, mask = left_padded(batch.prompts)
        self._model = model
        self._ids = torch.from_numpy(ids).to(model.device)
        self._state: dict[str, Any] = {
            "use_cache": True,
            "attention_mask": torch.from_numpy(mask).to(model.device),
            "cache_position": torch.arange(ids.shape[1], device=model.device),
        }
        if "logits_to_keep" in forward_parameters(model.__class__):
            self._state["logits_to_keep"] = 1

    @property
    def cache(self) -> Any:
        """What the model made: keys, values and states; None before the prompts, or if nothing."""
        return self._state.get("past_key_values", self._state.get("cache_params"))

    @property
    def cached(self) -> bool:
        """Whether anything of the prompts is in the cache."""
        return self.cache is not None

    def prefill(self) -> Any:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        return self._forward()

    def step(self, ids: Any) -> Any:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next."""
        import torch

        self._ids = torch.cat([self._ids, ids[:, None]], dim=-1)
        return self._forward()

    def _forward(self) -> Any:
        inputs = self._model.prepare_inputs_for_generation(self._ids, **self._state)
        output = self._model(**inputs, return_dict=True)
        self._state = self._model._update_model_kwargs_for_generation(output, self._state)
        return output.logits[:, -1]


def greedy(steps: Any, batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
    """Decode greedily; return when the device has finished.

    Args:
        steps: its `prefill()` and `step(ids)` return logits (b, vocabulary) as tensors.
        batch: the requests it decodes.
        eos_ids: end-of-text tokens.

    Raises:
        EngineError: NaN logits.
    """

    def choices() -> Iterator[tuple[Any, Any]]:
        best = steps.prefill().max(dim=-1)
        while True:
            yield best.indices, best.values
            best = steps.step(best.indices).max(dim=-1)

    return collect_choices(choices(), batch, eos_ids)


def collect_choices(
    choices: Iterator[tuple[Any, Any]], batch: Batch, eos_ids: Sequence[int]
) -> list[Completion]:
    """Decode from the tokens chosen at each step: ids (b,) and their logits (b,), as tensors.

    Raises:
        EngineError: NaN logits.
    """
    import torch

    peaks: list[Any] = []

    def steps() -> Iterator[list[int]]:
        for ids, values in choices:
            peaks.append(values)
            yield ids.tolist()

    with torch.inference_mode():
        result = decode.collect(steps(), batch, eos_ids)
        decode.require_numbers(torch.stack(peaks).tolist())
    synchronize(peaks[0].device)
    return result


def attention_deviation(model: Any) -> float | None:
    """Compare SDPA with eager attention on padded prompts and one further token of each.

    Returns:
        Largest difference as a share of the largest logit; None if the model does not use SDPA, or
        its attention cannot be switched after loading.

    Raises:
        EngineError: they differ by more than rounding.
    """
    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return None
    dtype = str(model.dtype).removeprefix("torch.")
    batch = decode.probe(model.config.vocab_size)
    sdpa = probe_logits(model, batch)
    model.set_attn_implementation("eager")
    eager = probe_logits(model, batch)
    model.set_attn_implementation("sdpa")
    deviation = decode.deviation(sdpa, eager)
    if deviation > decode.TOLERANCE[dtype] or sdpa_is_wrong(model.config):
        raise EngineError(
            f"SDPA attention of {model.config.model_type} differs from eager attention by"
            f" {deviation:.1e} of the largest logit: set model.attention=eager",
            permanent=True,
        )
    return deviation


def probe_logits(model: Any, batch: Batch) -> list[npt.NDArray[np.float32]]:
    """A model's logits for a probe, as the reference of a comparison."""
    return session_probe_logits(decoding(model, batch), batch)


def session_probe_logits(steps: Any, batch: Batch) -> list[npt.NDArray[np.float32]]:
    """Logits (b, vocabulary) after a probe's prompts, and after `PROBE_TOKEN` appended to them."""
    import torch

    with torch.inference_mode():
        first = steps.prefill()
        token = torch.full((len(batch.prompts),), decode.PROBE_TOKEN, device=first.device)
        return [logits.float().cpu().numpy() for logits in (first, steps.step(token))]


def imports(settings: Settings) -> None:
    """Import what `load` imports."""
    library()
    if settings.engine.dtype in BITS:
        importlib.import_module("torchao.quantization")


def unsupported(settings: Settings) -> str | None:
    """Why these settings cannot run here, or None."""
    dtype = settings.engine.dtype
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


def has_cuda_build() -> bool:
    """Whether torch can use CUDA, read from torch/version.py without importing torch (1.4 s)."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b.*=\s*['\"]", text, re.MULTILINE) is not None


ENGINE = EngineSpec(
    name="torch",
    packages=("torch", "transformers", "torchao"),
    create=TorchEngine,
    imports=imports,
    unsupported=unsupported,
    options={"group_size": ("auto", "32", "64", "128")},
    dtypes=("float32", "bfloat16", "float16", "int8", "int4", "stored"),
)
