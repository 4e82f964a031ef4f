"""Linear layers in 8 or 4 bits, with torchao, and what is really stored of any model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slm_energy.config.groups import Dtype
from slm_energy.engines.precision import (
    BITS,
    ROUND_TO_NEAREST,
    STORED,
    Part,
    Tensor,
    describe,
    is_quantized,
)
from slm_energy.errors import EngineError
from slm_energy.models.quantization import origin
from slm_energy.serialization import Json

_GROUP = 32
"""Weights that share a scale in 4 bits."""


def quantize(model: Any, dtype: Dtype, group_size: int | None = None) -> None:
    """Round the weights of all linear layers to the nearest of 8 or 4 bits, where the model is.

    8 bits have one scale per output row. 4 bits have a scale and a zero point for each
    `group_size` weights of a row (32 by default); layers whose shape the device's kernel does not
    take stay as they are: outputs that are no multiple of 16, inputs that are none of the group's.
    GPT-2's `Conv1D`, a linear layer with its weight transposed, becomes `Linear`. An output layer
    that shares the embedding's weights gets a copy; the embedding is not quantized.

    Raises:
        EngineError: no layer can be rounded to 4 bits in such groups.
    """
    import torch
    from torchao.quantization import Int8WeightOnlyConfig, quantize_
    from transformers.pytorch_utils import Conv1D

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv1D):
                with torch.device("meta"):
                    linear = torch.nn.Linear(child.nx, child.nf)
                linear.weight = torch.nn.Parameter(child.weight.data.T, requires_grad=False)
                linear.bias = child.bias
                setattr(parent, name, linear)
    if dtype == "int8":
        quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False))
        return
    size = group_size or _GROUP

    def fits(module: Any, name: str) -> bool:
        linear = isinstance(module, torch.nn.Linear)
        return linear and module.out_features % 16 == 0 and module.in_features % size == 0

    if not any(fits(module, name) for name, module in model.named_modules()):
        raise EngineError(
            f"engine.dtype=int4: no layer of {model.config.model_type} has rows of a multiple of"
            f" {size} weights: set another engine.options.group_size",
            permanent=True,
        )
    quantize_(model, _int4(model.device, size), filter_fn=fits)


def _int4(device: Any, group_size: int) -> Any:
    """Torchao's configuration of 4-bit weights for a device: each has kernels of its own."""
    if device.type == "cpu":
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=group_size, set_inductor_config=False)
    from torchao.quantization import Int4WeightOnlyConfig
    from torchao.quantization.quantize_.workflows import Int4PackingFormat

    return Int4WeightOnlyConfig(
        group_size=group_size,
        int4_packing_format=Int4PackingFormat.TILE_PACKED_TO_4D,
        set_inductor_config=False,
    )


def effective_precision(model: Any, dtype: Dtype, group_size: int | None = None) -> dict[str, Json]:
    """Types and sizes of the weights, read back from the tensors, for the effective settings.

    Args:
        model: a transformers model on its device.
        dtype: as requested.
        group_size: as given to `quantize`.

    Returns:
        `dtype`, several joined by `/`, or the requested one if that many weights have its bits;
        `quantization` (a description) and `quantized_share` (of all parameters) if they are
        quantized; and `weights` (`precision.describe`).
    """
    stored = list(_stored(model))
    tensors = [tensor for tensor, _ in stored]
    quantized = [tensor.weights for tensor, kind in stored if kind is None]
    kinds = "/".join(sorted({kind for _, kind in stored if kind is not None}))
    if not is_quantized(dtype) or (not quantized and dtype != STORED):
        return {"dtype": kinds, **describe(tensors, activations=kinds)}
    by, method = "torchao", ROUND_TO_NEAREST
    size = None if dtype == "int8" else group_size or _GROUP
    if dtype == STORED:
        stated = model.config.quantization_config
        method, size = origin(stated if isinstance(stated, dict) else stated.to_dict())
        by = method
    how = f"{by}: weights of {len(quantized)} linear layers"
    if not quantized:
        how = f"{by}: decompressed by its library before the first token"
    if dtype in BITS:
        per = "symmetric, one scale per output row" if size is None else f"in groups of {size}"
        how += f" in {BITS[dtype]} bits, {per}"
    return {
        "dtype": dtype,
        "quantization": f"{how}; all else in {kinds}",
        "quantized_share": sum(quantized) / sum(tensor.weights for tensor in tensors),
        **describe(
            tensors,
            activations="bfloat16" if multiplies_in_bfloat16(model) else kinds,
            method=method,
            group_size=size,
        ),
    }


def multiplies_in_bfloat16(model: Any) -> bool:
    """Whether bitsandbytes rounds activations, as it does on processors with AVX512-BF16.

    It then keeps 4-bit weights, from the first call on, in a layout for that.
    """
    states = (getattr(each, "quant_state", None) for each in model.parameters())
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)


def _stored(model: Any) -> Iterator[tuple[Tensor, str | None]]:
    """Each tensor and its type; no type if it is quantized."""
    from torch import nn

    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    seen = set[int]()
    for path, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        matrix, bias = own.get("weight"), own.get("bias")
        inputs, outputs = (getattr(module, f"{end}_features", None) for end in ("in", "out"))
        if inputs and outputs and id(matrix) not in seen:
            # A linear layer, with the scales that the method of a checkpoint keeps beside it.
            packed = [each for each in (*own.values(), *module.buffers()) if each is not bias]
            seen |= set(map(id, packed))
            if matrix is not embedding:
                whole = matrix is not None and matrix.numel() == inputs * outputs
                tensor = Tensor(
                    part="head" if matrix is head else "layers",
                    weights=inputs * outputs,
                    bytes=sum(map(_bytes, packed)),
                    name=f"{path}.weight",
                )
                yield tensor, _kind(matrix) if whole and _is_whole(matrix) else None
        for name, value in own.items():
            if id(value) in seen:
                continue
            seen.add(id(value))
            part: Part = "layers" if value.ndim == 2 else "other"
            if value is embedding or isinstance(module, nn.Embedding):
                part = "embedding"
            tensor = Tensor(
                part=part, weights=value.numel(), bytes=_bytes(value), name=f"{path}.{name}"
            )
            yield tensor, _kind(value)


def _is_whole(tensor: Any) -> bool:
    """Whether a tensor holds the weights themselves, not integers for them."""
    return tensor.is_floating_point() and not hasattr(tensor, "__tensor_flatten__")


def _kind(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _bytes(tensor: Any) -> float:
    """Bytes of a tensor, with the scales that a subclass keeps beside its integers."""
    state = getattr(tensor, "quant_state", None)  # bitsandbytes: of 4 bits, and of 8
    rows = getattr(tensor, "SCB", None)
    inner = [] if state is None else [state.absmax, state.code]
    inner += [] if rows is None else [rows]
    if hasattr(tensor, "__tensor_flatten__"):  # torchao
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return float(tensor.numel() * tensor.element_size()) + sum(map(_bytes, inner))
