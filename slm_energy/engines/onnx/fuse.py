"""Fewer operators per layer in a graph whose weights are still inputs, named as in the model.

Starting an operator takes a small model about as long as computing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Weights(dict[str, Any]):
    """A model's tensors by name; `A+B` is A and B in one tensor, made when it is asked for."""

    def __missing__(self, name: str) -> Any:
        import torch

        return torch.cat([self[part] for part in name.split("+")])


def projections(graph: Any, attention: str) -> None:
    """Multiply once by the weights of queries, keys and values, where nothing else changes them.

    Args:
        graph: changed in place; the joined weights are inputs, named as `Weights` knows them.
        attention: an operator that takes the three as its first inputs, or packed as its first.
    """
    from onnx import helper

    producers = {name: node for node in graph.node for name in node.output}
    weights = {value.name: value for value in graph.input}
    nodes = []
    for node in graph.node:
        parts = [_linear(name, producers, weights) for name in node.input[:3]]
        if node.op_type == attention and parts[0] and len({(*p[:1], len(p)) for p in parts}) == 1:
            hidden, *kinds = zip(*parts, strict=True)
            names = ["+".join(kind) for kind in kinds]
            graph.input.extend(_joined(kind, weights) for kind in kinds)
            turned, product, total = (f"{node.name}/{kind}" for kind in ("W", "product", "sum"))
            nodes.append(helper.make_node("Transpose", names[:1], [turned], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", [hidden[0], turned], [product], product))
            if len(names) > 1:
                nodes.append(helper.make_node("Add", [product, names[1]], [total]))
            node.input[:3] = [product if len(names) == 1 else total, "", ""]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _joined(names: tuple[str, ...], weights: Mapping[str, Any]) -> Any:
    """The input that takes the place of several."""
    from onnx import ValueInfoProto

    joined = ValueInfoProto(name="+".join(names), type=weights[names[0]].type)
    shapes = [weights[name].type.tensor_type.shape.dim for name in names]
    joined.type.tensor_type.shape.dim[0].dim_value = sum(each[0].dim_value for each in shapes)
    return joined


def _linear(name: str, producers: Mapping[str, Any], weights: Mapping[str, Any]) -> tuple[str, ...]:
    """Input, weight and perhaps bias of the linear layer that makes a tensor; () if none does."""
    node, bias = producers.get(name), ()
    while node is not None and node.op_type == "Reshape":
        node = producers.get(node.input[0])
    if node is not None and node.op_type == "Add":
        bias = tuple(each for each in node.input if each in weights)
        node = producers.get(next(n for n in node.input if n not in weights)) if bias else None
    if node is None or node.op_type != "MatMul":
        return ()
    turned = producers.get(node.input[1])
    if turned is None or turned.op_type != "Transpose" or turned.input[0] not in weights:
        return ()
    return (node.input[0], turned.input[0], *bias)


def norms(proto: Any) -> None:
    """Compute a residual sum and the root mean square norm after it in one operator."""
    from onnxruntime.transformers.fusion_simplified_layernorm import (
        FusionSimplifiedLayerNormalization,
        FusionSkipSimplifiedLayerNormalization,
    )
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = OnnxModel(proto)
    model.remove_useless_cast_nodes()
    FusionSimplifiedLayerNormalization(model).apply()
    model.prune_graph()
    FusionSkipSimplifiedLayerNormalization(model).apply()
    model.topological_sort()
