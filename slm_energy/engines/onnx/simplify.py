"""Replace shape arithmetic in an exported graph by constants.

The tracing exporter recomputes at each layer and each token what the model's config fixes: half of
the nodes of a small Llama only pass dimensions around. ONNX Runtime does not fold them, because
batch and length are dynamic. Here, dimensions that ONNX Runtime's symbolic shape inference finds
fixed become constants, and unchanged ones are copied (0) or derived (-1).

The inference may be wrong, so the caller compares the result with the model (`export.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Dims = list[int | str]


def simplify(graph: Path) -> None:
    """Rewrite the file in place; weights in a second file are left unchanged."""
    import onnx

    proto = onnx.load(graph, load_external_data=False)
    if any(attribute.HasField("g") for node in proto.graph.node for attribute in node.attribute):
        return  # a branch or loop reads tensors that would appear unused here
    shapes = _shapes(proto)
    _fix_dimensions(proto.graph, shapes)
    _fix_targets(proto.graph, shapes)
    _skip_returns(proto.graph, shapes)
    _prune(proto.graph)
    onnx.save(proto, graph)


def _shapes(proto: Any) -> dict[str, Dims]:
    """Dimensions by tensor name."""
    from onnx import ModelProto, TensorProto, helper
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    inferable = ModelProto()
    inferable.CopyFrom(proto)
    shapes: dict[str, Dims] = {}
    for tensor in proto.graph.initializer:
        shapes[tensor.name] = list(tensor.dims)
        if tensor.data_location == TensorProto.EXTERNAL:
            # The inference would read its values; an input has none.
            inferable.graph.initializer.remove(tensor)
            inferable.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    graph = SymbolicShapeInference.infer_shapes(inferable, auto_merge=True).graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = dimensions(value)
    return shapes


def dimensions(value: Any) -> Dims:
    """Dimensions of an input, output or intermediate value: numbers, or names of dynamic ones."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def _fix_dimensions(graph: Any, shapes: dict[str, Dims]) -> None:
    """Replace `Gather(Shape(x), k)` by a constant where dimension k of x is fixed."""
    from onnx import helper, numpy_helper

    producers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
                 if tensor.data_location == 0 and not tensor.dims}  # fmt: skip
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for node in graph.node:
        source = producers.get(node.input[0]) if node.op_type == "Gather" else None
        index = constants.get(node.input[1]) if source is not None else None
        if source is None or source.op_type != "Shape" or index is None or index.ndim:
            continue
        dimension = shapes.get(source.input[0], [""] * 9)[int(index)]
        if isinstance(dimension, int):
            value = numpy_helper.from_array(_int64(dimension))
            node.CopyFrom(helper.make_node("Constant", [], [node.output[0]], value=value))


def _fix_targets(graph: Any, shapes: dict[str, Dims]) -> None:
    """Give `Reshape` and `Expand` a constant target where an equivalent one exists."""
    from onnx import numpy_helper

    for node in graph.node:
        if node.op_type not in ("Reshape", "Expand"):
            continue
        before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
        if not before or not after:
            continue
        target = (_reshape if node.op_type == "Reshape" else _expand)(before, after)
        if target is not None:
            name = f"{node.output[0]}_target"
            graph.initializer.append(numpy_helper.from_array(_int64(target), name))
            node.input[1] = name


def _reshape(before: Dims, after: Dims) -> list[int] | None:
    target = [
        dim if isinstance(dim, int) else 0 if before[axis : axis + 1] == [dim] else -1
        for axis, dim in enumerate(after)
    ]
    return target if target.count(-1) <= 1 else None


def _expand(before: Dims, after: Dims) -> list[int] | None:
    padded = [1] * (len(after) - len(before)) + before
    # 1 keeps a dimension.
    target = [1 if old == new else new for old, new in zip(padded, after, strict=True)]
    fixed = [dim for dim in target if isinstance(dim, int)]
    return fixed if len(fixed) == len(target) else None


def _skip_returns(graph: Any, shapes: dict[str, Dims]) -> None:
    """Pass a tensor on where a chain of `Reshape` gives it back its own shape."""
    producers = {node.output[0]: node for node in graph.node}
    outputs = {output.name for output in graph.output}
    same: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = same.get(name, name)
        if node.op_type != "Reshape" or node.output[0] in outputs:
            continue
        source = node.input[0]
        while source in producers and producers[source].op_type == "Reshape":
            source = producers[source].input[0]
        before, after = shapes.get(source), shapes.get(node.output[0])
        if before and before == after and "" not in before:
            same[node.output[0]] = source


def _prune(graph: Any) -> None:
    """Drop nodes and weights that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _int64(value: int | list[int]) -> Any:
    import numpy as np

    return np.array(value, dtype=np.int64)
