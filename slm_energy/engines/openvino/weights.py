"""The weights of an exported graph: what it stores, and how they are quantized."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_energy.config.groups import Dtype
from slm_energy.engines import precision
from slm_energy.engines.openvino.compile import output_projection
from slm_energy.engines.openvino.device import library
from slm_energy.engines.precision import Grouped, Tensor
from slm_energy.errors import EngineError
from slm_energy.serialization import Json

GROUP_SIZES = ("auto", "32", "64", "128", "-1")

_UNPACKED = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")
"""What turns stored numbers into the matrix of a product or a table of embeddings."""


def quantize(graph: Path, dtype: str, made: Grouped) -> None:
    """Round the linear layers' weights to the nearest, in place.

    Args:
        graph: the .xml file; its weights are beside it.
        dtype: int8 (symmetric, per output channel) or int4.
        made: how int4 is made.

    Raises:
        EngineError: a layer cannot be divided into groups.
    """
    openvino = library()
    import nncf

    partial = graph.with_name("float32.xml")
    for suffix in (".xml", ".bin"):
        graph.with_suffix(suffix).rename(partial.with_suffix(suffix))
    model = openvino.Core().read_model(partial)
    arguments: dict[str, Any] = {"mode": nncf.CompressWeightsMode.INT8_SYM}
    if dtype == "int4":
        kind = "INT4_SYM" if made.symmetric else "INT4_ASYM"
        arguments = {
            "mode": nncf.CompressWeightsMode[kind],
            "group_size": made.group_size or -1,
            "all_layers": True,  # otherwise the output layer gets 8 bits
        }
    scope = nncf.IgnoredScope(types=["Gather"], validate=False)  # embeddings
    try:
        rounded = nncf.compress_weights(model, ignored_scope=scope, **arguments)
    except nncf.InvalidGroupSizeError as error:
        raise EngineError(
            f"engine.options.group_size={made.group_size}: it does not divide the inputs of every"
            " layer: choose a smaller one, or -1",
            permanent=True,
        ) from error
    openvino.save_model(rounded, graph, compress_to_fp16=False)
    del model, rounded
    for suffix in (".xml", ".bin"):
        partial.with_suffix(suffix).unlink()


def describe(graph: Path, dtype: Dtype, made: Grouped) -> dict[str, Json]:
    """`weights` of an exported graph (`precision.describe`), read from its file."""
    model = library().Core().read_model(graph)
    return precision.describe(
        list(_tensors(model)),
        activations=precision.computed(dtype),
        method=precision.ROUND_TO_NEAREST if precision.is_quantized(dtype) else None,
        group_size=made.group_size if dtype == "int4" else None,
        file_bytes=sum(graph.with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin")),
    )


def _tensors(model: Any) -> Iterator[Tensor]:
    """Each weight once, with its scales and zero points; no shapes or indices."""
    from openvino import Type

    indices = (Type.i64, Type.i32, Type.boolean)
    seen: set[str] = set()
    head = output_projection(model)
    nodes = model.get_ordered_ops()
    for kind, position in (("Gather", 0), ("MatMul", 1)):
        for node in nodes:
            if node.get_type_name() != kind:
                continue
            stored = _constants(node.input_value(position).get_node())
            names = {each.get_name() for each in stored}
            if not stored or seen & names or stored[0].get_element_type() in indices:
                continue
            seen |= names
            part: precision.Part = "embedding" if kind == "Gather" else "layers"
            if head is not None and node.get_name() == head.get_name():
                part = "head"
            yield _tensor(part, node.get_friendly_name(), stored)
    for node in nodes:
        if node.get_type_name() != "Constant" or node.get_name() in seen:
            continue
        if node.get_element_type() not in indices:
            yield _tensor("other", node.get_friendly_name(), [node])


def _constants(node: Any) -> list[Any]:
    """The stored numbers behind a matrix, largest first; none if it is computed from inputs."""
    kind = node.get_type_name()
    if kind == "Constant":
        return [node]
    if kind not in _UNPACKED:
        return []
    inputs = [each.get_node() for each in node.input_values()]
    if kind in ("Reshape", "Transpose"):
        inputs = inputs[:1]
    found = [_constants(each) for each in inputs]
    if not all(found):
        return []
    return sorted((each for every in found for each in every), key=_count, reverse=True)


def _tensor(part: precision.Part, name: str, stored: list[Any]) -> Tensor:
    return Tensor(
        part=part,
        weights=_count(stored[0]),
        bytes=sum(each.get_element_type().bitwidth * _count(each) / 8 for each in stored),
        name=name,
    )


def _count(constant: Any) -> int:
    return math.prod(constant.get_output_shape(0))
