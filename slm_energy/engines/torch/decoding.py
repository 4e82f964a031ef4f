"""Greedy decoding of one batch by a transformers model, with our cache or with the model's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.engines import decode
from slm_energy.engines.base import Batch, Completion, left_padded
from slm_energy.engines.torch.device import synchronize

_ATTENTION = {"attention", "full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers in `config.layer_types` that keep keys and values."""


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


@functools.cache
def forward_parameters(architecture: type) -> frozenset[str]:
    """Parameter names of a transformers model's `forward`; looked up once per class."""
    return frozenset(inspect.signature(architecture.forward).parameters)  # type: ignore[attr-defined]


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
