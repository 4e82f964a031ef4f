"""Decoding with the `Llama` class of llama-cpp-python, as most of its users do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slm_energy.engines.base import Batch, Completion
from slm_energy.engines.decode import collect, require_numbers
from slm_energy.engines.llama_cpp.bindings import (
    CELLS,
    GGML_TYPES,
    LoadOptions,
    Log,
    facts,
    longest,
)
from slm_energy.errors import EngineError
from slm_energy.serialization import Json


class Convenience:
    """The `Llama` class of llama-cpp-python, which generates for one request at a time."""

    def __init__(self, options: LoadOptions) -> None:
        """Map the weights.

        Raises:
            EngineError: the file cannot be loaded.
        """
        self._options = options
        self._length = 0
        self._model: Any = None
        self.log = Log()
        self.reserve(1, CELLS, 1)

    def facts(self) -> dict[str, Json]:
        """Return the settings in force."""
        return facts(self._model.model, self._model.ctx, self.log.text)

    def reserve(self, requests: int, length: int, prompt_tokens: int) -> None:
        """Reopen the model with a longer context if it is too short.

        Raises:
            EngineError: the context cannot be created.
        """
        import llama_cpp

        if length <= self._length:
            return
        self._length = -(-length // CELLS) * CELLS
        if self._model is not None:
            self._model.close()
        options = self._options
        try:
            with self.log.captured():
                self._model = llama_cpp.Llama(
                    str(options.file),
                    n_ctx=self._length,
                    n_threads=options.threads,
                    n_threads_batch=options.threads,
                    n_gpu_layers=0 if options.cuda_device is None else -1,
                    main_gpu=options.cuda_device or 0,
                    split_mode=llama_cpp.LLAMA_SPLIT_MODE_NONE,
                    offload_kqv=options.cuda_device is not None,
                    op_offload=options.cuda_device is not None,
                    flash_attn=options.flash,
                    type_k=GGML_TYPES[options.kv_type],
                    type_v=GGML_TYPES[options.kv_type],
                )
        except ValueError as error:
            raise EngineError(
                f"llama.cpp cannot load {options.file}: {self.log.last_error()}"
            ) from error

    def prefill(self, batch: Batch) -> None:
        """Run a single prompt and discard the result."""
        self._model.eval(batch.prompts[0])
        self._model.reset()

    def generate(self, batch: Batch, eos_ids: Sequence[int]) -> list[Completion]:
        """Decode greedily.

        Raises:
            EngineError: NaN logits.
        """
        self.reserve(1, longest(batch), 1)
        result = []
        for row, prompt in enumerate(batch.prompts):
            self._model.reset()  # otherwise it reuses the prefix shared with the previous prompt
            peaks: list[list[float]] = []
            result += collect(self._steps(prompt, peaks), batch.request(row), eos_ids)
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
