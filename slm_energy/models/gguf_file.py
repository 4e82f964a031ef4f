"""A ready GGUF file as a model: a model folder is derived from it, which the cache keeps.

The folder has what the rest of this package reads: config.json with the context, the vocabulary and
the ends of text, tokenizer.json, the chat template, and a link to the file. The tokenizer is that
beside the file, if there is one; else it is rebuilt from the file's tokens and merges. llama.cpp
splits text by rules that the file only names; where this package knows the name's rule, the engine
compares the result with llama.cpp's own tokens before anything is served.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy import cache
from slm_energy.errors import ModelError
from slm_energy.models import gguf_header
from slm_energy.models.gguf_header import Header
from slm_energy.serialization import Json, write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "model.gguf"
"""The link in the folder."""
_TOKENIZER = "tokenizer.json"
REMEDY = "put the model's tokenizer.json beside the file"
_RECIPE = 1
"""Raise it when the same file should give another folder."""

_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4 = (
    rf"{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_DIGITS_APART = r"\p{N}"
_OF_LLAMA3 = ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "lfm2")
_SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4"), (_GPT2,)),
    **dict.fromkeys(
        ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"),
        (_DIGITS_APART, _GPT2),
    ),
    **dict.fromkeys((*_OF_LLAMA3, "dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), (_GPT4,)),
    **dict.fromkeys(
        ("qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan"),
        (_GPT4.replace(r"\p{N}{1,3}", _DIGITS_APART),),
    ),
    **dict.fromkeys(("gpt-4o", "llama4"), (_GPT4O,)),
    "tekken": (_GPT4O.replace(r"\p{N}{1,3}", _DIGITS_APART).replace(f"{_ENDING}?", ""),),
}
"""How text is split before the merges, by llama.cpp's name of it (`llama_vocab::impl::load`)."""


def is_file(source: str) -> bool:
    """Whether `model.source` names a GGUF file."""
    return source.endswith(".gguf")


def located(source: str) -> Path:
    """The file that `model.source` names.

    Raises:
        ModelError: there is none.
    """
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise ModelError(f"model.source={source}: there is no file {path}")
    return path


def beside(file: Path) -> Path:
    """Where a file's tokenizer may be that is taken in place of the one in it."""
    return file.with_name(_TOKENIZER)


def identity(file: Path) -> str:
    """Hash of the file, and of a tokenizer.json beside it: 16 hex digits."""
    parts = [cache.file_digest(path) for path in (file, beside(file)) if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def folder(file: Path, cache_path: Path, name: str) -> Path:
    """The folder in the cache that is derived from a file; it is made unless it is there.

    Raises:
        ModelError: the file is no complete GGUF file of a language model with a known tokenizer.
        OSError: the cache cannot be written.
    """
    content: dict[str, Json] = {"recipe": _RECIPE, "file": identity(file), "path": str(file)}
    place = cache.place(cache_path, "gguf_model", content)

    def fill(partial: Path) -> dict[str, Json]:
        header = gguf_header.read(file)
        write_json(partial / "config.json", config(file))
        write_json(partial / "tokenizer_config.json", _tokenizer_config(header))
        if beside(file).is_file():
            shutil.copy(beside(file), partial)
        else:
            try:
                _rebuilt(file, header).save(str(partial / _TOKENIZER))
            except KeyError as error:
                raise ModelError(f"model.source={file} lacks {error}: {REMEDY}") from error
        (partial / NAME).symlink_to(file)
        return {}

    cache.make(place, content, fill, name)
    return place


def config(file: Path) -> dict[str, Json]:
    """What config.json says of a file.

    Raises:
        ModelError: it is no complete GGUF file of a language model.
    """
    header = gguf_header.read(file)
    kind = header.values.get("general.architecture")
    if header.values.get("split.count", 0) > 1:
        raise ModelError(
            f"model.source={file} is one part of a model in several files: join them with"
            " llama.cpp's `llama-gguf-split --merge`"
        )
    tokens = header.values.get("tokenizer.ggml.tokens")
    if not tokens:
        raise ModelError(
            f"model.source={file} has no tokenizer: choose a file with one, such as"
            " llama.cpp's conversion writes"
        )
    ends = {
        header.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")
    } - {None}
    names = {
        "max_position_embeddings": "context_length",
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
    }
    known = {key: header.values.get(f"{kind}.{name}") for key, name in names.items()}
    return {
        "architectures": [f"{kind} (GGUF)"],
        "model_type": f"gguf {kind}",
        "vocab_size": len(tokens),
        "bos_token_id": header.values.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": sorted(ends),
        "quantization_config": {"quant_method": "gguf"},
        **{key: found for key, found in known.items() if found is not None},
    }


def is_byte_level(tokenizer: Path) -> bool:
    """Whether a tokenizer.json describes byte-level BPE without a normalizer."""
    if not tokenizer.is_file():
        return False
    data: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
    split = data.get("pre_tokenizer") or {}
    kinds = [part["type"] for part in split.get("pretokenizers", [split]) if part]
    return data["model"].get("type") == "BPE" and "ByteLevel" in kinds and not data["normalizer"]


def _tokenizer_config(header: Header) -> dict[str, Json]:
    tokens = header.values["tokenizer.ggml.tokens"]
    named = {name: header.values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    texts = {f"{key}_token": tokens[number] for key, number in named.items() if number is not None}
    template = header.values.get("tokenizer.chat_template")
    own = {"tokenizer_class": "PreTrainedTokenizerFast"} | texts
    return own | ({"chat_template": template} if template else {})


def _rebuilt(file: Path, header: Header) -> Tokenizer:
    """The tokenizer of a file's tokens, as the tokenizers library has it.

    Raises:
        ModelError: text is split in a way that is not known here.
    """
    from tokenizers import AddedToken, processors

    kind = header.values.get("tokenizer.ggml.model")
    tokens = header.values["tokenizer.ggml.tokens"]
    if kind == "gpt2":
        tokenizer = _byte_level(file, header, tokens)
    elif kind == "llama":
        tokenizer = _sentencepiece(header, tokens)
    else:
        raise ModelError(
            f"model.source={file} has a tokenizer of kind {kind}, which is not known here: {REMEDY}"
        )
    kinds = header.values.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    pairs = list(zip(tokens, kinds, strict=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in pairs if k == _CONTROL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in pairs if k == _USER_DEFINED])
    first = header.values.get("tokenizer.ggml.bos_token_id")
    split = header.values.get("tokenizer.ggml.pre")
    adds = kind == "llama" or split in (*_OF_LLAMA3, "tekken")  # as llama.cpp does
    if first is not None and header.values.get("tokenizer.ggml.add_bos_token", adds):
        text = tokens[first]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[text, "$A"], pair=[text, "$A", text, "$B"], special_tokens=[(text, first)]
        )
    return tokenizer


_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
"""Kinds of tokens (enum llama_token_type, llama.h)."""


def _byte_level(file: Path, header: Header, tokens: list[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    name = header.values.get("tokenizer.ggml.pre", "default")
    if name not in _SPLITS:
        raise ModelError(
            f"model.source={file}: its tokenizer splits text as {name}, which is not known here:"
            f" {REMEDY}"
        )
    merges = [tuple(each.split(" ")) for each in header.values["tokenizer.ggml.merges"]]
    ignore = name in (*_OF_LLAMA3, "glm4", "tekken")  # as llama.cpp does
    vocabulary = {text: number for number, text in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore))
    splits = [pre_tokenizers.Split(Regex(each), "isolated") for each in _SPLITS[name]]
    bytes_as_text = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_as_text])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(header: Header, tokens: list[str]) -> Tokenizer:
    """BPE of SentencePiece, which merges the pair whose whole has the highest score."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = header.values["tokenizer.ggml.scores"]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    ranked = sorted(range(len(tokens)), key=lambda number: (-scores[number], number))
    merges = [
        (text[:cut], text[cut:])
        for text in (tokens[number] for number in ranked)
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    unknown = header.values.get("tokenizer.ggml.unknown_token_id", 0)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=tokens[unknown], fuse_unk=True, byte_fallback=True)
    )
    prefix = header.values.get("tokenizer.ggml.add_space_prefix", True)
    steps = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer
