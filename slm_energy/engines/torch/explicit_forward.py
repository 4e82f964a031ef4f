"""A model's forward pass with nothing hidden, so that it can become a graph.

What transformers works out from Python state at every call (which positions the tokens have, what
they may see, where in the cache they go) is computed here by tensor operations, the same for every
architecture and for transformers 4 and 5. A graph made of it holds for any padding, and, where the
sizes are left open, for any length.
"""

from __future__ import annotations

import inspect
from typing import Any

from slm_energy.errors import EngineError


class Explicit:
    """How a model wants to be told of positions and padding.

    Architectures that take no positions (BLOOM) derive them from a mask over all keys, and see to
    it themselves that no token looks ahead.
    """

    def __init__(self, model: Any) -> None:
        takes = inspect.signature(model.forward).parameters
        config = model.config
        self._model = model
        self._takes_positions = "position_ids" in takes
        self._takes_places = "cache_position" in takes  # transformers 4
        self._keeps = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        kinds = set(getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None)
        if kinds == {"full_attention"} or not self._takes_positions:
            self._window = None
        self._mixed = self._window is not None and "full_attention" in kinds
        if unknown := kinds - {"full_attention", "sliding_attention"}:
            raise EngineError(
                f"{config.model_type} has layers of type {sorted(unknown)[0]}, which cannot be made"
                " a graph here: use engine=torch"
            )

    def __call__(self, ids: Any, places: Any, first: Any, cache: Any, length: Any) -> Any:
        """Logits of the last position.

        Args:
            ids: (b, q) token ids.
            places: (q,) where they stand in the padded sequence.
            first: (b,) where each request's own tokens begin.
            cache: has `update(keys, values, layer)` and returns keys of `length` places.
            length: number of keys.

        Returns:
            (b, vocabulary).
        """
        import torch

        keys = torch.arange(length, device=ids.device)
        own = keys >= first[:, None]
        told: dict[str, Any] = {"use_cache": True, "past_key_values": cache, **self._keeps}
        if self._takes_positions:
            told["position_ids"] = (places - first[:, None]).clamp(min=0)
            told["attention_mask"] = self._masks(keys, places, own)
        else:
            told["attention_mask"] = own.long()
        if self._takes_places:
            told["cache_position"] = places
        return self._model(input_ids=ids, return_dict=True, **told).logits[:, -1]

    def _masks(self, keys: Any, places: Any, own: Any) -> Any:
        """What is added to attention scores, (b, 1, q, keys); one per kind of layer if they differ.

        A padding position sees nothing: the least number leaves it a mean instead of NaN.
        """
        import torch

        dtype = self._model.dtype
        seen = own[:, None, None] & (keys <= places[:, None])
        least = torch.finfo(dtype).min

        def added(visible: Any) -> Any:
            return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, least)

        if self._window is None:
            return added(seen)
        near = added(seen & (keys > places[:, None] - self._window))
        return {"full_attention": added(seen), "sliding_attention": near} if self._mixed else near
