"""The weights of a graph: what it stores, and how they are quantized."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_energy.engines import precision
from slm_energy.engines.onnx.external_data import GRAPH
from slm_energy.engines.precision import Tensor
from slm_energy.serialization import Json

_LINEAR = ("MatMul", "Gemm")
PRODUCT = "MatMulNBits"
"""The operator that multiplies by weights of 8 or 4 bits."""

GROUP_SIZES = ("auto", "16", "32", "64", "128", "256")

_ACTIVATIONS = "int8 in blocks of a group"
"""To what it rounds its inputs."""

_INT8_ACTIVATIONS = 4
"""Its `accuracy_level`. With float32 activations (1) it is slower than MatMul with float32 weights:
3 to 5 ms against 2 for a vector and a matrix of 2048 x 5632 on 2 cores with AVX2; with 8 bits
0.5 ms."""


def quantize(source: Path, target: Path, bits: int, group_size: int, *, symmetric: bool) -> None:
    """Round the weights of linear layers to nearest, with one scale per group.

    Args:
        source: folder with a graph in float32.
        target: folder for the quantized graph.
        bits: of a weight, 8 or 4.
        group_size: weights of one output that share a scale.
        symmetric: without zero points.
    """
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    nbits.logger.setLevel(logging.WARNING)  # otherwise one line for each node
    config = nbits.DefaultWeightOnlyQuantConfig(
        bits=bits,
        block_size=group_size,
        is_symmetric=symmetric,
        accuracy_level=_INT8_ACTIVATIONS,
        op_types_to_quantize=("MatMul",),
    )
    model = onnx.load(source / GRAPH)
    _gemm_to_matmul(model.graph)
    quantizer = nbits.MatMulNBitsQuantizer(model, algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target / GRAPH), use_external_data_format=True)


def _gemm_to_matmul(graph: Any) -> None:
    """Write `Gemm` as `MatMul` and `Add`: the quantizer knows no other. GPT-2's layers are Gemm."""
    from onnx import helper

    nodes = []
    for node in graph.node:
        scaled = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Gemm" or any(scaled.get(name) for name in ("transA", "transB")):
            nodes.append(node)
            continue
        product = f"{node.output[0]}_product"
        nodes.append(helper.make_node("MatMul", node.input[:2], [product], name=node.name))
        nodes.append(helper.make_node("Add", [product, node.input[2]], node.output))
    del graph.node[:]
    graph.node.extend(nodes)


def describe(folder: Path, dtype: str) -> dict[str, Json]:
    """Facts about the weights of the graph in a folder, read from its file.

    Args:
        folder: with the graph and its weights.
        dtype: `engine.dtype` that the graph was made for.

    Returns:
        `weights` (`precision.describe`); `linear_layers`, and how many of them are `quantized`.
    """
    import onnx

    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = [_sizes(node) for node in graph.node if node.op_type == PRODUCT]
    plain = sum(node.op_type in _LINEAR and node.input[1] in weights for node in graph.node)
    return {
        **precision.describe(
            list(_tensors(graph)),
            activations=_ACTIVATIONS if products else dtype,
            method=precision.ROUND_TO_NEAREST if precision.is_quantized(dtype) else None,
            group_size=max((each["block_size"] for each in products), default=None),
            file_bytes=sum(file.stat().st_size for file in folder.glob(f"{GRAPH}*")),
        ),
        "linear_layers": plain + len(products),
        "quantized": len(products),
    }


def _tensors(graph: Any) -> Iterator[Tensor]:
    """Each weight of a graph once, with its scales and zero points; no shapes or indices."""
    from onnx import TensorProto

    numbers = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    stored = {t.name: t for t in graph.initializer if t.data_type not in numbers}
    head = _head(graph)
    looked_up = [node for node in graph.node if node.op_type == "Gather"]
    for node in looked_up:
        if node.input[0] in stored:
            yield _tensor("embedding", node.name, stored.pop(node.input[0]))
    for node in graph.node:
        part: precision.Part = "head" if node.name == head else "layers"
        if node.op_type == PRODUCT:
            parts = [stored.pop(name) for name in node.input[1:] if name in stored]
            count = _sizes(node)["K"] * _sizes(node)["N"]
            yield Tensor(part=part, weights=count, bytes=sum(map(_bytes, parts)), name=node.name)
        elif node.op_type in _LINEAR and node.input[1] in stored:
            yield _tensor(part, node.name, stored.pop(node.input[1]))
    for name, tensor in stored.items():
        yield _tensor("other", name, tensor)


def _sizes(product: Any) -> dict[str, int]:
    """Inputs `K`, outputs `N`, `bits` and `block_size` of a product with quantized weights."""
    return {attribute.name: attribute.i for attribute in product.attribute}


def _tensor(part: precision.Part, name: str, stored: Any) -> Tensor:
    count = math.prod(stored.dims)
    return Tensor(part=part, weights=count, bytes=_bytes(stored), name=name)


def _bytes(tensor: Any) -> int:
    from onnx import helper

    item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * item)


def _head(graph: Any) -> str:
    """Name of the node that multiplies by the output layer's weights."""
    producers = {name: node for node in graph.node for name in node.output}
    node = producers["logits"]
    while node.op_type not in (*_LINEAR, PRODUCT):
        node = producers[next(name for name in node.input if name in producers)]
    return str(node.name)
