"""A tight greedy loop over an OpenVINO infer request. Needs only numpy and openvino.

The KV cache never leaves the runtime: it is the model's own state, or blocks that it writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.engines import decode
from slm_energy.engines.base import Batch, left_padded
from slm_energy.engines.openvino.device import library

LAST = "last"
"""Input of a model with caches in blocks: where the last token of each request is."""


def decoding(request: Any, batch: Batch) -> decode.Decoding:
    """Decoding of one batch in an infer request."""
    return (_Paged if is_paged(request) else _Stateful)(request, batch)


def has_cache(request: Any) -> bool:
    """Whether keys and values are kept: in the request's state, or in blocks."""
    return bool(request.query_state()) or is_paged(request)


def is_paged(request: Any) -> bool:
    """Whether its caches are in blocks."""
    return any(port.get_any_name() == "block_indices" for port in request.model_inputs)


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
        self._set(LAST, ends.astype(np.int64) - 1)


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
