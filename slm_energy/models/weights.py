"""The files that hold a model's weights, and the tensors that their headers list.

The safetensors format is a JSON header followed by plain arrays
(https://huggingface.co/docs/safetensors, "Format"); nothing here reads the arrays.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from slm_energy.errors import ModelError
from slm_energy.models.folder import weight_files

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
"""Names of weights in one file; those in parts have an index, `NAME.index.json`."""

_BUFFER = re.compile(
    r"(^|\.)(inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|causal_mask|position_ids)$"
)
"""Tables and masks that older files hold, and models compute: GPT-2, GPT-NeoX, CodeGen, Llama."""

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library


def is_weight(name: str) -> bool:
    """Whether a stored tensor of this name holds something that was trained."""
    return _BUFFER.search(name) is None


def stored(folder: Path, *, pickled: bool) -> list[Path]:
    """The files with the weights: safetensors, else pickled ones; empty if there are none.

    Args:
        folder: of the model.
        pickled: whether pickled weights may be taken.

    Raises:
        ModelError: a part that the index names is missing.
    """
    for name in (SAFETENSORS, *((PICKLED,) if pickled else ())):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = [folder / part for part in sorted(weight_files(index))]
            if missing := [part for part in parts if not part.is_file()]:
                raise ModelError(
                    f"{missing[0]}, a part of the weights, is missing: fetch the model again"
                )
            return parts
    return []


def require_content(file: Path) -> None:
    """Refuse the pointer that a clone without Git LFS has in place of a file.

    Raises:
        ModelError: it is a pointer.
    """
    with file.open("rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        raise ModelError(
            f"{file} is a Git LFS pointer, not the file itself: run git lfs pull in {file.parent}"
        )


def header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The tensors of a safetensors file, and where its data begins.

    Returns:
        Name to `dtype`, `shape` and `data_offsets`, in bytes from where the data begins.

    Raises:
        ModelError: it is not a safetensors file, or not complete.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= _LONGEST_HEADER else b""
    try:
        tensors: dict[str, dict[str, Any]] = json.loads(text)
        tensors.pop("__metadata__", None)
        end = max((8 + length + each["data_offsets"][1] for each in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{file} is not a safetensors file: fetch the model again") from error
    if (size := file.stat().st_size) < end:
        raise ModelError(f"{file} has {size} of its {end} bytes: fetch the model again")
    return tensors, 8 + length
