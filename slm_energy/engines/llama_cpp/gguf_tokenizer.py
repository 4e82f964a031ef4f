"""The tokenizer as GGUF stores it, for clients that send text to llama.cpp's server.

The engine itself passes token ids. Only byte-level BPE is written. llama.cpp has a fixed number of
named ways to split text before the merges, so a tokenizer that splits differently is written with
the name of the nearest and marked approximate.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slm_energy.serialization import Json


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """A byte-level BPE tokenizer.

    Attributes:
        tokens: the text of each id.
        special: ids that are never part of a text.
        added: ids that are matched before the text is split.
        unused: ids that exist only in the model's matrices.
        merges: pairs of tokens, joined by a space, in order of priority.
        split: llama.cpp's name for how text is split before the merges.
        exact: the model's tokenizer splits text in exactly that way.
    """

    tokens: tuple[str, ...]
    special: frozenset[int]
    added: frozenset[int]
    unused: frozenset[int]
    merges: tuple[str, ...]
    split: str
    exact: bool


def read(folder: Path, vocabulary: int) -> Tokenizer | None:
    """Read tokenizer.json.

    Args:
        folder: the model's.
        vocabulary: rows of the embedding; ids that the tokenizer lacks get a placeholder name.

    Returns:
        None if the file is missing or describes another kind of tokenizer.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    model, split = data["model"], data.get("pre_tokenizer")
    byte_level = "ByteLevel" in [part["type"] for part in _parts(split)]
    if model.get("type") != "BPE" or not byte_level or data.get("normalizer"):
        return None
    added = {token["id"]: token for token in data.get("added_tokens", ())}
    names = {number: text for text, number in model["vocab"].items()}
    names |= {number: token["content"] for number, token in added.items()}
    if max(names) >= vocabulary:
        return None
    name, exact = _split(split)
    return Tokenizer(
        tokens=tuple(names.get(number, f"[UNUSED{number}]") for number in range(vocabulary)),
        special=frozenset(number for number, token in added.items() if token["special"]),
        added=frozenset(added),
        unused=frozenset(range(vocabulary)) - frozenset(names),
        merges=tuple(_joined(pair) for pair in model["merges"]),
        split=name,
        exact=exact,
    )


def _parts(split: dict[str, Json] | None) -> Sequence[dict[str, Any]]:
    if split is None:
        return []
    parts: Any = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    return list(parts)


def _split(split: dict[str, Json] | None) -> tuple[str, bool]:
    """Return llama.cpp's name for the way text is split, and whether it matches exactly."""
    parts = _parts(split)
    plain = parts[-1].get("use_regex", True) and not parts[-1].get("add_prefix_space")
    if plain and [part["type"] for part in parts] == ["ByteLevel"]:
        return "gpt-2", True
    if plain and [part["type"] for part in parts] == ["Digits", "ByteLevel"]:
        return "starcoder", bool(parts[0]["individual_digits"])
    return "gpt-2", False


def _joined(pair: str | Sequence[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)
