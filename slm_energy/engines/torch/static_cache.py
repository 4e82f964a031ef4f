"""A key-value cache of fixed size, which a compiled step updates in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_energy.engines.base import Batch
from slm_energy.engines.torch.decoding import Decoding


class StaticCache:
    """Keys and values of one batch in tensors of fixed size, one pair per layer.

    Attributes:
        keys: per layer (b, heads, capacity, width).
        values: as keys.
        capacity: largest number of tokens per request.
    """

    def __init__(self, model: Any, size: int, capacity: int) -> None:
        import torch

        sample = Decoding(model, Batch(prompts=((1,),), new_tokens=1, stop="fixed"))
        with torch.inference_mode():
            sample.prefill()
            layers = [(layer.keys, layer.values) for layer in sample.cache.layers]
            self.keys, self.values = (
                [t.new_zeros(size, t.shape[1], capacity, t.shape[3]) for t in tensors]
                for tensors in zip(*layers, strict=True)
            )
        self.capacity = capacity

    def fill(self, prompt_cache: Any, batch: Batch) -> tuple[Any, Any]:
        """Copy the prompts' keys and values; leftovers of an earlier batch are never read.

        Args:
            prompt_cache: transformers' cache after the prompts; a layer with a sliding window holds
                only their end.
            batch: the prompts.

        Returns:
            Position (1,) of the next token, and of each request's first token (b,).
        """
        import torch

        lengths = [len(prompt) for prompt in batch.prompts]
        end = max(lengths)
        for keys, values, layer in zip(self.keys, self.values, prompt_cache.layers, strict=True):
            begin = end - layer.keys.shape[2]
            keys[:, :, begin:end] = layer.keys
            values[:, :, begin:end] = layer.values
        device = self.keys[0].device
        starts = torch.tensor([end - length for length in lengths], device=device)
        return torch.tensor([end], device=device), starts


class InPlaceCache:
    """Transformers' cache interface over a static cache: stores keys and values in place."""

    is_compileable = False  # makes the architectures' own code derive its mask from ours

    def __init__(self, keys: Sequence[Any], values: Sequence[Any], positions: Any) -> None:
        self._keys, self._values, self._positions = keys, values, positions

    def update(
        self, keys: Any, values: Any, layer: int, *_: object, **__: object
    ) -> tuple[Any, Any]:
        """Store a layer's new keys and values; return all of the layer's keys and values."""
        all_keys, all_values = self._keys[layer], self._values[layer]
        all_keys.index_copy_(2, self._positions, keys)
        all_values.index_copy_(2, self._positions, values)
        return all_keys, all_values

    def get_seq_length(self, layer: int = 0) -> Any:
        """Number of earlier tokens, as a tensor."""
        return self._positions[0]

    def get_mask_sizes(self, *_: object) -> tuple[int, int]:
        """Number of keys that a mask covers, and the position of the first."""
        return self._keys[0].shape[2], 0

    def get_query_offset(self, *_: object) -> Any:
        """Position of the first new token, as a tensor."""
        return self._positions[0]
