"""A model's forward pass without hidden Python state, so that it can become a graph.

Transformers derives the tokens' positions, their attention mask and their place in the cache from
Python state at every call. Here tensor operations compute them, the same for every architecture and
for transformers 4 and 5. The graph is valid for any padding and, with dynamic sizes, any length.
"""

from __future__ import annotations

from typing import Any

from slm_energy.engines.torch.decoding import forward_parameters, is_graphable
from slm_energy.errors import EngineError


class ExplicitForward:
    """Forward pass of a model with explicit positions and masks.

    Architectures that take no positions (BLOOM) derive them from a mask over all keys, and apply
    the causal mask themselves.
    """

    def __init__(self, model: Any) -> None:
        accepted = forward_parameters(model.__class__)
        config = model.config
        for module in model.modules():
            # Beyond their original length they would take other factors, by a branch on data:
            # `models.folder.graph_context` keeps requests below it.
            if getattr(module, "rope_type", None) == "longrope":
                module.rope_type = "default"
        self._model = model
        self._takes_positions = "position_ids" in accepted
        self._takes_cache_position = "cache_position" in accepted  # transformers 4
        self._keep = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        layer_types = set(getattr(config, "layer_types", None) or ())
        self._window = getattr(config, "sliding_window", None)
        if layer_types == {"full_attention"} or not self._takes_positions:
            self._window = None
        self._mixed = self._window is not None and "full_attention" in layer_types
        if not is_graphable(model):
            raise EngineError(
                f"{config.model_type} keeps states besides keys and values, which cannot be"
                " converted to a graph: use engine=torch",
                permanent=True,
            )
        if "chunked_attention" in layer_types:
            raise EngineError(
                f"{config.model_type} has layers of type chunked_attention, which cannot be"
                " converted to a graph: use engine=torch",
                permanent=True,
            )

    def __call__(self, ids: Any, positions: Any, starts: Any, cache: Any, length: Any) -> Any:
        """Logits of the last position.

        Args:
            ids: (b, q) token ids.
            positions: (q,) their positions in the padded sequence.
            starts: (b,) position of each request's first token, after the padding.
            cache: its `update(keys, values, layer)` returns `length` keys and values.
            length: number of keys.

        Returns:
            (b, vocabulary).
        """
        import torch

        keys = torch.arange(length, device=ids.device)
        unpadded = keys >= starts[:, None]
        arguments: dict[str, Any] = {"use_cache": True, "past_key_values": cache, **self._keep}
        if self._takes_positions:
            arguments["position_ids"] = (positions - starts[:, None]).clamp(min=0)
            arguments["attention_mask"] = self._masks(keys, positions, unpadded)
        else:
            arguments["attention_mask"] = unpadded.long()
        if self._takes_cache_position:
            arguments["cache_position"] = positions
        return self._model(input_ids=ids, return_dict=True, **arguments).logits[:, -1]

    def _masks(self, keys: Any, positions: Any, unpadded: Any) -> Any:
        """Additive attention masks, (b, 1, q, keys); one per type of layer if they differ.

        A padding position attends to nothing: the lowest number gives it a mean, -inf a NaN.
        """
        import torch

        dtype = self._model.dtype
        visible = unpadded[:, None, None] & (keys <= positions[:, None])
        lowest = torch.finfo(dtype).min

        def additive(mask: Any) -> Any:
            return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, lowest)

        if self._window is None:
            return additive(visible)
        near = additive(visible & (keys > positions[:, None] - self._window))
        if not self._mixed:
            return near
        return {"full_attention": additive(visible), "sliding_attention": near}
