"""A cache of keys and values of fixed size, which a compiled step writes in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_energy.engines.base import Batch
from slm_energy.engines.torch import eager as eager


class Slots:
    """Keys and values of one batch in tensors of fixed size, one pair per layer.

    Attributes:
        keys: per layer (b, heads, places, width).
        values: as keys.
        places: how many tokens there is room for.
    """

    def __init__(self, model: Any, size: int, places: int) -> None:
        import torch

        one = eager.Decoding(model, Batch(prompts=((1,),), new_tokens=1, stop="fixed"))
        with torch.inference_mode():
            one.prefill()
            layers = [(layer.keys, layer.values) for layer in one.cache.layers]
            self.keys, self.values = (
                [t.new_zeros(size, t.shape[1], places, t.shape[3]) for t in tensors]
                for tensors in zip(*layers, strict=True)
            )
        self.places = places

    def fill(self, prompts: Any, batch: Batch) -> tuple[Any, Any]:
        """Copy the keys and values of prompts; what they leave of older ones is never looked at.

        Args:
            prompts: transformers' cache after them; layers with a sliding window keep the end only.
            batch: its prompts.

        Returns:
            The place (1,) of the next token, and (b,) where each request's own tokens begin.
        """
        import torch

        lengths = [len(prompt) for prompt in batch.prompts]
        end = max(lengths)
        for keys, values, layer in zip(self.keys, self.values, prompts.layers, strict=True):
            begin = end - layer.keys.shape[2]
            keys[:, :, begin:end] = layer.keys
            values[:, :, begin:end] = layer.values
        device = self.keys[0].device
        first = torch.tensor([end - length for length in lengths], device=device)
        return torch.tensor([end], device=device), first


class InPlace:
    """Transformers' side of the slots: what a layer calls to store its keys and values."""

    is_compileable = False  # asks the architectures' own code to make its mask from ours

    def __init__(self, keys: Sequence[Any], values: Sequence[Any], places: Any) -> None:
        self._keys, self._values, self._places = keys, values, places

    def update(
        self, keys: Any, values: Any, layer: int, *_: object, **__: object
    ) -> tuple[Any, Any]:
        """Store a layer's new keys and values; return all of its places."""
        own_keys, own_values = self._keys[layer], self._values[layer]
        own_keys.index_copy_(2, self._places, keys)
        own_values.index_copy_(2, self._places, values)
        return own_keys, own_values

    def get_seq_length(self, layer: int = 0) -> Any:
        """How many tokens came before, as a tensor."""
        return self._places[0]

    def get_mask_sizes(self, *_: object) -> tuple[int, int]:
        """Number of keys that a mask is for, and where they begin."""
        return self._keys[0].shape[2], 0

    def get_query_offset(self, *_: object) -> Any:
        """Where the new tokens stand, as a tensor."""
        return self._places[0]
