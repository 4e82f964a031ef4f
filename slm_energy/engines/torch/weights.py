"""Weights for PyTorch: loaded in the requested type, or as a checkpoint has them quantized.

Tensors are converted one at a time, each through a separate mapping of the file: the pages of a
shared mapping would stay in memory beside the converted weights until the last tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm_energy.config.groups import Dtype, ModelConfig
from slm_energy.engines import decode
from slm_energy.engines.precision import STORED, computed
from slm_energy.errors import EngineError, one_line
from slm_energy.models import weights


def library() -> Any:
    """Import transformers with the modules that all its models share."""
    decode.skip_extras()
    import transformers.modeling_utils
    import transformers.models.auto.modeling_auto

    return transformers


def load_weights(model: ModelConfig, path: Path, dtype: Dtype) -> Any:
    """Load a causal language model into CPU memory, in `dtype` whatever type is stored.

    With int8 and int4 it is loaded in the type of the other weights (`precision.quantize` rounds);
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
