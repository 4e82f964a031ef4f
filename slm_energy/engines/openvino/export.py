"""Export of models to OpenVINO's format, once, as stateful graphs that hold their KV cache.

optimum-intel exports where it is installed, the exporter of transformers 5 otherwise. Both trace
the torch model that engine torch would serve, so attention and types are the same, and the result
is compared with that model's logits before it is stored.
"""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import numpy.typing as npt

from slm_energy import cache, distributions
from slm_energy.config.groups import Dtype
from slm_energy.engines import decode, precision
from slm_energy.engines.base import LoadRequest, derived_from, threads
from slm_energy.engines.openvino import device, weights
from slm_energy.engines.openvino.compile import compile_graph
from slm_energy.engines.openvino.decoding import decoding, is_paged
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

GRAPH = "openvino_model.xml"
PACKAGES = ("openvino", "optimum-intel", "optimum", "nncf", "torch", "transformers")
_RECIPE = 4
"""Raise it when this package exports the same model differently: part of the cache address."""
_TASK = "text-generation-with-past"


def identity(request: LoadRequest) -> dict[str, Json]:
    """Everything that determines an export's content; all that serve the export share it."""
    made_by = ("python", *PACKAGES, distributions.BUILDS)
    return {
        **derived_from(request, _RECIPE),
        **precision.identity(request.settings.engine),
        "versions": {name: text for name, text in request.versions.items() if name in made_by},
    }


def cache_folder(request: LoadRequest) -> Path:
    """The folder of this request's export, which may not exist yet."""
    return cache.place(request.cache_path, "openvino", identity(request))


def needed(request: LoadRequest) -> bool:
    """Whether the export is still to be made."""
    return not cache.intact(cache_folder(request))


def export(request: LoadRequest) -> None:
    """Export the model unless the cache holds it intact.

    Raises:
        EngineError: the architecture cannot be exported, or the graph computes other logits.
    """
    cache.make(
        cache_folder(request),
        identity(request),
        lambda folder: _fill(folder, request),
        request.settings.model.name,
    )


def _fill(folder: Path, request: LoadRequest) -> dict[str, Json]:
    from slm_energy.engines.torch.probe import attention_deviation, probe_logits
    from slm_energy.engines.torch.weights import load_weights

    device.library()  # before anything else imports it, so that its telemetry is off
    dtype = request.settings.engine.dtype
    made = precision.grouped(request.settings.engine.options)
    traced: Dtype = "float32" if precision.is_quantized(dtype) else dtype
    with warnings.catch_warnings():
        # Tracing warns about every shape it reads; the comparison below verifies the result.
        warnings.simplefilter("ignore")
        model = load_weights(request.settings.model, request.model_path, traced)
        attention_deviation(model)
        attention, kind = model.config._attn_implementation, model.config.model_type
        vocabulary, unused = model.config.vocab_size, model.unused_weights
        expected = probe_logits(model, decode.probe(vocabulary))
        # Where the disk becomes full, OpenVINO removes what it wrote and calls the stream bad.
        cache.require_space(folder, sum(parameter.nbytes for parameter in model.parameters()))
        write = _through_transformers if request.versions["optimum-intel"] == "absent" else _optimum
        try:
            write(model, folder)
        except (ValueError, RuntimeError, NotImplementedError, KeyError, TypeError) as error:
            raise EngineError(
                f"engine.name=openvino: {kind} cannot be exported: {one_line(error)}"
            ) from error
        del model
        gc.collect()  # the graph is compiled below: not both at once
        if precision.is_quantized(dtype):
            weights.quantize(folder / GRAPH, dtype, made)
    label = f"engine.name={request.settings.engine.name}: the graph made from {kind}"
    logits, _ = _probed(folder, request, vocabulary, paged=False)
    in_blocks, paged = _probed(folder, request, vocabulary, paged=True)
    # OpenVINO's rewriting is wrong for Granite 4.0 micro. Rounding weights would hide that from a
    # comparison with torch, so it is with the same graph.
    paged = paged and decode.deviation(in_blocks, logits) <= decode.TOLERANCE[traced]
    deviation = decode.require_close(logits, expected, dtype, label)
    return {
        "paged": paged,
        "attention": attention,
        "unused_weights": unused,
        "deviation": deviation,
        **weights.describe(folder / GRAPH, dtype, made),
    }


def _optimum(model: Any, folder: Path) -> None:
    """Export without `main_export`, which rounds models above 1 B to 8 bits by default."""
    import torch
    from openvino.frontend.pytorch.patch_model import unpatch_model
    from optimum.exporters.openvino.convert import export_from_model

    sixteen_bits = model.dtype != torch.float32
    try:
        export_from_model(
            model,
            folder,
            task=_TASK,
            preprocessors=[],  # otherwise it looks for tokenizers, on the hub too
            patch_16bit_model=sixteen_bits,
        )
    finally:
        if sixteen_bits:  # otherwise torch.bmm keeps returning placeholders in the whole process
            unpatch_model(model, "_openvino_module_extension_patch_orig_forward")


def _through_transformers(model: Any, folder: Path) -> None:
    """Export the step that appends tokens: it handles the prompts as well."""
    import torch
    from transformers import DynamicCache
    from transformers.exporters.exporter_openvino import OpenVINOConfig, OpenVINOExporter
    from transformers.exporters.utils import decompose_for_generation

    # Padded, two rows: a mask of ones and a batch of one would be traced as constants.
    ids = torch.arange(1, 17).reshape(2, 8)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    # A cache without the model's config drops nothing: only masks hide what left the window.
    samples = {"input_ids": ids, "attention_mask": mask, "past_key_values": DynamicCache()}
    parts = decompose_for_generation(model, samples, multi_token_decode=True)
    step, inputs = parts["decode"]
    exported = OpenVINOExporter().export(step, inputs, config=OpenVINOConfig(dynamic=True))
    OpenVINOExporter.save_program(exported.program, folder / GRAPH)
    model.config.save_pretrained(folder)


def _probed(
    folder: Path, request: LoadRequest, vocabulary: int, *, paged: bool
) -> tuple[list[npt.NDArray[Any]], bool]:
    """The graph's logits for the probe, and whether its caches were in blocks."""
    settings = device.properties(request.settings.engine.dtype, threads(request.settings))
    compiled, _, _ = compile_graph(
        folder / GRAPH, "CPU", settings, last_position_only=True, paged=paged
    )
    infer, batch = compiled.create_infer_request(), decode.probe(vocabulary)
    return decode.probe_logits(decoding(infer, batch), batch), is_paged(infer)
