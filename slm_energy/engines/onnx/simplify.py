"""Replace shape arithmetic in an exported graph by constants.

The tracing exporter recomputes at each layer and each token what the model's config fixes: half of
the nodes of a small Llama only pass dimensions around. ONNX Runtime does not fold them, because
batch and length are free. Here, dimensions that ONNX Runtime's symbolic shape inference finds fixed
become constants, and those it finds unchanged are copied (0) or left to be derived (-1).

The inference may guess wrongly, so the result is to be compared with the model (`export.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Dims = list[int | str]


def simplify(graph: Path) -> None:
    """Rewrite the file in place; weights in a second file stay where they are."""
    import onnx

    proto = onnx.load(graph, load_external_data=False)
    if any(attribute.HasField("g") for node in proto.graph.node for attribute in node.attribute):
        return  # a branch or loop reads tensors that would look unused here
    shapes = _shapes(proto)
    _fix_dimensions(proto.graph, shapes)
    _fix_targets(proto.graph, shapes)
    _prune(proto.graph)
    onnx.save(proto, graph)


def _shapes(proto: Any) -> dict[str, Dims]:
    """Name of a tensor to its dimensions: numbers, or names for free ones."""
    from onnx import ModelProto, TensorProto, helper
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    known = ModelProto()
    known.CopyFrom(proto)
    found: dict[str, Dims] = {}
    for tensor in proto.graph.initializer:
        found[tensor.name] = list(tensor.dims)
        if tensor.data_location == TensorProto.EXTERNAL:
            # The inference would look for its values; as an input it has none.
            known.graph.initializer.remove(tensor)
            known.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    graph = SymbolicShapeInference.infer_shapes(known, auto_merge=True).graph
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        found[value.name] = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
    return found


def _fix_dimensions(graph: Any, shapes: dict[str, Dims]) -> None:
    """`Gather(Shape(x), k)` is a constant where dimension k of x is fixed."""
    from onnx import helper, numpy_helper

    makers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
                 if tensor.data_location == 0 and not tensor.dims}  # fmt: skip
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for node in graph.node:
        source = makers.get(node.input[0]) if node.op_type == "Gather" else None
        index = constants.get(node.input[1]) if source is not None else None
        if source is None or source.op_type != "Shape" or index is None or index.ndim:
            continue
        dimension = shapes.get(source.input[0], [""] * 9)[int(index)]
        if isinstance(dimension, int):
            value = numpy_helper.from_array(_int64(dimension))
            node.CopyFrom(helper.make_node("Constant", [], [node.output[0]], value=value))


def _fix_targets(graph: Any, shapes: dict[str, Dims]) -> None:
    """Give `Reshape` and `Expand` a constant target where one says the same."""
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
    # 1 leaves a dimension as it is.
    target = [1 if old == new else new for old, new in zip(padded, after, strict=True)]
    fixed = [dim for dim in target if isinstance(dim, int)]
    return fixed if len(fixed) == len(target) else None


def _prune(graph: Any) -> None:
    """Drop what no output needs any more."""
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
