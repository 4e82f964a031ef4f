"""Checkpoints whose weights are stored quantized: AWQ, GPTQ, compressed-tensors, bitsandbytes, ...

They are served as they are, with `engine.dtype=stored`, by engines whose libraries know the method.
Loaded without its code, their tensors would be taken for other weights or be converted to
`engine.dtype`: another model than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slm_energy.errors import ModelError
from slm_energy.models.folder import read_json
from slm_energy.models.weights import header

_KEYS = ("quantization_config", "compression_config")
_OWN_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""Of AutoGPTQ, AutoAWQ and ModelOpt, from before `quantization_config`."""

_SMALL_FLOATS = ("F8_", "F6_", "F4")
"""Starts of safetensors' names of types that only quantized weights have."""


def method(config: dict[str, Any]) -> str | None:
    """The name of the method with which config.json says that the weights are quantized, or None.

    Args:
        config: of the model. Models of several parts have a mapping for each.
    """
    for key in _KEYS:
        for part in (config, *(value for value in config.values() if isinstance(value, dict))):
            if stated := part.get(key):
                return _name(stated)
    return None


def origin(stated: dict[str, Any]) -> tuple[str, int | None]:
    """How a checkpoint says that its weights were quantized, and how many share a scale.

    Args:
        stated: the content of `quantization_config`.

    Returns:
        The method, with the data of its calibration where they are stated; and the group's size,
        None where it is not stated or one scale holds for a row.
    """
    groups = [stated, *(each.get("weights") or {} for each in _groups(stated))]
    sizes = [each["group_size"] for each in groups if isinstance(each.get("group_size"), int)]
    data = stated.get("dataset")
    return (
        f"{_name(stated)}, calibrated on {data}" if data else _name(stated),
        sizes[0] if sizes and sizes[0] > 0 else None,
    )


def _groups(stated: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of layers of a compressed-tensors checkpoint."""
    return list((stated.get("config_groups") or {}).values())


def mismatch(folder: Path, dtype: str) -> str | None:
    """Why weights that are stored like this are not served with this `engine.dtype`, or None.

    Args:
        folder: of a model that `validate` accepts.
        dtype: `engine.dtype`.
    """
    stated = method(read_json(folder / "config.json"))
    if stated is not None and dtype != "stored":
        return (
            f"the weights in {folder} are quantized with {stated}: set engine.dtype=stored to serve"
            " them so, or model.source to the original weights"
        )
    if stated is None and dtype == "stored":
        return (
            f"engine.dtype=stored: the weights in {folder} are not quantized: set another"
            " engine.dtype, such as float32 or int4"
        )
    return None


def refuse_undeclared(folder: Path, config: dict[str, Any]) -> None:
    """Refuse quantized weights of which config.json says nothing: libraries would misread them.

    Args:
        folder: of the model.
        config: its config.json.

    Raises:
        ModelError: a file of the method's own is there, and no `quantization_config`.
    """
    for name, found in _OWN_FILES.items():
        if method(config) is None and (folder / name).is_file():
            raise _refusal(folder, f"with {found} ({name})")


def refuse_small_floats(folder: Path, config: dict[str, Any], files: Iterable[Path]) -> None:
    """Refuse weights of types that only quantized weights have, of which config.json says nothing.

    Args:
        folder: of the model.
        config: its config.json.
        files: its safetensors files.

    Raises:
        ModelError: one is of such a type.
    """
    for file in files if method(config) is None else ():
        for name, tensor in header(file)[0].items():
            if str(tensor["dtype"]).startswith(_SMALL_FLOATS):
                raise _refusal(folder, f"to type {tensor['dtype']} ({name} in {file.name})")


def _name(stated: Any) -> str:
    if not isinstance(stated, dict):
        return repr(stated)
    if stated.get("load_in_8bit") or stated.get("load_in_4bit"):
        return "bitsandbytes"
    return str(stated.get("quant_method", "a method without a name"))


def _refusal(folder: Path, how: str) -> ModelError:
    return ModelError(
        f"{folder} has weights quantized {how}, but no quantization_config in config.json, by which"
        " libraries know it: set model.source to a checkpoint that has it, or to the original"
        " weights"
    )
