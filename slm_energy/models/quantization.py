"""Checkpoints whose weights are quantized are refused: no engine serves them as they are stored.

Loaded without the code of their method, their tensors would be taken for other weights or be
converted to `engine.dtype`: another model than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slm_energy.errors import ModelError
from slm_energy.models.weights import header

_OWN_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""Of AutoGPTQ, AutoAWQ and ModelOpt, from before `quantization_config` or beside it."""

_SMALL_FLOATS = ("F8_", "F6_", "F4")
"""Starts of safetensors' names of types that only quantized weights have."""


def refuse_method(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a model folder that says that its weights are quantized.

    Args:
        folder: of the model.
        config: its config.json.

    Raises:
        ModelError: it does; the message names the method and where it is stated.
    """
    for key in ("quantization_config", "compression_config"):
        # Models of several parts have a config.json with one mapping for each.
        for part in (config, *(value for value in config.values() if isinstance(value, dict))):
            if stated := part.get(key):
                raise _refusal(folder, _name(stated), f"{key} in config.json")
    for name, method in _OWN_FILES.items():
        if (folder / name).is_file():
            raise _refusal(folder, method, name)


def refuse_types(folder: Path, files: Iterable[Path]) -> None:
    """Refuse weights of types that only quantized weights have, whatever config.json says.

    Args:
        folder: of the model.
        files: its safetensors files.

    Raises:
        ModelError: one is of such a type.
    """
    for file in files:
        for name, tensor in header(file)[0].items():
            if str(tensor["dtype"]).startswith(_SMALL_FLOATS):
                raise _refusal(folder, f"type {tensor['dtype']}", f"{name} in {file.name}")


def _name(stated: Any) -> str:
    if not isinstance(stated, dict):
        return repr(stated)
    if stated.get("load_in_8bit") or stated.get("load_in_4bit"):
        return "bitsandbytes"
    return str(stated.get("quant_method", "a method without a name"))


def _refusal(folder: Path, method: str, where: str) -> ModelError:
    return ModelError(
        f"{folder} has weights quantized with {method} ({where}), which no engine here can serve:"
        " set model.source to the original weights; engine.dtype=int8 rounds those to 8 bits"
    )
