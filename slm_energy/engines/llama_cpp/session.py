"""Decoding of one batch in llama.cpp.

Each request is a separate sequence in the context, so nothing is padded. The arrays that
`llama_decode` reads are allocated once per batch and changed in place.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from slm_energy.engines.base import Batch
from slm_energy.engines.llama_cpp.bindings import Session, longest
from slm_energy.errors import EngineError

Logits = npt.NDArray[np.float32]

_INTS = ctypes.POINTER(ctypes.c_int32)


class Decoding:
    """Decoding of one batch in a session."""

    def __init__(self, session: Session, batch: Batch) -> None:
        prompts = batch.prompts
        total = sum(map(len, prompts))
        session.reserve(len(prompts), longest(batch), total)
        self._library, self._context = session.library, session.context
        memory = self._library.llama_get_memory(self._context)
        self._library.llama_memory_clear(memory, False)
        rows = len(prompts)
        self._shape = (rows, session.vocabulary)
        self._prompt = _Input(
            tokens=np.concatenate([np.asarray(prompt, np.int32) for prompt in prompts]),
            positions=np.concatenate(
                [np.arange(len(prompt), dtype=np.int32) for prompt in prompts]
            ),
            sequences=np.repeat(np.arange(rows, dtype=np.int32), [len(p) for p in prompts]),
            outputs=np.concatenate([_last_only(len(prompt)) for prompt in prompts]),
        )
        self._next = _Input(
            tokens=np.zeros(rows, np.int32),
            positions=np.array([len(prompt) - 1 for prompt in prompts], np.int32),
            sequences=np.arange(rows, dtype=np.int32),
            outputs=np.ones(rows, np.int8),
        )
        self._address: int | None = None
        self._logits: Logits = np.empty(0, np.float32)

    def prefill(self) -> Logits:
        """Run the prompts.

        Returns:
            Logits (b, vocabulary) of each first output token, valid until the next call.

        Raises:
            EngineError: llama.cpp failed to compute them.
        """
        return self._run(self._prompt)

    def step(self, ids: npt.NDArray[np.int64]) -> Logits:
        """Append one token id per request (b,); return the logits (b, vocabulary) of the next.

        Raises:
            EngineError: llama.cpp failed to compute them.
        """
        self._next.tokens[:] = ids
        self._next.positions += 1
        return self._run(self._next)

    def _run(self, inputs: _Input) -> Logits:
        code = self._library.llama_decode(self._context, inputs.batch)
        if code != 0:
            raise EngineError(f"llama.cpp could not decode (llama_decode returned {code})")
        pointer = self._library.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        if address != self._address:  # the library reuses its buffer, so the view is created once
            self._address = address
            self._logits = np.ctypeslib.as_array(pointer, self._shape)
        return self._logits


class _Input:
    """A `llama_batch` whose arrays stay in place."""

    def __init__(
        self,
        tokens: npt.NDArray[np.int32],
        positions: npt.NDArray[np.int32],
        sequences: npt.NDArray[np.int32],
        outputs: npt.NDArray[np.int8],
    ) -> None:
        import llama_cpp

        self.tokens, self.positions = tokens, positions
        width = sequences.itemsize
        first = sequences.ctypes.data
        counts = np.ones(len(tokens), np.int32)
        rows = np.array([first + width * n for n in range(len(tokens))], np.uintp)
        self._kept_alive = (sequences, outputs, counts, rows)
        new_batch: Any = llama_cpp.llama_batch
        self.batch = new_batch()
        self.batch.n_tokens = len(tokens)
        self.batch.token = tokens.ctypes.data_as(_INTS)
        self.batch.pos = positions.ctypes.data_as(_INTS)
        self.batch.n_seq_id = counts.ctypes.data_as(_INTS)
        self.batch.seq_id = rows.ctypes.data_as(ctypes.POINTER(_INTS))
        self.batch.logits = outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))


def _last_only(length: int) -> npt.NDArray[np.int8]:
    outputs = np.zeros(length, np.int8)
    outputs[-1] = 1
    return outputs
