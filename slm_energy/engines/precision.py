"""How a loaded model's weights are really stored: bits per weight, and what was left unquantized.

`engine.dtype` names the bits of the matrices in the layers. What an engine does with embedding,
output layer and norms, and how large its scales are, is its own affair: each engine lists its
tensors, and `describe` makes the same summary of them for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from slm_energy.config.groups import Dtype, EngineConfig
from slm_energy.serialization import Json

BITS: dict[str, int] = {"int8": 8, "int6": 6, "int5": 5, "int4": 4}
"""Nominal bits of the types that are made by quantization; everything else stays in float32."""

STORED = "stored"
"""`engine.dtype` of a checkpoint that is served as it was quantized by somebody else."""

ROUND_TO_NEAREST = "round to nearest"

SCHEMES = ("auto", "symmetric", "asymmetric")
"""`engine.options.scheme` of engines that round to nearest."""

_MOST_BITS = 10.0
"""Of a quantized weight: 8, with a 32-bit scale and a 32-bit zero point for 32 weights."""

Part = Literal["layers", "embedding", "head", "other"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One tensor of a loaded model.

    Attributes:
        part: `layers` for a matrix in a layer; `head` for an output layer that is stored apart from
            the embedding; `other` for norms, biases and convolutions.
        weights: how many numbers it stands for.
        bytes: what it takes, with its scales and zero points.
        name: in the engine's file, to name it as unquantized.
    """

    part: Part
    weights: int
    bytes: float
    name: str = ""


def is_quantized(dtype: str) -> bool:
    """Whether weights have fewer bits than the computations, so that tokens may differ."""
    return dtype in BITS or dtype == STORED


def computed(dtype: Dtype) -> Dtype:
    """The type of what is not quantized, in which an engine is compared: float32 with these."""
    return "float32" if is_quantized(dtype) else dtype


def describe(
    tensors: Sequence[Tensor],
    *,
    activations: str,
    method: str | None = None,
    group_size: int | None = None,
    file_bytes: int | None = None,
) -> dict[str, Json]:
    """Effective settings about the weights, for `Engine.load` to return.

    Args:
        tensors: all weights of the model; a tensor that two layers share is listed once, one that
            is stored twice, twice.
        activations: the type in which matrices are multiplied, such as `float32`, or `int8 in
            blocks of 32`.
        method: how the weights were quantized (`ROUND_TO_NEAREST`, or calibrated and on what); None
            if they were not.
        group_size: weights that share a scale; None for one scale per output.
        file_bytes: of the file that was loaded; None if there is none of its own.

    Returns:
        `weights`: bytes, bits per weight over all tensors and of each part, `unquantized` (parts,
        or names of matrices in the layers, with 16 or more bits), and the arguments. An embedding
        that is the output layer as well is `embedding`.
    """
    stored, count = sum(each.bytes for each in tensors), sum(each.weights for each in tensors)
    bits: dict[str, Json] = {}
    unquantized = list[Json]()
    for part in ("layers", "embedding", "head", "other"):
        of_part = [each for each in tensors if each.part == part]
        if not of_part:
            continue
        mean = 8 * sum(each.bytes for each in of_part) / sum(each.weights for each in of_part)
        bits[part] = round(mean, 3)
        wide = [each for each in of_part if 8 * each.bytes > _MOST_BITS * each.weights]
        if method is not None and wide:
            whole = len(wide) == len(of_part)
            unquantized += [part] if whole else [each.name for each in wide if each.name]
    return {
        "weights": {
            "bytes": round(stored),
            "bits_per_weight": round(8 * stored / count, 3),
            "bits": bits,
            "unquantized": unquantized,
            "method": method,
            "group_size": group_size,
            "activations": activations,
            "file_bytes": file_bytes,
        }
    }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grouped:
    """How an engine that rounds to nearest makes weights in groups.

    Attributes:
        symmetric: without zero points.
        group_size: weights of one output that share a scale; None for all of them.
    """

    symmetric: bool = True
    group_size: int | None = 32


def grouped(options: Mapping[str, object]) -> Grouped:
    """`engine.options.scheme` and `group_size`; `auto` is symmetric, in groups of 32 weights."""
    size = str(options.get("group_size", "auto"))
    return Grouped(
        symmetric=options.get("scheme", "auto") != "asymmetric",
        group_size={"auto": 32, "-1": None}[size] if size in ("auto", "-1") else int(size),
    )


def identity(engine: EngineConfig) -> dict[str, Json]:
    """What of an engine's options determines the content of a file with its weights."""
    return dataclasses.asdict(grouped(engine.options)) if engine.dtype == "int4" else {}


def ineffective(dtype: str, options: Mapping[str, object]) -> str | None:
    """Why an option about 4 bits cannot be used with another type, or None."""
    for name in ("scheme", "group_size"):
        value = options.get(name, "auto")
        if value != "auto" and dtype != "int4":
            return f"engine.options.{name}={value} with engine.dtype={dtype}: it needs int4"
    return None
