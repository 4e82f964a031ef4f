"""The graph of ONNX Runtime GenAI's own model builder, made in the library's environment.

The builder is a script beside the library. It knows the model's family by name, reads the weights
itself, and writes attention as one operator (`GroupQueryAttention`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from slm_energy.cell import Settings
from slm_energy.engines import decode, precision
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.onnx import weights
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json, read_json, write_json

_CONFIG = "genai_config.json"


class Opens(Protocol):
    """The engine, for comparing the graph with torch."""

    def open(self, folder: Path, reserved: int, settings: Settings) -> None:
        """Open a graph; `reserved` is the token that the library masks."""

    def alone(self, prompts: tuple[tuple[int, ...], ...]) -> Any:
        """Logits (b, 1, vocabulary) after each prompt."""


def build(folder: Path, request: LoadRequest, engine: Opens) -> dict[str, Json]:
    """Write the graph and its configuration; return facts about them.

    Raises:
        EngineError: the builder does not know the architecture, or the graph computes something
            else than torch.
    """
    from slm_energy.engines.torch.probe import probe_logits
    from slm_energy.engines.torch.weights import load_weights

    settings, dtype = request.settings, request.settings.engine.dtype
    made = precision.grouped(settings.engine.options)
    options = [f"block_size={made.group_size}", f"is_symmetric={str(made.symmetric).lower()}"]
    _run(folder, request, options if dtype != "float32" else [])
    config = read_json(folder / _CONFIG, dict[str, Any])
    reserved = config["model"]["vocab_size"] - 1
    config["model"] |= {"eos_token_id": reserved, "pad_token_id": reserved}
    write_json(folder / _CONFIG, config)
    model = load_weights(settings.model, request.model_path, "float32")
    batch = decode.probe(reserved)
    theirs, unused = probe_logits(model, batch), model.unused_weights
    del model  # so that memory does not hold the weights twice
    engine.open(folder, reserved, settings)
    longer = tuple((*prompt, decode.PROBE_TOKEN) for prompt in batch.prompts)
    ours = [engine.alone(prompts)[:, -1] for prompts in (batch.prompts, longer)]
    what = "engine.options.graph=builder: the graph"
    return {
        "graph": "builder",
        "dtype": dtype,
        "reserved_id": reserved,
        "versions": request.versions_of("onnxruntime-genai", "onnxruntime"),
        "attention": "sdpa",
        "unused_weights": unused,
        "deviation": decode.require_close(ours, theirs, dtype, what),
        **weights.describe(folder, dtype),
    }


def _run(folder: Path, request: LoadRequest, options: list[str]) -> None:
    """Run the builder's script.

    Raises:
        EngineError: it failed.
    """
    library = importlib.util.find_spec("onnxruntime_genai")
    script = Path(str(library and library.origin)).parent / "models" / "builder.py"
    precisions = {"float32": "fp32"}
    dtype = request.settings.engine.dtype
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, str(script), "-i", str(request.model_path), "-o", str(folder),
                   "-p", precisions.get(dtype, dtype), "-e", "cpu", "-c", scratch]  # fmt: skip
        if options:
            command += ["--extra_options", *options]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"},
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(
            f"engine.options.graph=builder: the model cannot be built: {one_line(last)}",
            permanent=True,
        )
