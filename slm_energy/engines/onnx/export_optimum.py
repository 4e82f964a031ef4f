"""Export with optimum: its own graph, or a leaner one for our decoding loop.

Both are traced with optimum's configuration, corrected for two architectures. `stock` is the graph
that optimum's users get. `lean` computes the logits of the last position only, and its weights are
copied from the model into one file, one at a time, where optimum would hold them in memory twice.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from slm_energy.engines import decode
from slm_energy.engines.onnx.external_data import GRAPH, move_weights
from slm_energy.engines.onnx.simplify import simplify
from slm_energy.engines.torch.weights import keep_last_position

_TASK = "text-generation-with-past"


def stock(folder: Path, model: Any) -> None:
    """Write optimum's own graph.

    Raises:
        ValueError, RuntimeError, NotImplementedError, KeyError: optimum cannot export the model.
    """
    decode.skip_extras()
    from optimum.exporters.onnx import onnx_export_from_model

    _correct_optimum()
    # optimum looks up a tokenizer under this name, also on the hub: minutes without network.
    model.config._name_or_path = str(folder)
    onnx_export_from_model(model, folder, task=_TASK, do_validation=False)


def lean(folder: Path, model: Any) -> None:
    """Write a graph that computes the logits of the last position only.

    Raises:
        ValueError, RuntimeError, NotImplementedError, KeyError: optimum cannot export the model.
    """
    decode.skip_extras()
    import onnx
    import torch
    from optimum.exporters.tasks import TasksManager

    _correct_optimum()
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model, task=_TASK, library_name="transformers"
    )
    config = constructor(
        model.config, use_past=True, use_past_in_inputs=True, float_dtype=_dtype_name(model.dtype)
    )
    samples = config.rename_ambiguous_inputs(config.generate_dummy_inputs(framework="pt"))
    hook = keep_last_position(model)
    accepted = inspect.signature(model.forward).parameters
    fixed = (
        {"logits_to_keep": 0} if "logits_to_keep" in accepted else {}
    )  # tracing must not vary it
    with torch.no_grad(), config.patch_model_for_export(model, model_kwargs=fixed):
        inputs = config.ordered_inputs(model)
        torch.onnx.export(
            model,
            (samples,),
            f=str(folder / GRAPH),
            input_names=list(inputs),
            output_names=list(config.outputs),
            dynamic_axes={**inputs, **config.outputs},
            opset_version=config.DEFAULT_ONNX_OPSET,
            dynamo=False,
            # Weights stay out of the graph, so nothing may be computed from them here.
            export_params=False,
            do_constant_folding=False,
        )
    hook.remove()
    proto = onnx.load(folder / GRAPH)
    _declare_one_position(proto)
    move_weights(proto, set(inputs), model.state_dict(), folder)
    simplify(folder / GRAPH)


def _declare_one_position(proto: Any) -> None:
    """Declare the logits' true shape (b, 1, vocabulary): bound buffers are allocated from it."""
    logits = next(output for output in proto.graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_value = 1


def _dtype_name(dtype: Any) -> str:
    """Optimum's name of a torch type."""
    return {"torch.float32": "fp32", "torch.float16": "fp16"}[str(dtype)]


def _correct_optimum() -> None:
    """Register what optimum lacks.

    StarCoder2's cache and inputs are Llama's. Gemma gets position ids, like all architectures with
    rotary embeddings: without them its graph counts from the start of the cache, which is right
    after padding on the left, and wrong across padding in between (ONNX Runtime GenAI's).
    """
    from optimum.exporters.onnx.config import TextDecoderWithPositionIdsOnnxConfig as Positioned
    from optimum.exporters.onnx.model_configs import GemmaOnnxConfig, LlamaOnnxConfig
    from optimum.exporters.tasks import TasksManager

    class Starcoder2OnnxConfig(LlamaOnnxConfig):  # type: ignore[misc]
        """Export configuration of StarCoder2."""

    class PositionedGemmaOnnxConfig(GemmaOnnxConfig, Positioned):  # type: ignore[misc]
        """Export configuration of Gemma, with position ids."""

    register = TasksManager.create_register("onnx", overwrite_existing=True)
    register("starcoder2", "text-generation", _TASK)(Starcoder2OnnxConfig)
    register("gemma", "text-generation", _TASK)(PositionedGemmaOnnxConfig)
