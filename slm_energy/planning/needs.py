"""What a cell needs before it runs: memory, disk, and a guess of its time. Pure functions.

    size_of   a model's numbers of parameters, from its architecture
    needs_of  memory, exports and work of a cell
    guess_s   seconds of a trial, from its work and the machine's speed

An unknown architecture or engine gives None, never 0. Shares and constants of the engines were
fitted to `benchmarks/engine_memory.py`, which compares these predictions with peaks of processes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from slm_energy.cache import CacheEntry
from slm_energy.cell import Cell, Settings
from slm_energy.config.groups import Dtype
from slm_energy.engines import precision
from slm_energy.memory_limit import RAISE, SMALLER
from slm_energy.models.architecture import (
    CONTEXT,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    cached_numbers,
    first,
)
from slm_energy.planning.speed import Speed
from slm_energy.serialization import Json

_MIB = 1 << 20
_GATED = (
    "llama", "qwen2", "qwen3", "gemma", "gemma3_text", "granite", "granitemoehybrid", "smollm3",
    "stablelm", "mistral", "phi3", "lfm2",
)  # fmt: skip
"""Families whose feed-forward layers have three matrices: N. Shazeer, GLU Variants Improve
Transformer, arXiv 2002.05202."""
_PLAIN = ("phi", "gpt2", "gpt_bigcode", "gpt_neox", "codegen", "starcoder2", "bloom")
"""Families with two."""
_LEARNED = ("gpt2", "gpt_bigcode")
"""Families that learn an embedding of each position."""
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_GGUF_BYTES = {"int8": 34 / 32, "int6": 210 / 256, "int5": 0.71, "int4": 0.61}
"""Of each weight in llama.cpp's Q8_0, Q6_K, Q5_K_M and Q4_K_M: its own table of sizes
(tools/quantize/README.md). Rows that are no multiple of 256 get up to a quarter more."""
_CLASSES_MIB = 350
"""torch, transformers and optimum, which the convenience classes of two engines import."""
_PROBED_TOKENS = 1024
"""For which llama.cpp and torch hold logits in float32 while an export is compared."""
_TORCHAO_MIB = {"int8": 470, "int4": 300}
"""What rounding takes in torch, beside the weights."""
_OPENVINO_QUANTIZED_MIB = 60
"""What OpenVINO takes for weights in 8 or 4 bits, beside them."""
_LOOKED_UP_MIB = 65
"""Of an embedding that ONNX Runtime maps, beside weights in 8 bits."""
_OWN_LOOP = ("onnxruntime_genai", "openvino_genai")
"""Engines whose `decode=generate` is a loop in the library, which needs no such class."""
TEXT_BYTES_PER_TOKEN = 3.0
"""Of code: the bundled tokenizer has 3.0, those of the shipped models 2.9 to 3.6."""
_SCORES = 6
"""Matrices of attention scores (prompt x prompt, of each head) of ONNX Runtime: unfused, three of
them are there at a time, and its arena grows by doubling."""
ERROR = 0.15
"""How far a prediction of memory may be off (`benchmarks/README.md`)."""
_START_S = 8.0
"""What a trial takes beside its windows and requests (`benchmarks/harness_cost.py`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Numbers of a model's parameters; biases and norms, below 0.5 %, are left out.

    Attributes:
        embedding: of tokens, and of positions.
        linear: in the linear layers, without an output layer that shares the embedding.
        shared: in the output layer, if it shares the embedding; else 0.
        cached: numbers per token in the keys and values of all layers.
        vocabulary: of its tokens.
        transposed: its matrices are stored as (inputs, outputs): GPT-2's Conv1D.
        after_output: in the matrices that ONNX Runtime packs after the output layer.
        heads: of attention, for queries.
    """

    embedding: int
    linear: int
    shared: int
    cached: int
    vocabulary: int
    transposed: bool
    after_output: int
    heads: int

    @property
    def parameters(self) -> int:
        """All of them; shared ones count once."""
        return self.embedding + self.linear


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a cell needs.

    Attributes:
        serve_bytes: largest resident set of the process that serves; None if unknown.
        prepare_bytes: of the one that exports; None if unknown, or nothing is left to export.
        exports: what is derived from the weights and not in the cache yet: an identity, and bytes.
        pass_bytes: weights read while the workload is decoded once; None if unknown.
        pass_flop: arithmetic of reading its prompts once; None if unknown.
        batches: in the workload.
    """

    serve_bytes: int | None = None
    prepare_bytes: int | None = None
    exports: dict[tuple[str, ...], int] = dataclasses.field(default_factory=dict)
    pass_bytes: float | None = None
    pass_flop: float | None = None
    batches: int = 1

    @property
    def memory_bytes(self) -> int | None:
        """The larger of both."""
        return max(filter(None, (self.serve_bytes, self.prepare_bytes)), default=None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Engine:
    """How the memory of an engine depends on the model.

    Attributes:
        serve_mib: its libraries and buffers.
        prepare_mib: those of its export; None if it makes none.
        prepare_copies: of the weights while it exports.
        caches: copies of the KV cache.
        kind: of its entries in the cache.
    """

    serve_mib: int
    prepare_mib: int | None
    prepare_copies: float
    caches: int
    kind: str = ""


_ENGINES = {
    "torch": _Engine(serve_mib=430, prepare_mib=None, prepare_copies=0, caches=1),
    "torch_compile": _Engine(serve_mib=550, prepare_mib=None, prepare_copies=0, caches=2),
    "torchscript": _Engine(
        serve_mib=330, prepare_mib=480, prepare_copies=1, caches=2, kind="torchscript"
    ),
    "onnx": _Engine(serve_mib=75, prepare_mib=480, prepare_copies=2, caches=2, kind="onnx"),
    "onnxruntime_genai": _Engine(
        serve_mib=110, prepare_mib=480, prepare_copies=2, caches=2, kind="onnx"
    ),
    "openvino": _Engine(
        serve_mib=200, prepare_mib=650, prepare_copies=1, caches=1, kind="openvino"
    ),
    "openvino_genai": _Engine(
        serve_mib=260, prepare_mib=650, prepare_copies=1, caches=1, kind="openvino"
    ),
    "llama_cpp": _Engine(serve_mib=90, prepare_mib=460, prepare_copies=1, caches=1, kind="gguf"),
}


def size_of(config: Mapping[str, Any]) -> Size | None:
    """Count the parameters of an architecture; None for a family that is not known here.

    A layer has matrices for queries, keys, values and output, and two or three of the inner width.
    The counts of the shipped models are within 1 % of the published ones.

    Args:
        config: `model.architecture`, or a config.json.
    """
    family = config.get("model_type")
    hidden, layers, heads = (first(config, names) for names in (HIDDEN, LAYERS, HEADS))
    cached = cached_numbers(config)
    known = isinstance(config.get("vocab_size"), int) and family in (*_GATED, *_PLAIN)
    if cached is None or not known:
        return None
    head = config.get("head_dim") or hidden // heads
    key_heads = 1 if config.get("multi_query") else config.get("num_key_value_heads") or heads
    inner = _inner(config) or 4 * hidden
    attention = 2 * hidden * head * (heads + key_heads)
    tokens = hidden * config["vocab_size"]
    tied = config.get("tie_word_embeddings", True)
    places = (first(config, CONTEXT) or 0) if family in _LEARNED else 0
    kinds = config.get("layer_types") or ["attention"] * layers
    attending = sum("attention" in kind for kind in kinds)
    mixing = attending * attention + (layers - attending) * _state_space(config, hidden)
    forward = (3 if family in _GATED else 2) * hidden * inner
    halved = family in _PLAIN and "gelu_pytorch_tanh" in (
        config.get("activation_function"), config.get("hidden_act"),
    )  # fmt: skip
    return Size(
        embedding=tokens + places * hidden,
        linear=mixing + layers * forward + (0 if tied else tokens),
        shared=tokens if tied else 0,
        vocabulary=config["vocab_size"],
        cached=cached,
        transposed=family == "gpt2",
        heads=heads,
        after_output=layers * hidden * inner if halved and family != "gpt2" else 0,
    )


def _inner(config: Mapping[str, Any]) -> int | None:
    """Width of the feed-forward layers; LFM2 states that of one without a gate."""
    inner: int | None = first(config, INNER)
    if inner is None or not config.get("block_auto_adjust_ff_dim"):
        return inner
    step = int(config["block_multiple_of"])
    return math.ceil(int(2 * inner / 3 * config["block_ffn_dim_multiplier"]) / step) * step


def _state_space(config: Mapping[str, Any], hidden: int) -> int:
    """Parameters of what a layer has in place of attention: Mamba-2, or LFM2's convolution."""
    if "mamba_expand" not in config:
        return 4 * hidden * hidden
    wide = config["mamba_expand"] * hidden
    states = 2 * config["mamba_n_groups"] * config["mamba_d_state"]
    return int(hidden * (2 * wide + states + config["mamba_n_heads"]) + wide * hidden)


def needs_of(
    cell: Cell, size: Size | None, prompts: Sequence[str], cached: Sequence[CacheEntry]
) -> Needs:
    """What a cell needs on a processor; a GPU's memory and speed are not known here.

    Args:
        cell: its settings, and the digest of its model.
        size: of the model; None if unknown.
        prompts: the texts of its workload.
        cached: what is in the cache of exports.
    """
    settings, workload = cell.settings, cell.settings.workload
    engine = _ENGINES.get(settings.engine.name)
    if engine is None or size is None or settings.provider.name != "cpu" or not prompts:
        return Needs()
    if settings.engine.dtype == "stored":  # of so many bits as its author chose
        return Needs()
    lengths = [len(text.encode("utf-8", "replace")) / TEXT_BYTES_PER_TOKEN for text in prompts]
    batches = math.ceil(len(prompts) / workload.batch_size)
    weights, exports = _weights(settings, size), _exports(cell, size, engine, cached)
    places = workload.batch_size * (max(lengths) + workload.new_tokens)
    item = _BYTES.get(settings.engine.dtype, 4.0)
    serving = weights + engine.caches * item * size.cached * places + engine.serve_mib * _MIB
    if settings.engine.decode == "generate" and engine.kind in ("onnx", "openvino"):
        serving += 0 if settings.engine.name in _OWN_LOOP else _CLASSES_MIB * _MIB
    if settings.engine.name == "onnx":
        serving += 4 * workload.batch_size * size.heads * max(lengths) ** 2 * _SCORES
    preparing = None
    if exports and engine.prepare_mib is not None:
        preparing = round(_preparing(settings, size, engine))
    return Needs(
        serve_bytes=round(serving),
        prepare_bytes=preparing,
        exports=_random(cell, size, cached) | exports,
        pass_bytes=batches * workload.new_tokens * _step_bytes(settings, size),
        pass_flop=2.0 * size.parameters * sum(lengths),
        batches=batches,
    )


def _preparing(settings: Settings, size: Size, engine: _Engine) -> float:
    """Bytes of the process that exports.

    A quantized graph is made in memory from the exact one. optimum holds its own graph, which
    `decode=generate` and onnxruntime_genai serve, twice more than ours.
    """
    exact, own = _weights(settings, size, exact=True), settings.engine
    copies = engine.prepare_copies
    if engine.kind == "onnx":
        copies += precision.is_quantized(own.dtype) + 2 * _is_stock(settings)
    logits = 4 * size.vocabulary * _PROBED_TOKENS if engine.kind == "gguf" else 0
    return copies * exact + logits + (engine.prepare_mib or 0) * _MIB


def _is_stock(settings: Settings) -> bool:
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
    item = 4.0 if exact and engine == "llama_cpp" else _BYTES.get(dtype, 4.0)
    quantized = precision.is_quantized(dtype) and not exact
    linear_item = _linear_bytes(settings, exact=exact)
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
        return (size.linear + size.shared) * linear_item + _LOOKED_UP_MIB * _MIB
    if engine.startswith("onnx"):
        output = size.shared or size.embedding
        return (size.linear + size.shared + max(0, output - size.after_output)) * item
    if not quantized:
        return size.parameters * item
    rounded = (size.linear + size.shared) * linear_item + _TORCHAO_MIB[dtype] * _MIB
    return size.parameters * item + rounded


def _linear_bytes(settings: Settings, *, exact: bool = False) -> float:
    """Bytes of a weight in a linear layer, with its scale where 4 bits have one per group.

    ONNX Runtime's scales have 32 bits, OpenVINO's 16; zero points have 4, and 32 in torch.
    """
    name, dtype = settings.engine.name, settings.engine.dtype
    if exact or not precision.is_quantized(dtype):
        return _BYTES.get(dtype, 4.0)
    if name == "llama_cpp":
        return _GGUF_BYTES[dtype]
    if dtype != "int4":
        return precision.BITS.get(dtype, 8) / 8
    made = precision.grouped(settings.engine.options)
    scale = (32 if name.startswith("onnx") else 16) + 4 * (not made.symmetric)
    if name == "torch":
        scale = 64
    return (4 + scale / (made.group_size or math.inf)) / 8


def _step_bytes(settings: Settings, size: Size) -> float:
    """Bytes of weights that one decoded token reads: all but the embedding of tokens."""
    return _linear_bytes(settings) * (size.linear + size.shared)


def _exports(
    cell: Cell, size: Size, engine: _Engine, cached: Sequence[CacheEntry]
) -> dict[tuple[str, ...], int]:
    """What is still to be derived from the weights, and its bytes on disk.

    A quantized graph is made from one in float32, which stays in the cache. torch_compile keeps
    machine code of some megabytes, which is left out.
    """
    settings, kind = cell.settings, engine.kind
    if not kind:
        return {}
    own = settings.engine
    graph = ("stock" if _is_stock(settings) else "fused") if engine.kind == "onnx" else ""
    dtypes: tuple[Dtype, ...] = (own.dtype,)
    if own.options.get("graph") == "builder":
        kind, graph = own.name, "builder"
    elif engine.kind == "onnx" and precision.is_quantized(own.dtype):
        dtypes = ("float32", own.dtype)
    needed = dict[tuple[str, ...], int]()
    for dtype in dtypes:
        wanted = {
            "model": cell.model_digest, "dtype": dtype,
            "attention": settings.model.attention, "graph": graph,
            **(precision.identity(own) if dtype == "int4" and kind != "gguf" else {}),
        }  # fmt: skip
        if not any(
            entry.kind == kind
            and wanted | entry.identity == entry.identity | wanted  # llama.cpp has one attention
            and _same_versions(cell, entry.identity.get("versions"))
            for entry in cached
        ):
            levels = dataclasses.replace(settings, engine=dataclasses.replace(own, dtype=dtype))
            identity = (kind, *map(str, wanted.values()))
            needed[identity] = round(_stored(levels, size))
    return needed


def _same_versions(cell: Cell, made_with: Json) -> bool:
    """Whether the cell has these versions, as far as it names them."""
    made = made_with if isinstance(made_with, dict) else {}
    return all(cell.versions.get(name, version) == version for name, version in made.items())


def _random(cell: Cell, size: Size, cached: Sequence[CacheEntry]) -> dict[tuple[str, ...], int]:
    """Random weights that are still to be made: two bytes each."""
    known = [entry.path.name for entry in cached if entry.kind == "random"]
    if cell.settings.model.weights != "random" or cell.model_digest in known:
        return {}
    return {("random", cell.model_digest): 2 * size.parameters}


def _stored(settings: Settings, size: Size) -> float:
    """Bytes of an export's file."""
    item = _BYTES.get(settings.engine.dtype, 4.0)
    linear = _linear_bytes(settings)
    if settings.engine.name == "llama_cpp":
        return size.parameters * linear
    shared = size.shared if settings.engine.name.startswith("onnx") else 0
    return size.embedding * item + (size.linear + shared) * linear


def guess_s(needs: Needs, settings: Settings, speed: Speed) -> float | None:
    """Seconds of a trial; None if its work is unknown.

    Decoding a token reads all weights once, and is as fast as memory; reading a prompt takes two
    operations per weight and token (J. Kaplan et al., Scaling Laws for Neural Language Models,
    arXiv 2001.08361, section 2.1). Caches, dispatch and requests that end early are left out.
    """
    if needs.pass_bytes is None or needs.pass_flop is None:
        return None
    measurement = settings.measurement
    prefill_s = needs.pass_flop / speed.flop_per_s
    pass_s = prefill_s + needs.pass_bytes / speed.bytes_per_s
    warmup_s = min(measurement.warmup_s, measurement.warmup_requests * pass_s / needs.batches)
    windows = [(measurement.prefill_s, prefill_s)]
    loaded_s = 0.0
    if settings.load.mode == "batch":
        windows.append((measurement.serve_s, pass_s))
    else:  # requests come for a time, however long they take
        loaded_s = settings.load.ramp_s + measurement.serve_s
    repeated = [
        math.ceil(max(1.0, at_least / each)) * each for at_least, each in windows if at_least
    ]
    return _START_S + measurement.baseline_s + warmup_s + sum(repeated) + loaded_s


def refusal(needs: Needs, allowed_bytes: int, allows: str) -> str | None:
    """Why a cell cannot run for want of memory; None if it can, may, or is not known.

    The prediction is within 15 % of what is measured, so a cell is refused above that only.

    Args:
        needs: of the cell.
        allowed_bytes: what its processes may use.
        allows: what limits them (`memory_limit.allowed`).
    """
    memory = needs.memory_bytes
    if memory is None or memory <= allowed_bytes * (1 + ERROR):
        return None
    limit = f"{allows} has {allowed_bytes / 1e9:.1f} GB"
    remedy = f"{RAISE}, or {SMALLER}" if "control group" in allows else SMALLER
    return f"a trial needs about {memory / 1e9:.1f} GB of memory, and {limit}: {remedy}"
