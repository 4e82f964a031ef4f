"""Reading a Hugging Face model's weights one tensor at a time, without torch.

safetensors files are read here because numpy has no bfloat16, and because a tensor that is read,
not mapped, leaves memory once it is written.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.errors import ModelError
from slm_energy.models import weights

Array = npt.NDArray[np.float32]

_STORED_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One readable tensor.

    Attributes:
        shape: its dimensions, the outermost first.
        read: returns its values as float32.
    """

    shape: tuple[int, ...]
    read: Callable[[], Array]


def open_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a model folder by name, without reading their values.

    Raises:
        ModelError: there are no weights, or their format is not supported here.
    """
    tensors: dict[str, Tensor] = {}
    for file in weights.stored(folder, pickled=True):
        tensors |= _pickled(file) if file.suffix == ".bin" else _safetensors(file)
    if not tensors:
        raise ModelError(f"{folder} has no weights: set model.source to a complete model folder")
    return tensors


def _safetensors(file: Path) -> dict[str, Tensor]:
    listed, start = weights.header(file)
    return {
        name: Tensor(
            shape=tuple(each["shape"]),
            read=partial(
                _read, file, each["dtype"], tuple(each["shape"]), start + each["data_offsets"][0]
            ),
        )
        for name, each in listed.items()
    }


def _read(file: Path, kind: str, shape: tuple[int, ...], offset: int) -> Array:
    if kind not in _STORED_AS:
        raise ModelError(f"{file} has weights of type {kind}: choose a model with float weights")
    raw = np.fromfile(file, _STORED_AS[kind], math.prod(shape), offset=offset).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return raw.astype(np.float32, copy=False)


def _pickled(file: Path) -> dict[str, Tensor]:
    """Return weights in torch's own format; `models.fetch` checked that the author is trusted."""
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"{file.name} can be read only where torch is installed: choose a model with"
            " safetensors weights, or leave engine.python at null"
        ) from error

    state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    return {
        name: Tensor(shape=tuple(value.shape), read=partial(_from_torch, value))
        for name, value in state.items()
    }


def _from_torch(value: Any) -> Array:
    array: Array = value.float().numpy()
    return array
