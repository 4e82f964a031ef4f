"""What a user of each library writes to decode greedily: the plain public way, as fast as it goes.

Each function takes the trial whose weights, threads and cache are to be used, and the prompt; it
returns a function from a number of new tokens to their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_energy.cell import Trial
from slm_energy.engines.base import load_request_of
from slm_energy.engines.llama_cpp import gguf_export

Decode = Callable[[int], list[int]]


def transformers_generate(trial: Trial, prompt: Sequence[int]) -> Decode:
    """`model.generate`, eager, float32."""
    return _generate(_eager(trial), prompt)


def transformers_static(trial: Trial, prompt: Sequence[int]) -> Decode:
    """`model.generate` with a static cache and a compiled forward pass."""
    import torch

    model = _eager(trial)
    model.forward = torch.compile(model.forward, dynamic=False)
    return _generate(model, prompt, cache_implementation="static")


def optimum_onnx(trial: Trial, prompt: Sequence[int]) -> Decode:
    """`ORTModelForCausalLM.generate` on optimum's own export."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForCausalLM

    folder = _once(trial, "plain_onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads(trial)
    if not (folder / "model.onnx").exists():
        exported = ORTModelForCausalLM.from_pretrained(trial.model_path, export=True)
        exported.save_pretrained(folder)
        del exported
    return _generate(ORTModelForCausalLM.from_pretrained(folder, session_options=options), prompt)


def optimum_openvino(trial: Trial, prompt: Sequence[int]) -> Decode:
    """`OVModelForCausalLM.generate` on optimum's own export, told to keep float32."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig, OVModelForCausalLM

    folder = _once(trial, "plain_openvino_float32")
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "INFERENCE_NUM_THREADS": str(_threads(trial)),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if not (folder / "openvino_model.xml").exists():
        # `from_pretrained(export=True)` would store the weights in 16 bits: half the traffic.
        main_export(
            trial.model_path,
            folder,
            task="text-generation-with-past",
            ov_config=OVConfig(dtype="fp32"),
        )
    return _generate(OVModelForCausalLM.from_pretrained(folder, ov_config=config), prompt)


def llama_generate(trial: Trial, prompt: Sequence[int]) -> Decode:
    """`Llama.generate` of llama-cpp-python on the same GGUF file, with a float32 cache."""
    import llama_cpp

    gguf = gguf_export.cache_folder(load_request_of(trial)) / gguf_export.FILE
    threads = _threads(trial)
    model = llama_cpp.Llama(
        str(gguf),
        n_ctx=256,
        n_threads=threads,
        n_threads_batch=threads,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )

    def decode(tokens: int) -> list[int]:
        model.reset()
        stream = model.generate(list(prompt), top_k=1, temp=0.0, repeat_penalty=1.0)
        return [int(next(stream)) for _ in range(tokens)]

    return decode


USES = {
    "torch": transformers_generate,
    "torch_compile": transformers_static,
    "torchscript": transformers_generate,
    "onnx": optimum_onnx,
    "openvino": optimum_openvino,
    "llama_cpp": llama_generate,
}
"""Engine to the plain use of its library; TorchScript has none of its own."""


def _eager(trial: Trial) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(_threads(trial))
    return AutoModelForCausalLM.from_pretrained(trial.model_path, dtype=torch.float32).eval()


def _generate(model: Any, prompt: Sequence[int], **options: Any) -> Decode:
    import torch

    ids = torch.tensor([list(prompt)])
    model.generation_config.eos_token_id = None

    def decode(tokens: int) -> list[int]:
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
                **options,
            )
        return [int(token) for token in out[0, len(prompt) :]]

    return decode


def _threads(trial: Trial) -> int:
    return trial.cell.settings.engine.threads or 1


def _once(trial: Trial, kind: str) -> Path:
    """A folder for the plain way's own export of this model."""
    folder = Path(trial.cache_path) / "plain" / f"{kind}-{trial.cell.model_digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
