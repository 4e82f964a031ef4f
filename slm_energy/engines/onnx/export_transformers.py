"""Export with transformers' own exporter (version 5), where optimum is not installed.

It traces one call of the model with a cache, for any batch, prompt and cache length. Whatever all
sample inputs share would become a constant of the graph, so there are two requests, one of them
padded, several tokens of each, and a cache that is not empty.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from slm_energy.engines.onnx.external_data import DATA, GRAPH


def lean(folder: Path, model: Any) -> None:
    """Write a graph that computes the logits of the last position only.

    Raises:
        ValueError, RuntimeError: transformers cannot export the model.
    """
    import onnx_ir
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter

    with torch.no_grad():
        exported = OnnxExporter().export(model, _samples(model), OnnxConfig(dynamic=True))
    program = exported.program
    for value in (*program.graph.inputs, *program.graph.outputs):
        value.name = _name(value.name)
        value.shape = onnx_ir.Shape([_dimension(dim) for dim in value.shape])
    onnx_ir.save(program, str(folder / GRAPH), external_data=DATA)


def _samples(model: Any) -> dict[str, Any]:
    """Arguments of a call with five tokens in the cache and three new ones."""
    import torch
    from transformers import DynamicCache

    ids = 1 + torch.arange(16).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    accepted = inspect.signature(model.forward).parameters

    def supported(**arguments: Any) -> dict[str, Any]:
        return {name: value for name, value in arguments.items() if name in accepted}

    # Without the config the cache has no sliding window: the mask alone decides what is visible.
    cache = DynamicCache()
    model(
        **supported(
            input_ids=ids[:, :5],
            attention_mask=mask[:, :5],
            position_ids=positions[:, :5],
            past_key_values=cache,
        )
    )
    return supported(
        input_ids=ids[:, 5:],
        attention_mask=mask,
        position_ids=positions[:, 5:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )


def _name(name: str) -> str:
    """`input.past_key_values.layers.0.keys` to `past_key_values.0.key`, outputs to `present`."""
    direction, _, rest = name.partition(".past_key_values.layers.")
    if not rest:
        return name
    layer, _, part = rest.partition(".")
    return f"{'past_key_values' if direction == 'input' else 'present'}.{layer}.{part[:-1]}"


def _dimension(dim: Any) -> Any:
    """A fixed dimension is sometimes a name that consists of digits."""
    text = str(dim)
    return int(text) if text.isdigit() else dim
