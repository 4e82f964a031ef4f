"""Weights in a file beside a graph, copied from a model one at a time to save memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

GRAPH = "model.onnx"
DATA = "model.onnx_data"
_ALIGNMENT = 64 * 1024
"""ONNX Runtime memory-maps tensors at aligned file offsets."""


def move_weights(proto: Any, inputs: set[str], weights: Mapping[str, Any], folder: Path) -> None:
    """Turn a graph's weight inputs into tensors of one file, and write both.

    A weight that is used only transposed (a linear layer's) is stored transposed. One that is used
    both ways (an embedding that is also the output layer) is stored twice, as exporters do.

    Args:
        proto: a graph whose weights are inputs named as in the model.
        inputs: names of the inputs that are not weights.
        weights: the model's tensors by name.
        folder: where to write `GRAPH` and `DATA`.
    """
    import onnx

    graph = proto.graph
    names = [value.name for value in graph.input if value.name not in inputs]
    transposed = _transposed(graph, set(names))
    used = {name for node in graph.node for name in node.input}
    with (folder / DATA).open("wb") as file:
        for name in names:
            if name in used:
                graph.initializer.append(_append(file, name, weights[name]))
            for copy in transposed.get(name, ()):
                graph.initializer.append(_append(file, copy, weights[name].t()))
    kept = [value for value in graph.input if value.name in inputs]
    del graph.input[:]
    graph.input.extend(kept)
    onnx.save(proto, folder / GRAPH)


def _transposed(graph: Any, names: set[str]) -> dict[str, list[str]]:
    """Remove transpositions of weights from the graph; return their output names by weight."""
    outputs: dict[str, list[str]] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in names:
            outputs.setdefault(node.input[0], []).append(node.output[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return outputs


def _append(file: BinaryIO, name: str, weight: Any) -> Any:
    """Append a tensor to the file; return its description for the graph."""
    import numpy as np
    from onnx import TensorProto, external_data_helper, helper

    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    values = np.ascontiguousarray(weight.detach().numpy())
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
    tensor.raw_data = b""  # the library requires the field before it accepts external data
    external_data_helper.set_external_data(tensor, DATA, file.tell(), values.nbytes)
    tensor.ClearField("raw_data")
    file.write(values.data)
    return tensor
