"""Read the files of a model folder.

A model folder has the Hugging Face layout: config.json, a tokenizer, weights. Nothing here checks
whether the model may be loaded (see `validation`) or imports a library to read it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from slm_energy.cache import file_digest
from slm_energy.errors import ModelError
from slm_energy.models.architecture import CONTEXT
from slm_energy.serialization import parse_json

BUNDLED_MODEL = Path(__file__).parents[1] / "bundled" / "model"
"""The model shipped with this package; random models use its tokenizer."""

_CONTENT = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "chat_template.*", "additional_chat_templates/*", "vocab.*", "merges.txt",
    "*.model", "*.tiktoken", "adapter_config.json", "*.safetensors*", "pytorch_model*.bin*",
    "**/*.py",
)  # fmt: skip
_KINDS: dict[int, Literal["sha256", "git"]] = {64: "sha256", 40: "git"}
"""Length of an ETag of the hub to the kind of hash that it is."""
_ORIGINAL_CONTEXT = "original_max_position_embeddings"
_INDICES = ("*.safetensors.index.json", "pytorch_model*.bin.index.json")
"""Files whose `weight_map` names other files, which may be in folders of their own."""


def digest(folder: Path) -> str:
    """Hash a model folder's config, tokenizer, code and weights: 16 hex digits.

    Files that cannot change a result (README, licence, training logs) are left out.

    Raises:
        ModelError: the folder holds none of these files, or one of them is outside the folder.
    """
    files = sorted(_content(folder))
    if not files:
        raise ModelError(f"{folder} contains no model: set model.source to a model folder")
    lines = "".join(f"{path.relative_to(folder)} {file_digest(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _content(folder: Path) -> set[Path]:
    """The files that can change a result, each by the name under which it is read.

    Raises:
        ModelError: a name or a link leaves the folder.
    """
    files = {path for pattern in _CONTENT for path in folder.glob(pattern) if path.is_file()}
    for index in (path for pattern in _INDICES for path in folder.glob(pattern)):
        files |= {folder / part for part in weight_files(index)}
    for path in files:
        _require_inside(folder, path)
    return files


def require_hub_content(folder: Path) -> None:
    """Compare a snapshot in the hub's cache with the hashes that the hub gave for its files.

    The cache names each blob by that hash, its ETag: SHA-256 of a large file, Git's SHA-1 of
    another (huggingface_hub, "Understand caching").

    Raises:
        ModelError: a file is not what the hub sent, or that is not known.
    """
    for path in sorted(_content(folder)):
        blob = path.resolve()
        kind = _KINDS.get(len(blob.name)) if path.is_symlink() else None
        if kind is None:
            raise ModelError(
                f"{path} is not a link to what the hub sent: remove {folder}, so that it is fetched"
                " again; or set model.source to a copy of that folder, which counts by its content"
            )
        if file_digest(blob, kind) != blob.name:
            raise ModelError(
                f"{path} has been changed in the hub's cache: remove {blob}, so that it is fetched"
                " again; or set model.source to a copy of that folder, which counts by its content"
            )


def weight_files(index: Path) -> set[str]:
    """The files that an index of weights names, relative to its folder.

    Raises:
        ModelError: it is no such index, or a name leaves the folder.
    """
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(each, str) for each in names.values()):
        raise ModelError(f"{index} names no files of weights: fetch the model again")
    for name in set(names.values()):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(
                f"{index} names {name!r}, which is outside the model's folder: change model.source"
            )
    return set(names.values())


def _require_inside(folder: Path, path: Path) -> None:
    """Refuse a link out of the folder; those of the hub's own cache lead to its blobs."""
    target, root = path.resolve(), folder.resolve()
    allowed = [root, *([root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [])]
    if not any(target.is_relative_to(place) for place in allowed):
        raise ModelError(
            f"{path} is a link to {target}, outside the model's folder: copy the file there"
        )


def eos_ids(folder: Path) -> tuple[int, ...]:
    """Ids of the end-of-text tokens; empty if the model names none.

    Raises:
        ModelError: a file cannot be read.
    """
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        ids = read_json(path).get("eos_token_id") if path.is_file() else None
        if ids is not None:
            return tuple(ids) if isinstance(ids, list) else (ids,)
    return ()


def context_length(folder: Path) -> int | None:
    """Longest sequence, prompt and output together, in tokens; None if the model names no limit.

    Raises:
        ModelError: config.json is missing or cannot be read.
    """
    return context_of(read_json(folder / "config.json"))


def graph_context(folder: Path) -> int | None:
    """Longest sequence for engines that serve a graph, in tokens.

    Models with long-rope positions have other rotary factors beyond their original length
    (Y. Ding et al., LongRoPE, arXiv 2402.13753); a graph contains those of shorter sequences.

    Raises:
        ModelError: config.json is missing or cannot be read.
    """
    config = read_json(folder / "config.json")
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    original = rotary.get(_ORIGINAL_CONTEXT, config.get(_ORIGINAL_CONTEXT))
    if "longrope" in (rotary.get("rope_type"), rotary.get("type")) and isinstance(original, int):
        return original
    return context_of(config)


def context_of(config: Mapping[str, Any]) -> int | None:
    """The same, of the content of a config.json or of `model.architecture`."""
    return next((config[key] for key in CONTEXT if isinstance(config.get(key), int)), None)


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the folder's JSON files.

    Raises:
        ModelError: it is missing or does not contain a JSON object.
    """
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing: set model.source to a complete model folder"
        ) from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): fetch the model again") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a JSON object: fetch the model again")
    return data
