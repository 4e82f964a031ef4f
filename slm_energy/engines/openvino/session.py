"""A tight greedy loop over an OpenVINO infer request. Needs only numpy and openvino.

The KV cache is the model's own state: it never leaves the runtime. Every precision is set, because
the library's defaults depend on the processor (bfloat16 where supported) and keep the cache in 8
bits; every setting is read back from the compiled model.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.engines import decode
from slm_energy.engines.base import Batch, left_padded
from slm_energy.errors import EngineError, one_line

DEVICES = {"cpu": "CPU", "openvino_gpu": "GPU", "openvino_npu": "NPU"}
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"} | dict.fromkeys(
    ("int8", "int4"), "f32"
)
"""Precision of activations and cache per type; with int8 and int4 only weights have fewer bits."""

_AFTER_PROJECTION = ("Add", "Convert", "Divide", "Multiply", "Tanh")
"""Operations between output projection and logits: they work on each position separately."""

_LAST = "last"
"""Input of a model with caches in blocks: where the last token of each request is."""

_RELEASE_PERIOD_S = 0.05
_MADV_DONTNEED = 4


def library() -> Any:
    """Import openvino without its telemetry, which writes to the home folder and uses the network.

    openvino and nncf work without the package `openvino_telemetry` where it cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def device_name(provider: str, index: int) -> str:
    """Return OpenVINO's name of a device; a processor has no index."""
    kind = DEVICES[provider]
    return kind if kind == "CPU" else f"{kind}.{index}"


def device_type(provider: str, index: int) -> str:
    """`integrated` with the processor or `discrete`: decides which sensors contain its energy.

    https://docs.openvino.ai/2025/openvino-workflow/running-inference/inference-devices-and-modes/query-device-properties.html
    """
    # An enumeration's member: Type.INTEGRATED.
    kind = library().Core().get_property(device_name(provider, index), "DEVICE_TYPE")
    return str(kind).rpartition(".")[2].lower()


def missing(provider: str, index: int, dtype: str) -> str | None:
    """Return why this machine cannot compute a type on a device, or None. Takes about 0.4 s."""
    core, device = library().Core(), device_name(provider, index)
    try:
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:
        available = ", ".join(core.available_devices)
        return f"provider.name={provider}: OpenVINO finds no {device} here, only {available}"
    needed = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}[PRECISIONS[dtype]]
    if needed not in capabilities:
        return f"engine openvino with engine.dtype={dtype}: not supported by {device} here"
    return None


def properties(dtype: str, threads: int) -> dict[str, str]:
    """Properties to compile with: one request at a time, in exactly the requested precision."""
    precision = PRECISIONS[dtype]
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # otherwise activations are rounded to 8 bits
    }


def compile_graph(
    graph: Path,
    device: str,
    requested: Mapping[str, str],
    *,
    last_position_only: bool,
    paged: bool = True,
) -> tuple[Any, dict[str, str | None], bool]:
    """Compile a stateful model for one device.

    Args:
        graph: the .xml file; its weights are beside it.
        device: as `device_name` returns it.
        requested: see `properties`; those that the device does not support are left out.
        last_position_only: compute logits for the last position only.
        paged: with that, on a processor and in float32, keep caches in blocks where OpenVINO can.

    Returns:
        The compiled model, after a first inference, which lays out the weights; the properties
        `in_force`; and whether logits are those of the last position only.

    Raises:
        EngineError: OpenVINO refuses the model, it has no cache, or a setting is not as requested.
    """
    core = library().Core()
    try:
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
        with releasing(graph.with_suffix(".bin")):
            paged = paged and device == "CPU" and requested["INFERENCE_PRECISION_HINT"] == "f32"
            model, cut = _read(core, graph, last_position_only, paged=paged)
            settings = {name: value for name, value in requested.items() if name in supported}
            compiled = core.compile_model(model, device, settings)
            values = in_force(compiled, requested)
            request = compiled.create_infer_request()
            decoding(request, Batch(prompts=((1, 1), (1,)), new_tokens=1, stop="fixed")).prefill()
    except RuntimeError as error:
        raise EngineError(
            f"engine.name=openvino: {graph} cannot be compiled: {one_line(error)}"
        ) from error
    if not has_cache(request):
        raise EngineError(f"engine.name=openvino: {graph} has no KV cache")
    return compiled, values, cut


def has_cache(request: Any) -> bool:
    """Whether keys and values are kept: in the request's state, or in blocks."""
    return bool(request.query_state()) or is_paged(request)


def is_paged(request: Any) -> bool:
    """Whether its caches are in blocks."""
    return any(port.get_any_name() == "block_indices" for port in request.model_inputs)


def in_force(compiled: Any, requested: Mapping[str, str]) -> dict[str, str | None]:
    """Read the requested settings back from a compiled model.

    Returns:
        Name in lower case to value; None for one that the device does not support.

    Raises:
        EngineError: one of them is not as requested.
    """
    supported = compiled.get_property("SUPPORTED_PROPERTIES")
    values: dict[str, str | None] = {}
    for name, value in requested.items():
        actual = _property(compiled, name) if name in supported else None
        if actual not in (None, value):
            raise EngineError(
                f"engine.name=openvino: {name} was set to {value}, but is {actual}: choose another"
                " engine.dtype or engine.threads"
            )
        values[name.lower()] = actual
    return values


def devices(compiled: Any) -> list[str]:
    """The devices that execute a compiled model."""
    return [str(name) for name in compiled.get_property("EXECUTION_DEVICES")]


def operators(compiled: Any) -> tuple[dict[str, int], int]:
    """Operators that the device actually runs, read from its own graph.

    Returns:
        Number of linear layers per precision (that of activations, or `i8`/`u8` where only weights
        have 8 bits), and the number of attentions computed as one operation.
    """
    linear: Counter[str] = Counter()
    fused = 0
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str)
        fused += kind in ("ScaledDotProductAttention", "PagedAttention")
        if kind == "FullyConnected":
            linear[info["runtimePrecision"].astype(str)] += 1
    return dict(linear), fused


@contextlib.contextmanager
def releasing(weights: Path) -> Iterator[None]:
    """Return the memory of weights to the kernel as soon as they are copied.

    The runtime maps the weights' file and copies it into its own layout: without this, both are
    resident at the same time. The mapping is read-only and shared, so a page that is needed again
    is read from the file.

    Raises:
        OSError: the kernel call failed.
    """
    done = threading.Event()
    mapped = weights.resolve()  # as the kernel lists it
    errors: list[OSError] = []

    def release() -> None:
        try:
            while not done.wait(_RELEASE_PERIOD_S):
                _release(mapped)
            _release(mapped)
        except OSError as error:
            errors.append(error)

    worker = threading.Thread(target=release, daemon=True)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()
    if errors:
        raise errors[0]


def decoding(request: Any, batch: Batch) -> decode.Decoding:
    """Decoding of one batch in an infer request."""
    return (_Paged if is_paged(request) else _Stateful)(request, batch)


class _Request:
    """An infer request, and the arrays that it reads its inputs from."""

    def __init__(self, request: Any) -> None:
        self._tensor = library().Tensor
        self._request = request
        self._inputs = {port.get_any_name(): port for port in request.model_inputs}
        self._buffers: dict[str, Any] = {}

    def _forward(self) -> npt.NDArray[Any]:
        # Not `infer`: it runs on the calling thread, which is not pinned to a core, and is slower.
        self._request.start_async()
        self._request.wait()
        logits: npt.NDArray[Any] = self._request.get_output_tensor(0).data
        return logits[:, -1]

    def _set(self, name: str, values: npt.NDArray[Any]) -> None:
        """Set an input; the request reads it in place, so the array must stay alive."""
        if name in self._inputs:
            self._buffers[name] = np.asarray(values, order="C")
            tensor = self._tensor(self._buffers[name], shared_memory=True)
            self._request.set_tensor(self._inputs[name], tensor)


class _Paged(_Request):
    """Decoding with caches in blocks that never move; prompts follow each other, unpadded."""

    def __init__(self, request: Any, batch: Batch) -> None:
        super().__init__(request)
        lengths = np.array([len(prompt) for prompt in batch.prompts], dtype=np.int32)
        self._lengths, rows = lengths, len(lengths)
        self._ids = np.empty(rows, dtype=np.int64)
        self._positions = np.empty(rows, dtype=np.int64)
        self._past = np.zeros(rows, dtype=np.int32)
        self._longest = np.array(lengths.max(), dtype=np.int32)
        self._set("past_lens", self._past)
        self._set("max_context_len", self._longest)
        self._allocate(lengths + batch.new_tokens)
        self._set_tokens(
            np.concatenate(batch.prompts), np.concatenate([*map(np.arange, lengths)]), lengths
        )

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        logits = self._forward()
        self._past += self._lengths
        self._set_tokens(self._ids, self._positions, np.ones_like(self._lengths))
        return logits

    def step(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next.

        They are overwritten by the next step.
        """
        self._ids[:], self._positions[:] = ids, self._past
        self._longest += 1
        logits = self._forward()
        self._past += 1
        return logits

    def _allocate(self, lengths: npt.NDArray[np.int32]) -> None:
        """Give each request blocks for so many tokens."""
        for name, port in self._inputs.items():
            if "_cache." in name:
                heads, block, size = (dim.get_length() for dim in list(port.partial_shape)[1:])
                ends = np.cumsum(-(-lengths // block), dtype=np.int32)
                shape = library().Shape([int(ends[-1]), heads, block, size])
                self._buffers[name] = self._tensor(port.element_type, shape)
                self._buffers[name].data.fill(0)
                self._request.set_tensor(port, self._buffers[name])
        self._set("block_indices", np.arange(ends[-1], dtype=np.int32))
        self._set("block_indices_begins", np.concatenate(([0], ends), dtype=np.int32))

    def _set_tokens(self, ids: Any, positions: Any, lengths: npt.NDArray[np.int32]) -> None:
        ends = np.cumsum(lengths, dtype=np.int32)
        self._set("input_ids", ids)
        self._set("position_ids", positions)
        self._set("subsequence_begins", np.concatenate(([0], ends), dtype=np.int32))
        self._set(_LAST, ends.astype(np.int64) - 1)


class _Stateful(_Request):
    """Decoding with caches that grow by copying; prompts are padded on the left."""

    def __init__(self, request: Any, batch: Batch) -> None:
        super().__init__(request)
        ids, mask = left_padded(batch.prompts)
        rows, self._length = ids.shape
        self._ids = ids
        self._mask = np.ones((rows, self._length + batch.new_tokens), dtype=np.int64)
        self._mask[:, : self._length] = mask
        self._positions = np.maximum(self._mask.cumsum(-1) - 1, 0)
        self._last = np.zeros((rows, 1), dtype=np.int64)
        request.reset_state()
        self._set("beam_idx", np.arange(rows, dtype=np.int32))

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        self._set("input_ids", self._ids)
        logits = self._run(0)
        self._set("input_ids", self._last)
        return logits

    def step(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next.

        They are overwritten by the next step.
        """
        self._last[:, 0] = ids
        self._length += 1
        return self._run(self._length - 1)

    def _run(self, start: int) -> npt.NDArray[Any]:
        self._set("attention_mask", self._mask[:, : self._length])
        self._set("position_ids", self._positions[:, start : self._length])
        return self._forward()


def output_projection(model: Any) -> Any:
    """The product with the output layer's weights; None if it is not where it usually is."""
    node = model.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _AFTER_PROJECTION:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "MatMul" else None


def _read(core: Any, graph: Path, last_position_only: bool, *, paged: bool) -> tuple[Any, bool]:
    """The model, and whether its logits are those of last positions only.

    With caches in blocks, where OpenVINO can rewrite the model so, steps take 0.79
    to 0.86 of the time (4.7 M; float32 and int4, batches of 1 and 4, one thread).
    """
    library()
    from openvino._offline_transformations import paged_attention_transformation

    model = core.read_model(graph)
    if paged and last_position_only:
        with contextlib.suppress(RuntimeError):  # an attention that it does not know
            paged_attention_transformation(model)
            # Where states other than keys and values remain, blocks would not be enough.
            stateless = all(node.get_type_name() != "ReadValue" for node in model.get_ops())
            if stateless and _cut_to_last_position(model, paged=True):
                return model, True
        model = core.read_model(graph)
    return model, last_position_only and _cut_to_last_position(model, paged=False)


def _cut_to_last_position(model: Any, *, paged: bool) -> bool:
    """Pass only last hidden states to the output projection; return whether it was found."""
    from openvino import opset13

    node = output_projection(model)
    if node is None:
        return False
    hidden = node.input_value(0)
    if paged:  # (tokens of all requests, 1, size)
        rows = opset13.parameter([-1], np.int64, name=_LAST)
        rows.output(0).set_names({_LAST})
        model.add_parameters([rows])
        last = opset13.gather(hidden, rows, np.int64(0))
    else:
        last = opset13.slice(hidden, start=[-1], stop=[2**31 - 1], step=[1], axes=[1])
    node.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()
    return True


def _property(compiled: Any, name: str) -> str:
    value = compiled.get_property(name)
    if hasattr(value, "get_type_name"):
        return str(value.get_type_name())
    return str(getattr(value, "name", value))


def _release(weights: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, access, _, _, _, *path = line.split(maxsplit=5)
        if path != [str(weights)] or access != "r--s":
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        size = ctypes.c_size_t(end - start)
        if libc.madvise(ctypes.c_void_p(start), size, _MADV_DONTNEED) != 0:
            raise OSError(ctypes.get_errno(), f"madvise failed for {weights}")
