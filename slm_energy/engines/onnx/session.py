"""Greedy decoding through an ONNX Runtime session; needs only numpy and onnxruntime.

The shapes of the caches, their type and the names of inputs are read from the graph. Tensors are
passed in one of two ways: `session.run` with numpy arrays copies the new cache out of the runtime
at each token; IO binding leaves it where the runtime put it (on an accelerator: in device memory).
A graph with fused attention (`export_fused.py`) appends to a bound cache in place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.engines import decode
from slm_energy.engines.base import Batch, left_padded
from slm_energy.errors import EngineError, one_line

OPTIMIZATION = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
SPINNING = "session.intra_op.allow_spinning"

_BINDING_FASTER_BYTES = 8 * 1024
"""Cache bytes per token from which IO binding is faster on a CPU. Its calls cost about 0.1 ms
per token more than numpy's, and it saves copying the cache: slower for a Llama of 5 layers with
5 KB per token, faster for a GPTBigCode of 20 layers with 10 KB (2 cores)."""

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def library() -> Any:
    """Import onnxruntime with its telemetry off; call it before anything else imports onnxruntime.

    Since 1.29 telemetry also runs on Linux: threads, uploads and a database in the user's cache
    folder, all inside the metered windows (microsoft/onnxruntime#27379).
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def open_session(
    graph: Path, providers: Sequence[Any], threads: int, optimization: str, spinning: bool
) -> Any:
    """Load a graph.

    Args:
        graph: the .onnx file.
        providers: as returned by `providers.chain`; the session may still fall back.
        threads: intra-op threads.
        optimization: a key of `OPTIMIZATION`.
        spinning: idle threads spin (faster, more energy) instead of sleeping.

    Raises:
        EngineError: ONNX Runtime rejects the graph.
    """
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, OPTIMIZATION[optimization]
    )
    options.add_session_config_entry(SPINNING, str(int(spinning)))
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if len(providers) > 1:
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=list(providers))
    except Exception as error:  # its exceptions have no common base class
        raise EngineError(
            f"engine.name=onnx: {graph} cannot be opened: {one_line(error)}"
        ) from error
    session.disable_fallback()
    return session


class Graph:
    """Inputs and outputs of a session's graph.

    Attributes:
        session: the ONNX Runtime session.
        caches: names of the cache inputs, in the order of the cache outputs.
        outputs: names of all outputs, the logits first.
        cache_shape: dimensions of each cache input, the batch first; names stand for dynamic ones.
        dtype: type of the caches.
        takes_positions: whether it has an input `position_ids`.
        fused: whether its attention is one operator, which appends to its caches.
    """

    def __init__(self, session: Any) -> None:
        inputs = session.get_inputs()
        caches = [node for node in inputs if node.name.startswith("past_key_values")]
        presents = [node.name.replace("past_key_values", "present") for node in caches]
        self.session = session
        self.caches = [node.name for node in caches]
        self.outputs = ["logits", *presents]
        self.cache_shape = [tuple(node.shape) for node in caches]
        self.dtype = np.dtype(_TYPES[caches[0].type])
        names = {node.name for node in inputs}
        self.takes_positions = "position_ids" in names
        self.fused = "seqlens_k" in names
        self.vocabulary = session.get_outputs()[0].shape[-1]

    def caches_of(self, rows: int, length: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Caches for `rows` requests and so many tokens."""
        return {
            name: np.zeros(
                [rows, *(dim if isinstance(dim, int) else length for dim in shape[1:])], self.dtype
            )
            for name, shape in zip(self.caches, self.cache_shape, strict=True)
        }

    def binding_is_faster(self) -> bool:
        """Whether IO binding is faster than numpy arrays on a CPU."""
        if self.fused:
            return True
        fixed = [[dim for dim in shape[1:] if isinstance(dim, int)] for shape in self.cache_shape]
        per_token = sum(int(np.prod(dims)) for dims in fixed) * self.dtype.itemsize
        return per_token >= _BINDING_FASTER_BYTES


def decoding(graph: Graph, batch: Batch, binding: bool, device: tuple[str, int]) -> decode.Decoding:
    """Decoding of one batch by a session.

    Args:
        graph: the session's.
        batch: the requests.
        binding: pass tensors by IO binding.
        device: where the runtime keeps caches: `cpu` or `cuda`, and its index.
    """
    if graph.fused:
        return _Fused(graph, batch, binding)
    return _Traced(graph, batch, binding, device)


class _Fused:
    """Decoding by a graph with fused attention; prompts are padded on the right."""

    def __init__(self, graph: Graph, batch: Batch, binding: bool) -> None:
        self._graph, lengths = graph, [len(prompt) for prompt in batch.prompts]
        rows, longest = len(lengths), max(lengths)
        ids = np.zeros((rows, longest), dtype=np.int64)
        for row, prompt in enumerate(batch.prompts):
            ids[row, : lengths[row]] = prompt
        self._lengths = np.array(lengths, dtype=np.int32) - 1
        self._total = np.array([longest], dtype=np.int32)
        self._rows = np.arange(rows)
        self._ids = np.empty((rows, 1), dtype=np.int64)
        self._positions = np.empty((rows, 1), dtype=np.int64)
        self._feed: dict[str, npt.NDArray[Any]] = {}
        self._binding: Any = graph.session.io_binding() if binding else None
        self._caches = graph.caches_of(rows, longest + batch.new_tokens if binding else 0)
        if binding:
            self._logits = np.empty((rows, graph.vocabulary), graph.dtype)
            self._bind_buffers()
        self._set("seqlens_k", self._lengths)
        self._set("total_sequence_length", self._total)
        self._set("last", self._rows * longest + self._lengths)
        self._set_tokens(ids, np.arange(longest)[None].repeat(rows, 0))

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        logits = self._forward()
        self._set("last", self._rows)
        self._set_tokens(self._ids, self._positions)
        return logits

    def step(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next.

        Bound logits are overwritten by the next step.
        """
        self._lengths += 1
        self._total += 1
        self._ids[:, 0], self._positions[:, 0] = ids, self._lengths
        return self._forward()

    def _forward(self) -> npt.NDArray[Any]:
        graph = self._graph
        if self._binding:
            graph.session.run_with_iobinding(self._binding)
            return self._logits
        logits: npt.NDArray[Any]
        logits, *caches = graph.session.run(graph.outputs, self._feed | self._caches)
        self._caches = dict(zip(graph.caches, caches, strict=True))
        return logits

    def _set_tokens(self, ids: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> None:
        self._set("input_ids", ids)
        if self._graph.takes_positions:
            self._set("position_ids", positions)

    def _set(self, name: str, values: npt.NDArray[Any]) -> None:
        """Set an input; the runtime reads it in place at each call."""
        self._feed[name] = values
        if self._binding:
            self._binding.bind_cpu_input(name, values)

    def _bind_buffers(self) -> None:
        """Let the runtime write logits where they are read, and append to the caches in place."""
        new = library().OrtValue.ortvalue_from_numpy
        self._binding.bind_ortvalue_output("logits", new(self._logits))
        for name, present in zip(self._graph.caches, self._graph.outputs[1:], strict=True):
            cache = new(self._caches[name])
            self._binding.bind_ortvalue_input(name, cache)
            self._binding.bind_ortvalue_output(present, cache)


class _Traced:
    """Decoding by a graph that concatenates its caches; prompts are padded on the left."""

    def __init__(self, graph: Graph, batch: Batch, binding: bool, device: tuple[str, int]) -> None:
        ids, mask = left_padded(batch.prompts)
        rows, self._length = ids.shape
        self._graph = graph
        self._ids = ids
        self._mask = np.ones((rows, self._length + batch.new_tokens), dtype=np.int64)
        self._mask[:, : self._length] = mask
        self._positions = np.maximum(self._mask.cumsum(-1) - 1, 0)
        self._caches: dict[str, Any] = graph.caches_of(rows)
        self._device = device
        self._binding: Any = graph.session.io_binding() if binding else None
        if self._binding:
            for name, cache in self._caches.items():
                self._binding.bind_cpu_input(name, cache)

    def prefill(self) -> npt.NDArray[Any]:
        """Run the prompts; return the logits (b, vocabulary) of each first output token."""
        return self._forward(self._ids, 0)

    def step(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next."""
        self._length += 1
        return self._forward(ids[:, None], self._length - 1)

    def _forward(self, ids: npt.NDArray[np.int64], start: int) -> npt.NDArray[Any]:
        feed = {"input_ids": ids, "attention_mask": self._mask[:, : self._length]}
        if self._graph.takes_positions:
            feed["position_ids"] = self._positions[:, start : self._length]
        logits = self._run_bound(feed) if self._binding else self._run_plain(feed)
        last: npt.NDArray[Any] = logits[:, -1]
        return last

    def _run_plain(self, feed: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        graph = self._graph
        logits: npt.NDArray[Any]
        logits, *caches = graph.session.run(graph.outputs, feed | self._caches)
        self._caches = dict(zip(graph.caches, caches, strict=True))
        return logits

    def _run_bound(self, feed: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        graph, binding = self._graph, self._binding
        for name, value in feed.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value))
        binding.bind_output("logits")
        for name in graph.outputs[1:]:
            binding.bind_output(name, *self._device)
        graph.session.run_with_iobinding(binding)
        logits, *caches = binding.get_outputs()
        for name, cache in zip(graph.caches, caches, strict=True):
            binding.bind_ortvalue_input(name, cache)
        values: npt.NDArray[Any] = logits.numpy()
        return values
