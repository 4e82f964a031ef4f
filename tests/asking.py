"""Model folders with a chat template or markers: the bundled model with what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_energy.models.folder import BUNDLED_MODEL

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
MARKERS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>")


def a_model(
    folder: Path,
    *,
    tokens: Sequence[str] = (),
    template: str | None = None,
    adds_first: str | None = None,
    **config: Any,
) -> Path:
    """The bundled model in a new folder.

    Args:
        folder: is made.
        tokens: special tokens; they replace the last ones of the vocabulary, which have embeddings.
        template: of chats, in tokenizer_config.json.
        adds_first: the token that its tokenizer puts before each text.
        config: further entries of tokenizer_config.json.
    """
    folder.mkdir(parents=True)
    for file in BUNDLED_MODEL.iterdir():
        if not file.name.startswith("tokenizer"):
            shutil.copy(file, folder)
    data = json.loads((BUNDLED_MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    own = json.loads((BUNDLED_MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    if adds_first:
        tokens = [*dict.fromkeys([*tokens, adds_first])]
        data["post_processor"] = _adding(adds_first, 4095 - tokens.index(adds_first))
    _replace_tokens(data, {4095 - place: token for place, token in enumerate(tokens)})
    kept = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    own["added_tokens_decoder"] = {
        str(added["id"]): {key: added[key] for key in kept} for added in data["added_tokens"]
    }
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    own |= config | ({} if template is None else {"chat_template": template})
    (folder / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")
    return folder


def _replace_tokens(data: dict[str, Any], names: Mapping[int, str]) -> None:
    vocabulary = {number: token for token, number in data["model"]["vocab"].items()} | names
    data["model"]["vocab"] = {token: number for number, token in vocabulary.items()}
    known = data["model"]["vocab"].keys()
    merges = data["model"]["merges"]
    data["model"]["merges"] = [pair for pair in merges if "".join(pair) in known]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    data["added_tokens"] += [
        {"id": number, "content": token, "special": True} | flags
        for number, token in sorted(names.items())
    ]


def _adding(token: str, number: int) -> dict[str, Any]:
    special = {"id": token, "ids": [number], "tokens": [token]}
    return {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": token, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {token: special},
    }
