"""The memory that an engine needs for a model, on a processor.

Shares and constants of the engines were fitted to `benchmarks/engine_memory.py`, which compares
these predictions with peaks of processes.
"""

from __future__ import annotations

import dataclasses
import math

from slm_energy.cell import Settings
from slm_energy.config.groups import Dtype
from slm_energy.engines import precision
from slm_energy.memory_limit import RAISE, SMALLER
from slm_energy.planning.size import Size

ERROR = 0.15
"""How far a prediction may be off (`benchmarks/README.md`)."""
_MIB = 1 << 20
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_GGUF_BYTES = {"int8": 34 / 32, "int6": 210 / 256, "int5": 0.71, "int4": 0.61}
"""Of each weight in llama.cpp's Q8_0, Q6_K, Q5_K_M and Q4_K_M: its own table of sizes
(tools/quantize/README.md). Rows that are no multiple of 256 get up to a quarter more."""
_CLASSES_MIB = 350
"""torch, transformers and optimum, which optimum's classes import."""
_PROBED_TOKENS = 1024
"""For which llama.cpp and torch hold logits in float32 while an export is compared."""
_TORCHAO_MIB = {"int8": 470, "int4": 300}
"""What rounding takes in torch, beside the weights."""
_OPENVINO_QUANTIZED_MIB = 60
"""What OpenVINO takes for weights in 8 or 4 bits, beside them."""
_LOOKED_UP_MIB = 65
"""Of an embedding that ONNX Runtime maps, beside quantized weights."""
_ONNX_PACKED = 1.15
"""Quantized weights in ONNX Runtime's own layout, as a multiple of those in the file."""
_ONNX_QUANTIZING = 0.6
"""What rounding takes in ONNX Runtime's quantizer, as copies of the exact weights."""
_WITH_CLASSES = ("onnx", "openvino")
"""Engines whose `decode=generate` is such a class; in others it is a loop in the library."""
_SCORES = 6
"""Matrices of attention scores (prompt x prompt, of each head) of ONNX Runtime: unfused, three of
them are there at a time, and its arena grows by doubling."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Engine:
    """How the memory of an engine depends on the model.

    Attributes:
        serve_mib: its libraries and buffers.
        caches: copies of the KV cache.
        prepare_mib: libraries and buffers of its export; None if it makes none.
        prepare_copies: of the weights while it exports.
    """

    serve_mib: int
    caches: int
    prepare_mib: int | None = None
    prepare_copies: float = 0


_ENGINES = {
    "torch": _Engine(serve_mib=430, caches=1),
    "torch_compile": _Engine(serve_mib=550, caches=2),
    "torchscript": _Engine(serve_mib=330, caches=2, prepare_mib=480, prepare_copies=1),
    "onnx": _Engine(serve_mib=75, caches=2, prepare_mib=480, prepare_copies=2),
    "onnxruntime_genai": _Engine(serve_mib=110, caches=2, prepare_mib=480, prepare_copies=2),
    "openvino": _Engine(serve_mib=200, caches=1, prepare_mib=650, prepare_copies=1),
    "openvino_genai": _Engine(serve_mib=260, caches=1, prepare_mib=650, prepare_copies=1),
    "llama_cpp": _Engine(serve_mib=90, caches=1, prepare_mib=460, prepare_copies=1),
}


def is_known(settings: Settings) -> bool:
    """Whether these settings can be predicted: not a GPU, nor what a checkpoint's author chose."""
    on_cpu = settings.engine.name in _ENGINES and settings.provider.name == "cpu"
    return on_cpu and settings.engine.dtype != "stored"


def serving(settings: Settings, size: Size, prompt_tokens: float) -> int:
    """Bytes of the process that serves.

    Args:
        settings: of a cell; `is_known`.
        size: of its model.
        prompt_tokens: in the longest prompt.
    """
    name, workload = settings.engine.name, settings.workload
    engine = _ENGINES[name]
    places = workload.batch_size * (prompt_tokens + workload.new_tokens)
    item = other_bytes(settings.engine.dtype)
    needed = _weights(settings, size) + engine.caches * item * size.cached * places
    needed += engine.serve_mib * _MIB
    if settings.engine.decode == "generate" and name in _WITH_CLASSES:
        needed += _CLASSES_MIB * _MIB
    if name == "onnx":
        needed += 4 * workload.batch_size * size.heads * prompt_tokens**2 * _SCORES
    return round(needed)


def preparing(settings: Settings, size: Size) -> int | None:
    """Bytes of the process that exports; None for an engine that makes no export.

    A quantized graph is made in memory from the exact one. optimum holds its own graph, which
    `decode=generate` and onnxruntime_genai serve, twice more than ours.
    """
    own = settings.engine
    engine = _ENGINES[own.name]
    if engine.prepare_mib is None:
        return None
    copies = engine.prepare_copies
    if own.name.startswith("onnx"):
        copies += _ONNX_QUANTIZING * precision.is_quantized(own.dtype) + 2 * is_stock(settings)
    logits = 4 * size.vocabulary * _PROBED_TOKENS if own.name == "llama_cpp" else 0
    exact = _weights(settings, size, exact=True)
    return round(copies * exact + logits + engine.prepare_mib * _MIB)


def is_stock(settings: Settings) -> bool:
    """Whether an ONNX graph is optimum's own (`engines/onnx/export.py`)."""
    return settings.engine.name != "onnx" or settings.engine.decode == "generate"


def _weights(settings: Settings, size: Size, *, exact: bool = False) -> float:
    """Bytes of the weights in memory.

    An output layer that shares the embedding is a copy of its own in ONNX Runtime, transposed, and
    in OpenVINO, packed. ONNX Runtime maps its file, copies matrices one by one into a layout of its
    own, and unmaps each; of an embedding it touches the looked-up rows. So its peak is at the
    output layer, whose source is still mapped then, unless more is packed after it: a factor of
    GELU's approximation is merged with the matrix that follows it, which thereby comes last.
    OpenVINO maps its file and never touches most rows of an embedding that only looks tokens up; it
    transposes GPT-2's matrices, and the originals stay. 8-bit formats of torch, ONNX Runtime and
    OpenVINO leave embeddings in float32; llama.cpp's has 34 bytes for 32 weights of every matrix,
    and the layers' are packed beside the mapped file. torch rounds weights that it has loaded in
    float32.

    Args:
        settings: engine and type.
        size: of the model.
        exact: those of the model that is exported, which is not rounded to 8 bits; llama.cpp's file
            is compared with torch in float32.
    """
    engine, dtype = settings.engine.name, settings.engine.dtype
    item = 4.0 if exact and engine == "llama_cpp" else other_bytes(dtype)
    quantized = precision.is_quantized(dtype) and not exact
    linear_item = linear_bytes(settings, exact=exact)
    twice = 1 + (size.transposed and engine.startswith("openvino"))
    if exact:
        graph = size.shared / 2 if engine.startswith("onnx") else 0  # in one of two copies
        return (size.embedding + twice * size.linear + graph) * item
    if engine == "llama_cpp":
        layers = size.linear - (0 if size.shared else size.embedding)
        packed = layers if quantized else 0
        return linear_item * (size.parameters + packed)
    if engine.startswith("openvino"):
        beside = _OPENVINO_QUANTIZED_MIB * _MIB if quantized else 0
        return (twice * size.linear + size.shared) * linear_item + beside
    if engine.startswith("onnx") and quantized:
        stored = (size.linear + size.shared) * linear_item
        return _ONNX_PACKED * stored + _LOOKED_UP_MIB * _MIB
    if engine.startswith("onnx"):
        output = size.shared or size.embedding
        return (size.linear + size.shared + max(0, output - size.after_output)) * item
    if not quantized:
        return size.parameters * item
    rounded = (size.linear + size.shared) * linear_item + _TORCHAO_MIB[dtype] * _MIB
    return size.parameters * item + rounded


def other_bytes(dtype: Dtype) -> float:
    """Bytes of a weight that is not in a linear layer, and of a number in a KV cache."""
    return _BYTES.get(dtype, 4.0)


def linear_bytes(settings: Settings, *, exact: bool = False) -> float:
    """Bytes of a weight in a linear layer, with its scale where a group has one.

    ONNX Runtime's scales have 32 bits, OpenVINO's 16; zero points have 4, and 32 in torch.
    """
    name, dtype = settings.engine.name, settings.engine.dtype
    if exact or not precision.is_quantized(dtype):
        return other_bytes(dtype)
    if name == "llama_cpp":
        return _GGUF_BYTES[dtype]
    bits = precision.BITS[dtype]
    if dtype != "int4" and not name.startswith("onnx"):
        return bits / 8
    made = precision.grouped(settings.engine.options)
    scale = (32 if name.startswith("onnx") else 16) + 4 * (not made.symmetric)
    if name == "torch":
        scale = 64
    return (bits + scale / (made.group_size or math.inf)) / 8


def refusal(needed_bytes: int | None, allowed_bytes: int, allows: str) -> str | None:
    """Why a cell cannot run for want of memory; None if it can, may, or is not known.

    The prediction is within 15 % of what is measured, so a cell is refused above that only.

    Args:
        needed_bytes: by a cell (`Needs.memory_bytes`).
        allowed_bytes: what its processes may use.
        allows: what limits them (`memory_limit.allowed`).
    """
    if needed_bytes is None or needed_bytes <= allowed_bytes * (1 + ERROR):
        return None
    limit = f"{allows} has {allowed_bytes / 1e9:.1f} GB"
    remedy = f"{RAISE}, or {SMALLER}" if "control group" in allows else SMALLER
    return f"a trial needs about {needed_bytes / 1e9:.1f} GB of memory, and {limit}: {remedy}"
