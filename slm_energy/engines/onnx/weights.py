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
QUANTIZED = {
    "int8": ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    "int4": ("MatMulNBits",),
}
"""Operators that multiply by quantized weights: as they are exported, and as they are fused."""

GROUP_SIZES = ("auto", "16", "32", "64", "128", "256")

ACTIVATIONS = {"MatMulNBits": "int8 in blocks of a group"} | dict.fromkeys(
    QUANTIZED["int8"], "uint8 per tensor"
)
"""To what these operators round their inputs."""

_INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits. With float32 activations (1) it is slower than MatMul with
float32 weights: 3 to 5 ms against 2 for a vector and a matrix of 2048 x 5632 on 2 cores with AVX2;
with 8 bits 0.5 ms."""


def to_8_bits(source: Path, target: Path) -> None:
    """Quantize linear layers: 8-bit weights (one scale per output), inputs rounded at each call.

    Unsigned: where a processor has AVX2 but no VNNI, ONNX Runtime adds products with signed weights
    in 16 bits, which overflow. That changed logits by up to 0.84 of the largest instead of 0.05.

    Args:
        source: folder with a graph in float32.
        target: folder for the quantized graph.
    """
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source / GRAPH,
        target / GRAPH,
        op_types_to_quantize=list(_LINEAR),
        per_channel=True,
        weight_type=QuantType.QUInt8,
        use_external_data_format=True,
        # Of what its shape inference does not know: results of ONNX Runtime's own operators.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def to_4_bits(source: Path, target: Path, group_size: int, *, symmetric: bool) -> None:
    """Quantize linear layers: 4-bit weights, rounded to nearest, with one scale per group.

    Args:
        source: folder with a graph in float32.
        target: folder for the quantized graph.
        group_size: weights of one output that share a scale.
        symmetric: without zero points.
    """
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    nbits.logger.setLevel(logging.WARNING)  # otherwise one line for each node
    config = nbits.DefaultWeightOnlyQuantConfig(
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


def describe(folder: Path, dtype: str, group_size: int | None) -> dict[str, Json]:
    """Facts about the weights of the graph in a folder, read from its file.

    Args:
        folder: with the graph and its weights.
        dtype: `engine.dtype` that the graph was made for.
        group_size: weights that share a scale; None for one scale per output, or none at all.

    Returns:
        `weights` (`precision.describe`); `linear_layers`, and how many of them are `quantized`.
    """
    import onnx

    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    rounding = [ACTIVATIONS[node.op_type] for node in graph.node if node.op_type in ACTIVATIONS]
    plain = sum(node.op_type in _LINEAR and node.input[1] in weights for node in graph.node)
    return {
        **precision.describe(
            list(_tensors(graph)),
            activations=rounding[0] if rounding else dtype,
            method=precision.ROUND_TO_NEAREST if precision.is_quantized(dtype) else None,
            group_size=group_size,
            file_bytes=sum(file.stat().st_size for file in folder.glob(f"{GRAPH}*")),
        ),
        "linear_layers": plain + len(rounding),
        "quantized": len(rounding),
    }


def _tensors(graph: Any) -> Iterator[Tensor]:
    """Each weight of a graph once, with its scales and zero points; no shapes or indices."""
    from onnx import TensorProto

    numbers = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    stored = {t.name: t for t in graph.initializer if t.data_type not in numbers}
    head = _head(graph)
    products = [node for node in graph.node if node.op_type in (*_LINEAR, *QUANTIZED["int8"][:1])]
    looked_up = [node for node in graph.node if node.op_type == "Gather"]
    for node in looked_up:
        if node.input[0] in stored:
            yield _tensor("embedding", node.name, [stored.pop(node.input[0])])
    for node in graph.node:
        part: precision.Part = "head" if node.name == head else "layers"
        if node.op_type == "MatMulNBits":
            size = {a.name: a.i for a in node.attribute}
            parts = [stored.pop(name) for name in node.input[1:] if name in stored]
            count = size["K"] * size["N"]
            yield Tensor(part=part, weights=count, bytes=sum(map(_bytes, parts)), name=node.name)
        elif node in products and node.input[1] in stored:
            stem = node.input[1].removesuffix("_quantized")
            scales = [stored.pop(f"{stem}_{kind}", None) for kind in ("scale", "zero_point")]
            yield _tensor(part, node.name, [stored.pop(node.input[1]), *filter(None, scales)])
    for name, tensor in stored.items():
        yield _tensor("other", name, [tensor])


def _tensor(part: precision.Part, name: str, stored: list[Any]) -> Tensor:
    """The first of the stored tensors is the weight; scales and zero points may follow."""
    count = math.prod(stored[0].dims)
    return Tensor(part=part, weights=count, bytes=sum(map(_bytes, stored)), name=name)


def _bytes(tensor: Any) -> int:
    from onnx import helper

    item = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * item)


def _head(graph: Any) -> str:
    """Name of the node that multiplies by the output layer's weights."""
    producers = {name: node for node in graph.node for name in node.output}
    node = producers["logits"]
    while node.op_type not in (*_LINEAR, "MatMulNBits", "MatMulInteger"):
        node = producers[next(name for name in node.input if name in producers)]
    return str(node.name)
