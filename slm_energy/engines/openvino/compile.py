"""Compiles a graph: its caches in blocks, and logits of last positions only, where it can be."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slm_energy.engines.base import Batch
from slm_energy.engines.openvino.decoding import LAST, decoding, has_cache
from slm_energy.engines.openvino.device import in_force, library
from slm_energy.engines.openvino.mapped_weights import releasing
from slm_energy.errors import EngineError, one_line

_AFTER_PROJECTION = ("Add", "Convert", "Divide", "Multiply", "Tanh")
"""Operations between output projection and logits: they work on each position separately."""


def compile_graph(
    graph: Path,
    device: str,
    requested: Mapping[str, str],
    *,
    last_position_only: bool,
    paged: bool = True,
) -> tuple[Any, dict[str, str | None], bool]:
    """Compile a stateful model for one device.

    Args:
        graph: the .xml file; its weights are beside it.
        device: as `device_name` returns it.
        requested: see `properties`; those that the device does not support are left out.
        last_position_only: compute logits for the last position only.
        paged: with that, on a processor, keep caches in blocks where OpenVINO can; not in float16,
            in which that ends the process where the processor has AVX512-FP16.

    Returns:
        The compiled model, after a first inference, which lays out the weights; the properties
        `in_force`; and whether logits are those of the last position only.

    Raises:
        EngineError: OpenVINO refuses the model, it has no cache, or a setting is not as requested.
    """
    core = library().Core()
    try:
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
        with releasing(graph.with_suffix(".bin")):
            paged = paged and device == "CPU" and requested["INFERENCE_PRECISION_HINT"] != "f16"
            model, cut = _read(core, graph, last_position_only, paged=paged)
            settings = {name: value for name, value in requested.items() if name in supported}
            compiled = core.compile_model(model, device, settings)
            values = in_force(compiled, requested)
            request = compiled.create_infer_request()
            decoding(request, Batch(prompts=((1, 1), (1,)), new_tokens=1, stop="fixed")).prefill()
    except RuntimeError as error:
        raise EngineError(
            f"engine.name=openvino: {graph} cannot be compiled: {one_line(error)}"
        ) from error
    if not has_cache(request):
        raise EngineError(f"engine.name=openvino: {graph} has no KV cache")
    return compiled, values, cut


def operators(compiled: Any) -> tuple[dict[str, int], int]:
    """Operators that the device actually runs, read from its own graph.

    Returns:
        Number of linear layers per precision (that of activations, or `i8`/`u8` where only weights
        have 8 bits), and the number of attentions computed as one operation.
    """
    linear: Counter[str] = Counter()
    fused = 0
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str)
        fused += kind in ("ScaledDotProductAttention", "PagedAttention")
        if kind == "FullyConnected":
            linear[info["runtimePrecision"].astype(str)] += 1
    return dict(linear), fused


def output_projection(model: Any) -> Any:
    """The product with the output layer's weights; None if it is not where it usually is."""
    node = model.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _AFTER_PROJECTION:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "MatMul" else None


def _read(core: Any, graph: Path, last_position_only: bool, *, paged: bool) -> tuple[Any, bool]:
    """The model, and whether its logits are those of last positions only.

    With caches in blocks, where OpenVINO can rewrite the model so, steps take 0.79
    to 0.86 of the time (4.7 M; float32 and int4, batches of 1 and 4, one thread).
    """
    library()
    from openvino._offline_transformations import paged_attention_transformation

    model = core.read_model(graph)
    if paged and last_position_only:
        with contextlib.suppress(RuntimeError):  # an attention that it does not know
            paged_attention_transformation(model)
            # Where states other than keys and values remain, blocks would not be enough.
            stateless = all(node.get_type_name() != "ReadValue" for node in model.get_ops())
            if stateless and _cut_to_last_position(model, paged=True):
                return model, True
        model = core.read_model(graph)
    return model, last_position_only and _cut_to_last_position(model, paged=False)


def _cut_to_last_position(model: Any, *, paged: bool) -> bool:
    """Pass only last hidden states to the output projection; return whether it was found."""
    from openvino import opset13

    node = output_projection(model)
    if node is None:
        return False
    hidden = node.input_value(0)
    if paged:  # (tokens of all requests, 1, size)
        rows = opset13.parameter([-1], np.int64, name=LAST)
        rows.output(0).set_names({LAST})
        model.add_parameters([rows])
        last = opset13.gather(hidden, rows, np.int64(0))
    else:
        last = opset13.slice(hidden, start=[-1], stop=[2**31 - 1], step=[1], axes=[1])
    node.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()
    return True
