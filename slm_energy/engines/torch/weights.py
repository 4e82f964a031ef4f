"""Weights for PyTorch: loaded in the requested type, or as a checkpoint has them quantized.

`quantize` rounds the linear layers of a loaded model to 8 or 4 bits, with torchao.

Tensors are converted one at a time, each through a separate mapping of the file: the pages of a
shared mapping would stay in memory beside the converted weights until the last tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_energy.config.groups import Dtype, ModelConfig
from slm_energy.engines import decode
from slm_energy.engines.precision import (
    BITS,
    ROUND_TO_NEAREST,
    STORED,
    Part,
    Tensor,
    computed,
    describe,
    is_quantized,
)
from slm_energy.errors import EngineError, one_line
from slm_energy.models import weights
from slm_energy.models.quantization import origin
from slm_energy.serialization import Json

_GROUP = 32
"""Weights that share a scale in 4 bits."""


def library() -> Any:
    """Import transformers with the modules that all its models share."""
    decode.skip_extras()
    import transformers.modeling_utils
    import transformers.models.auto.modeling_auto

    return transformers


def load_weights(model: ModelConfig, path: Path, dtype: Dtype) -> Any:
    """Load a causal language model into CPU memory, in `dtype` whatever type is stored.

    With int8 and int4 it is loaded in the type of the other weights, to be rounded by `quantize`;
    with `stored`, through the code of the checkpoint's own method.

    Returns:
        The model; its attribute `unused_weights` names the stored tensors that it has no place for.

    Raises:
        EngineError: transformers cannot load it as requested, or weights are missing.
    """
    import torch

    transformers = library()
    options: dict[str, Any] = {
        "trust_remote_code": model.trust_remote_code,
        "local_files_only": True,
    }
    as_stored = dtype == STORED
    kind = "auto" if as_stored else getattr(torch, computed(dtype))
    try:
        config = transformers.AutoConfig.from_pretrained(path, **options)
        eager = model.attention == "eager" or (model.attention == "auto" and sdpa_is_wrong(config))
        # None leaves the choice to the library: SDPA where the architecture supports it.
        attention = "eager" if eager else None if model.attention == "auto" else "sdpa"
        model_classes = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        files = weights.stored(path, pickled=False)
        if files and type(config) in model_classes and not as_stored:
            options = {"state_dict": dict(_tensors(files, kind))}
            model_class, source = model_classes[type(config)], None
        else:
            options["use_safetensors"] = None if model.allow_pickle else True
            model_class, source = transformers.AutoModelForCausalLM, path
        loaded, loading_info = model_class.from_pretrained(
            source,
            config=config,
            dtype=kind,
            attn_implementation=attention,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # see `places.py`
            raise
        asked = any(f"{word} implementation" in str(error) for word in ("attention", "attn"))
        with_it = f" with {model.attention=}" if asked and model.attention != "auto" else ""
        raise EngineError(f"transformers cannot load {path}{with_it}: {one_line(error)}") from error
    if missing := sorted(loading_info["missing_keys"]):
        raise EngineError(
            f"{path} lacks weights of {config.model_type}, for example {missing[0]}: fetch the"
            " model again, or change model.source",
            permanent=True,
        )
    unused = {*filter(weights.is_weight, loading_info["unexpected_keys"])}
    loaded.unused_weights = sorted(unused | _replaced(loaded, options.get("state_dict", {})))
    return loaded.eval()


def _replaced(model: Any, stored: dict[str, Any]) -> set[str]:
    """Stored weights in place of which the model takes others: an output layer that is tied."""
    import torch

    return {
        name
        for name in model._tied_weights_keys or ()
        if name in stored and not torch.equal(stored[name], model.get_parameter(name))
    }


def keep_last_position(model: Any) -> Any:
    """Make the output layer compute the logits of the last position only.

    A large vocabulary makes the others costly. Most architectures take `logits_to_keep` for this;
    some do not (GPT-BigCode, BLOOM, CodeGen).

    Returns:
        A handle; its `remove()` restores the layer.
    """

    def last(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][:, -1:], *arguments[1:])

    return model.get_output_embeddings().register_forward_pre_hook(last)


def sdpa_is_wrong(config: Any) -> bool:
    """Whether SDPA ignores what the model has (transformers 4.57: `sdpa_attention_forward`).

    These are two switches of GPT-2, and the limit of scores that Gemma 2 has.
    """
    switches = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    if config.model_type == "gemma2":
        return config.attn_logit_softcapping is not None
    return config.model_type == "gpt2" and any(getattr(config, name, False) for name in switches)


def _tensors(files: list[Path], dtype: Any) -> Iterator[tuple[str, Any]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                names = list(stored.keys())
            for name in names:
                with safe_open(file, framework="pt") as stored:
                    value = stored.get_tensor(name)
                    kind = dtype if value.is_floating_point() else value.dtype
                    yield name, value.to(kind, copy=True)
        except SafetensorError as error:
            raise EngineError(f"{file} cannot be read: {one_line(error)}") from error


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
