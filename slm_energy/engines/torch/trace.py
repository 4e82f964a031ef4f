"""Trace a model once into a TorchScript module, and decode with it.

The module takes token ids, the position of each request's first token, and the keys and values so
far; it returns the logits of the last position, and the keys and values with the new ones appended.
Its sizes are dynamic: one graph serves prompts of any length and every further token.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from slm_energy import cache
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, LoadRequest, derived_from, left_padded
from slm_energy.engines.torch import decoding
from slm_energy.engines.torch.device import set_up
from slm_energy.engines.torch.explicit_forward import ExplicitForward
from slm_energy.engines.torch.precision import effective_precision
from slm_energy.engines.torch.probe import (
    attention_deviation,
    probe_logits,
    session_probe_logits,
)
from slm_energy.engines.torch.weights import keep_last_position, load_weights
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

GRAPH = "model.pt"
_KIND = "torchscript"
_RECIPE = 2
"""To be raised when this package makes another graph of the same model: part of the identity."""


class Decoding:
    """Decoding of one batch by a traced module.

    Attributes:
        caches: keys and values per layer, (b, heads, tokens so far, width) each.
    """

    def __init__(self, module: Any, empty_caches: Sequence[Any], batch: Batch) -> None:
        import torch

        ids, mask = left_padded(batch.prompts)
        device = empty_caches[0].device
        self._module = module
        self._ids = torch.from_numpy(ids).to(device)
        self._starts = torch.from_numpy(ids.shape[1] - mask.sum(-1)).to(device)
        self.caches = [cache.expand(len(ids), -1, -1, -1) for cache in empty_caches]

    def prefill(self) -> Any:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        return self._forward(self._ids)

    def step(self, ids: Any) -> Any:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next."""
        return self._forward(ids[:, None])

    def _forward(self, ids: Any) -> Any:
        logits, self.caches = self._module(ids, self._starts, self.caches)
        return logits


def entry_path(request: LoadRequest) -> Path:
    """Folder of this request's trace in the cache, whether it exists or not."""
    return cache.place(request.cache_path, _KIND, _identity(request))


def trace(request: LoadRequest) -> None:
    """Trace the model unless the cache holds an intact trace.

    Raises:
        EngineError: the model cannot be traced, or the trace computes something else.
    """

    def fill(folder: Path) -> Mapping[str, Json]:
        with warnings.catch_warnings():
            # Tracing warns about its deprecation and about every shape that it reads; the
            # comparison in `_write` checks the result.
            warnings.simplefilter("ignore")
            return _write(folder, request)

    cache.make(entry_path(request), _identity(request), fill, request.settings.model.name)


def read(folder: Path, device: Any) -> Any:
    """Load the traced module of an intact entry onto a device.

    Raises:
        EngineError: the installed torch cannot read it.
    """
    import torch

    load: Any = torch.jit.load
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        try:
            return load(folder / GRAPH, map_location=device)
        except RuntimeError as error:
            raise EngineError(f"{folder / GRAPH} cannot be read: {one_line(error)}") from error


def empty_caches(facts: Mapping[str, Json], like: Any) -> list[Any]:
    """Keys and values (1, heads, 0, width) of no tokens.

    Args:
        facts: facts of the trace's cache entry.
        like: a tensor of the same type and device.
    """
    shapes = cast("list[list[int]]", facts["caches"])
    return [like.new_empty(1, heads, 0, width) for heads, width in shapes]


def _write(folder: Path, request: LoadRequest) -> Mapping[str, Json]:
    import torch

    settings = request.settings
    device = set_up(settings)
    # Traced on the device that runs it: the graph names the device on which it creates tensors.
    model = load_weights(settings.model, request.model_path, settings.engine.dtype).to(device)
    for layer in model.modules():
        if type(layer).__name__ == "BloomGelu":  # its custom gradient cannot be traced
            layer.forward = sys.modules[type(layer).__module__].bloom_gelu_forward
    if "logits_to_keep" not in decoding.forward_parameters(model.__class__):
        keep_last_position(model)
    attention_deviation(model)
    write: Any = torch.jit.save
    try:
        with torch.inference_mode():
            module, facts = _traced(model)
            facts["deviation"] = _deviation(module, facts, model, request)
            facts["weights"] = effective_precision(model, settings.engine.dtype)["weights"]
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise EngineError(
            f"engine.name=torchscript: {model.config.model_type} cannot be traced:"
            f" {one_line(error)}"
        ) from error
    # Where the disk becomes full, torch does not raise: it ends the process.
    cache.require_space(folder, sum(parameter.nbytes for parameter in model.parameters()))
    write(module, folder / GRAPH)
    return facts


def _traced(model: Any) -> tuple[Any, dict[str, Json]]:
    """Trace the model; return the module, and the facts needed to call it."""
    import torch

    class FlatForward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, starts: Any, caches: list[Any]) -> tuple[Any, list[Any]]:
            past = caches[0].shape[2]
            positions = torch.arange(past, past + ids.shape[1], device=ids.device)
            growing = _GrowingCache(caches)
            logits = explicit(ids, positions, starts, growing, past + ids.shape[1])
            return logits, growing.caches

    explicit = ExplicitForward(model)
    # Two of the probe's three prompts: a hard-coded batch size cannot pass the comparison.
    prompts = decode.probe(model.config.vocab_size).prompts[:2]
    batch = Batch(prompts=prompts, new_tokens=2, stop="fixed")
    sample = decoding.Decoding(model, batch)
    sample.prefill()
    caches = [t for layer in sample.cache.layers for t in (layer.keys, layer.values)]
    facts: dict[str, Json] = {
        "attention": model.config._attn_implementation,
        "caches": [[t.shape[1], t.shape[3]] for t in caches],
        "unused_weights": model.unused_weights,
    }
    lengths = [len(prompt) for prompt in prompts]
    starts = torch.tensor([max(lengths) - length for length in lengths], device=model.device)
    sample_ids = torch.tensor([[2, 3, 4]] * len(lengths), device=model.device)
    jit_trace: Any = torch.jit.trace
    return jit_trace(FlatForward().eval(), (sample_ids, starts, caches), check_trace=False), facts


class _GrowingCache:
    """Transformers' cache interface over plain tensors: appends keys and values."""

    is_compileable = False  # makes the architectures' own code derive its mask from ours

    def __init__(self, caches: Sequence[Any]) -> None:
        self.caches = list(caches)
        self._past = caches[0].shape[2]

    def update(
        self, keys: Any, values: Any, layer: int, *_: object, **__: object
    ) -> tuple[Any, Any]:
        import torch

        for index, new in ((2 * layer, keys), (2 * layer + 1, values)):
            self.caches[index] = torch.cat([self.caches[index], new], dim=2)
        return self.caches[2 * layer], self.caches[2 * layer + 1]

    def get_seq_length(self, layer: int = 0) -> Any:
        return self._past

    def get_mask_sizes(self, query_length: Any, *_: object) -> tuple[Any, int]:
        return self._past + query_length, 0

    def get_query_offset(self, *_: object) -> Any:
        return self._past


def _deviation(module: Any, facts: Mapping[str, Json], model: Any, request: LoadRequest) -> float:
    """Compare the trace with the model on padded prompts and one further token."""
    batch = decode.probe(model.config.vocab_size)
    ours = Decoding(module, empty_caches(facts, next(model.parameters())), batch)
    return decode.require_close(
        session_probe_logits(ours, batch),
        probe_logits(model, batch),
        request.settings.engine.dtype,
        f"engine.name=torchscript: the graph traced from {model.config.model_type}",
    )


def _identity(request: LoadRequest) -> Mapping[str, Json]:
    settings = request.settings
    return {
        **derived_from(request, _RECIPE),
        "provider": settings.provider.name,
        "device": settings.provider.device,
        "versions": dict(request.versions),
    }
