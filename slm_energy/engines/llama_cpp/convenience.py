"""The `Llama` class of llama-cpp-python, as most of its users have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.engines.base import Batch, Completion
from slm_energy.engines.decode import collect, require_numbers
from slm_energy.engines.llama_cpp.bindings import CELLS, GGML_TYPES, Log, Opening, facts, longest
from slm_energy.errors import EngineError
from slm_energy.serialization import Json


class Convenience:
    """The `Llama` class of llama-cpp-python, which generates for one request at a time."""

    def __init__(self, opening: Opening) -> None:
        """Map the weights.

        Raises:
            EngineError: the file cannot be loaded.
        """
        self._opening = opening
        self._length = 0
        self._model: Any = None
        self.log = Log()
        self.reserve(1, CELLS, 1)

    def facts(self) -> dict[str, Json]:
        """What is in force."""
        return facts(self._model.model, self._model.ctx, self.log.text)

    def reserve(self, requests: int, length: int, prompt_tokens: int) -> None:
        """Open the model anew with a longer context, unless it is long enough.

        Raises:
            EngineError: the context cannot be made.
        """
        import llama_cpp

        if length <= self._length:
            return
        self._length = -(-length // CELLS) * CELLS
        if self._model is not None:
            self._model.close()
        asked = self._opening
        try:
            with self.log.listening():
                self._model = llama_cpp.Llama(
                    str(asked.file),
                    n_ctx=self._length,
                    n_threads=asked.threads,
                    n_threads_batch=asked.threads,
                    n_gpu_layers=0 if asked.cuda_device is None else -1,
                    main_gpu=asked.cuda_device or 0,
                    split_mode=llama_cpp.LLAMA_SPLIT_MODE_NONE,
                    offload_kqv=asked.cuda_device is not None,
                    op_offload=asked.cuda_device is not None,
                    flash_attn=asked.flash,
                    type_k=GGML_TYPES[asked.kv_type],
                    type_v=GGML_TYPES[asked.kv_type],
                )
        except ValueError as error:
            raise EngineError(
                f"llama.cpp cannot load {asked.file}: {self.log.complaint()}"
            ) from error

    def prefill(self, batch: Batch) -> None:
        """Run a single prompt and keep nothing of it."""
        self._model.eval(batch.prompts[0])
        self._model.reset()

    def generate(self, batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        self.reserve(1, longest(batch), 1)
        result = []
        for prompt in batch.prompts:
            self._model.reset()  # else it computes only what the prompt before did not begin with
            alone = dataclasses.replace(batch, prompts=(prompt,))
            peaks: list[list[float]] = []
            result += collect(self._steps(prompt, peaks), alone, eos_ids)
            require_numbers(peaks)
        return result

    def close(self) -> None:
        """Free the weights."""
        self._model.close()

    def _steps(self, prompt: Sequence[int], peaks: list[list[float]]) -> Iterator[list[int]]:
        import llama_cpp

        for token in self._model.generate(prompt, temp=0.0):
            logits = llama_cpp.llama_get_logits_ith(self._model.ctx, -1)
            peaks.append([logits[token]])
            yield [token]
