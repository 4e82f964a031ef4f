"""One model and its context in llama.cpp's C interface, as llama-cpp-python exposes it."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy.engines.base import Batch
from slm_energy.errors import EngineError, one_line
from slm_energy.serialization import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UBATCH = 512
"""Prompt tokens computed together: llama.cpp's default; more need more memory."""

CELLS = 256
"""A context's length is a multiple of this (llama-context.cpp, GGML_PAD of n_ctx)."""

GGML_TYPES = {"f32": 0, "f16": 1, "bf16": 30}
"""Numbers in ggml.h; llama-cpp-python has no name for the last."""


_TEXTS = (
    'def add(a, b):\n    """Return 1234 + 56."""\n\treturn a + b  # ünïcode, naïve café\n\n\n',
    "I've 3 cats; he'LL say: 100,000.50 €!!!   \n \n  end  ",
    "for i in range(10):\r\n        if x[i]!=0 and not y:\r\n            print(f'{i:>08.3f}')\r\n",
    "class HTTPServer2(Base): x_y = {'a': [1, 2], 'b': None}; // => *ptr->next\n",
    "日本語とかなと漢字 한국어 русский العربية हिन्दी 😀👍🏽",
    "  leading spaces\tand\ttabs   \n\n\n    trailing    ",
)
"""Over which tokenizers of one vocabulary differ if they split text differently."""


class Log:
    """Captured log of llama.cpp, the only source of some facts."""

    def __init__(self) -> None:
        self.text = ""

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Capture what is logged meanwhile; it goes to standard error too.

        The library must never keep a callback that Python may have freed.
        """
        import llama_cpp

        library: Any = llama_cpp
        sink = library.llama_log_callback(self._write)
        library.llama_log_set(sink, None)
        try:
            yield
        finally:
            library.llama_log_set(library.llama_log_callback(), None)  # NULL: the default

    def last_error(self) -> str:
        """Return the last line that mentions an error, else the last line."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line]
        return one_line([*lines, *errors][-1]) if lines else "it logged nothing"

    def _write(self, level: int, text: bytes, data: Any) -> None:
        line = text.decode("utf-8", errors="replace")
        self.text += line
        sys.stderr.write(line)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        file: a GGUF file.
        cuda_device: index of the GPU that gets all layers; None means the processor.
        threads: for both prompts and tokens.
        kv_type: ggml's name of the KV cache's type: `f32`, `f16` or `bf16`.
        flash: compute attention in one fused operation.
    """

    file: Path
    cuda_device: int | None
    threads: int
    kv_type: str
    flash: bool


class Session:
    """A loaded model and the context that it computes in."""

    def __init__(self, options: LoadOptions) -> None:
        """Map the weights.

        Raises:
            EngineError: the file cannot be loaded.
        """
        import llama_cpp

        self.library: Any = llama_cpp
        self.log = Log()
        llama_cpp.llama_backend_init()
        parameters: Any = llama_cpp.llama_model_default_params()
        if options.cuda_device is None:
            parameters.n_gpu_layers = 0
            # An empty list: otherwise a CUDA build opens the GPU and offloads large products to it.
            self._no_devices = (ctypes.c_void_p * 1)(None)
            parameters.devices = ctypes.cast(self._no_devices, ctypes.c_void_p)
        else:
            parameters.n_gpu_layers = -1
            parameters.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE
            parameters.main_gpu = options.cuda_device
        parameters.use_extra_bufts = not _lays_out_for_amx()
        with self.log.captured():
            self.model: Any = llama_cpp.llama_model_load_from_file(bytes(options.file), parameters)
        if not self.model:
            raise EngineError(f"llama.cpp cannot load {options.file}: {self.log.last_error()}")
        vocabulary: Any = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(self.model))
        self.window = int(llama_cpp.llama_model_n_swa(self.model))
        self._options = options
        self.context: Any = None
        self._capacity = (0, 0, 0)
        self.reserve(1, CELLS, CELLS)

    def facts(self) -> dict[str, Json]:
        """Return the settings in force."""
        return facts(self.model, self.context, self.log.text)

    def reserve(self, requests: int, length: int, prompt_tokens: int) -> None:
        """Recreate the context with more room if it has too little.

        Args:
            requests: served together.
            length: of the longest sequence, prompt and output.
            prompt_tokens: of all requests together.

        Raises:
            EngineError: the context cannot be created.
        """
        needed = (requests, length, prompt_tokens)
        if all(have >= need for have, need in zip(self._capacity, needed, strict=True)):
            return
        self._capacity = (
            max(requests, self._capacity[0]),
            max(length, self._capacity[1]),
            max(prompt_tokens, self._capacity[2]),
        )
        self._free_context()
        sequences, cells, tokens = self._capacity
        library, cells = self.library, -(-cells // CELLS) * CELLS
        parameters: Any = library.llama_context_default_params()
        parameters.n_seq_max = sequences
        parameters.n_ctx = sequences * cells
        parameters.n_batch = max(tokens, sequences)
        parameters.n_ubatch = min(parameters.n_batch, _UBATCH)
        # n_outputs_max stays at n_batch: with one per request, prompts took 1.4 times as long.
        parameters.n_threads = parameters.n_threads_batch = self._options.threads
        parameters.type_k = parameters.type_v = GGML_TYPES[self._options.kv_type]
        parameters.flash_attn_type = (
            library.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if self._options.flash
            else library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        parameters.no_perf = True
        with self.log.captured():
            self.context = library.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise EngineError(
                f"llama.cpp cannot create a context of {sequences} x {cells} tokens:"
                f" {self.log.last_error()}"
            )

    def other_tokens(self, tokenizer: Tokenizer) -> str | None:
        """The first of some texts that llama.cpp takes for other tokens than a tokenizer, or None.

        Special tokens are not added, and are text where they are written out. Of a file without a
        vocabulary it is the first.
        """
        if not self.library.llama_vocab_type(self.library.llama_model_get_vocab(self.model)):
            return _TEXTS[0]  # llama_tokenize would end the process
        for text in _TEXTS:
            if self._token_ids(text) != tokenizer.encode(text, add_special_tokens=False).ids:
                return text
        return None

    def _token_ids(self, text: str) -> list[int]:
        raw = text.encode()
        ids = (ctypes.c_int32 * (len(raw) + 2))()
        vocabulary = self.library.llama_model_get_vocab(self.model)
        count = self.library.llama_tokenize(vocabulary, raw, len(raw), ids, len(ids), False, False)
        return list(ids[:count]) if count > 0 else []

    def close(self) -> None:
        """Free the context and the weights."""
        self._free_context()
        self.library.llama_model_free(self.model)

    def _free_context(self) -> None:
        if self.context:
            self.library.llama_free(self.context)
            self.context = None


def _lays_out_for_amx() -> bool:
    """Whether this build would lay out quantized weights for AMX, which ends the process.

    GCC 12 takes only 8 of the 64 bytes of ggml's tile configuration for used, and leaves the others
    unwritten (https://github.com/ggml-org/llama.cpp/issues/20824). Without that layout, or any
    other than the file's, such weights are multiplied with AVX-512.
    """
    import llama_cpp

    return b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()


def longest(batch: Batch) -> int:
    """Return the tokens of the batch's longest sequence, prompt and output."""
    return max(map(len, batch.prompts)) + batch.new_tokens


def facts(model: Any, context: Any, log: str) -> dict[str, Json]:
    """Read the settings in force from the library: from its calls where they exist, else its log.

    Args:
        model: pointer to a `llama_model`.
        context: pointer to its `llama_context`.
        log: what the library has logged since loading began.
    """
    import llama_cpp

    library: Any = llama_cpp
    caches = re.findall(r"K \((\w+)\):.*V \((\w+)\):", log)
    buffers = re.findall(r"(\S+) model buffer size = *([\d.]+) MiB", log)
    mode = re.findall(r"load_mode = (\w+)", log)
    file_type = library.llama_ftype_name(library.llama_model_ftype(model))
    return {
        "file_type": file_type.decode() if file_type else None,
        "tensors": {
            kind.lower(): int(n) for kind, n in re.findall(r"- type +(\w+): +(\d+) tensors", log)
        },
        "load_mode": mode[-1] if mode else None,
        "weights_mib": {name: float(size) for name, size in buffers},
        "kv_type": "/".join(sorted(set(caches[-1]))) if caches else None,
        "parameters": int(library.llama_model_n_params(model)),
        "threads": int(library.llama_n_threads(context)),
        "threads_prefill": int(library.llama_n_threads_batch(context)),
        "features": library.llama_print_system_info().decode().strip(" |"),
    }
