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

from slm_energy.engines.base import Batch, left_padded
from slm_energy.errors import EngineError, one_line

DEVICES = {"cpu": "CPU", "openvino_gpu": "GPU", "openvino_npu": "NPU"}
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"} | dict.fromkeys(
    ("int8", "int4"), "f32"
)
"""Precision of activations and cache per type; with int8 and int4 only weights have fewer bits."""

_AFTER_PROJECTION = ("Add", "Convert", "Divide", "Multiply", "Tanh")
"""Operations between output projection and logits: they work on each position separately."""

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
    graph: Path, device: str, requested: Mapping[str, str], *, last_position_only: bool
) -> tuple[Any, dict[str, str | None], bool]:
    """Compile a stateful model for one device.

    Args:
        graph: the .xml file; its weights are beside it.
        device: as `device_name` returns it.
        requested: see `properties`; those that the device does not support are left out.
        last_position_only: compute logits for the last position only.

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
            model = core.read_model(graph)
            cut = last_position_only and _cut_to_last_position(model)
            settings = {name: value for name, value in requested.items() if name in supported}
            compiled = core.compile_model(model, device, settings)
            request = compiled.create_infer_request()
            Decoding(request, Batch(prompts=((1, 1), (1,)), new_tokens=1, stop="fixed")).prefill()
    except RuntimeError as error:
        raise EngineError(
            f"engine.name=openvino: {graph} cannot be compiled: {one_line(error)}"
        ) from error
    if not request.query_state():
        raise EngineError(f"engine.name=openvino: {graph} has no KV cache")
    return compiled, in_force(compiled, requested), cut


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
        fused += kind == "ScaledDotProductAttention"
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


class Decoding:
    """Decoding of one batch in an infer request."""

    def __init__(self, request: Any, batch: Batch) -> None:
        self._tensor = library().Tensor
        ids, mask = left_padded(batch.prompts)
        rows, self._length = ids.shape
        self._request = request
        self._inputs = {port.get_any_name(): port for port in request.model_inputs}
        self._ids = ids
        self._mask = np.ones((rows, self._length + batch.new_tokens), dtype=np.int64)
        self._mask[:, : self._length] = mask
        self._positions = np.maximum(self._mask.cumsum(-1) - 1, 0)
        self._last = np.zeros((rows, 1), dtype=np.int64)
        self._buffers: dict[str, npt.NDArray[Any]] = {}
        request.reset_state()
        self._set("beam_idx", np.arange(rows, dtype=np.int32))

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        self._set("input_ids", self._ids)
        logits = self._forward(0)
        self._set("input_ids", self._last)
        return logits

    def step(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next.

        They are overwritten by the next step.
        """
        self._last[:, 0] = ids
        self._length += 1
        return self._forward(self._length - 1)

    def _forward(self, start: int) -> npt.NDArray[Any]:
        self._set("attention_mask", self._mask[:, : self._length])
        self._set("position_ids", self._positions[:, start : self._length])
        # Not `infer`: it runs on the calling thread, which is not pinned to a core, and is slower.
        self._request.start_async()
        self._request.wait()
        logits: npt.NDArray[Any] = self._request.get_output_tensor(0).data
        return logits[:, -1]

    def _set(self, name: str, values: npt.NDArray[Any]) -> None:
        """Set an input; the request reads it in place, so the array must stay alive."""
        if name in self._inputs:
            self._buffers[name] = np.ascontiguousarray(values)
            tensor = self._tensor(self._buffers[name], shared_memory=True)
            self._request.set_tensor(self._inputs[name], tensor)


def output_projection(model: Any) -> Any:
    """The product with the output layer's weights; None if it is not where it usually is."""
    node = model.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _AFTER_PROJECTION:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "MatMul" else None


def _cut_to_last_position(model: Any) -> bool:
    """Pass only the last hidden state to the output projection; return whether it was found."""
    from openvino import opset13

    node = output_projection(model)
    if node is None:
        return False
    hidden = node.input_value(0)
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
