"""Load the tokenizer of a model folder, if possible with the tokenizers library alone.

An ONNX worker thus loads it without importing transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy import extras
from slm_energy.errors import ModelError, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FAST = "tokenizer.json"
SLOW = ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
"""Files of slow tokenizers, which transformers can convert."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer, without truncation and padding.

    Without tokenizer.json, transformers converts the slow tokenizer, which takes seconds longer.

    Raises:
        ModelError: there is no tokenizer, or it cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / FAST
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{folder}: the tokenizer cannot be read: {one_line(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    if lacking := extras.missing("torch", "transformers"):
        raise ModelError(f"there is no tokenizer.json, and converting another needs {lacking}")
    import transformers

    load: Any = transformers.AutoTokenizer.from_pretrained
    tokenizer = load(folder, use_fast=True, local_files_only=True)
    converted: Tokenizer = tokenizer.backend_tokenizer
    return converted
