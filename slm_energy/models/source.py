"""Where weights come from, whether they can be trusted, and what identifies them.

A model is a folder in the Hugging Face layout: bundled with this package, on the local disk, or a
snapshot of a hub repository at a pinned commit. torch, transformers and huggingface_hub are
imported only where they cannot be avoided: an ONNX worker reads its tokenizer without them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy import extras
from slm_energy.cache import file_digest, intact
from slm_energy.config.check import is_hub_id
from slm_energy.config.groups import BUNDLED, ModelConfig
from slm_energy.errors import ModelError, one_line
from slm_energy.models import random_weights
from slm_energy.models.architecture import CONTEXT, disagreement

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BUNDLED = Path(__file__).parents[1] / "bundled" / "model"

_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
_PICKLES = ("pytorch_model*.bin",)
_SLOW_TOKENIZERS = ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
_CONTENT = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.safetensors*",
    "pytorch_model*.bin*", "*.py",
)  # fmt: skip
_CAUSAL_LM = ("ForCausalLM", "LMHeadModel")


def fetch(model: ModelConfig, cache: Path) -> Path:
    """Find the model's folder; download a hub snapshot that is not in the local cache yet.

    Random weights have a folder in `cache`, where `build` makes them.

    Raises:
        ModelError: the files cannot be had, are not a causal language model, or need a trust that
            the configuration does not give.
    """
    if model.weights == "random":
        return random_weights.place(model, cache, _BUNDLED)
    _require_full_scale(model)
    if is_hub_id(model.source):
        return _fetch_from_hub(model)
    folder = _BUNDLED if model.source == BUNDLED else Path(model.source).expanduser().resolve()
    if not folder.is_dir():
        raise ModelError(f"model.source={model.source}: there is no folder {folder}")
    _require_usable(folder, model)
    return folder


def identity(model: ModelConfig) -> str:
    """What stands for the model's content in a cell's identity, without downloading anything.

    Returns:
        The pinned commit of a hub id, else the digest of the folder.

    Raises:
        ModelError: see `fetch`.
    """
    if model.weights == "random":
        return random_weights.digest(model, _BUNDLED)
    _require_full_scale(model)
    if is_hub_id(model.source) and model.revision:
        return model.revision
    return digest(fetch(model, Path()))


def needs_building(model: ModelConfig, folder: Path) -> bool:
    """Tell whether random weights are asked for and not in the cache; if they are, they get used.

    Args:
        model: what is asked for.
        folder: where `fetch` says it is.
    """
    return model.weights == "random" and not intact(folder)


def build(model: ModelConfig, cache: Path) -> None:
    """Make random weights unless they are in the cache; see `random_weights.build`."""
    random_weights.build(model, cache, _BUNDLED)


def digest(folder: Path) -> str:
    """Hash a model folder's config, tokenizer, code and weights: 16 hex digits.

    Files that cannot change a result (README, licence, training logs) are left out.

    Raises:
        ModelError: the folder holds none of these files.
    """
    files = sorted({path for pattern in _CONTENT for path in folder.glob(pattern)})
    if not files:
        raise ModelError(f"{folder} holds no model: set model.source to a folder that does")
    lines = "".join(f"{path.name} {file_digest(path)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer; it neither truncates nor pads.

    A folder without tokenizer.json has its slow tokenizer converted by transformers, which takes
    seconds longer.

    Raises:
        ModelError: there is no tokenizer, or it cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{folder}: the tokenizer cannot be read: {one_line(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def eos_ids(folder: Path) -> tuple[int, ...]:
    """Tokens that end a text; empty if the model names none."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        ids = _read_json(path).get("eos_token_id") if path.is_file() else None
        if ids is not None:
            return tuple(ids) if isinstance(ids, list) else (ids,)
    return ()


def context_length(folder: Path) -> int | None:
    """Longest sequence, prompt and output together, in tokens; None if the model names no limit."""
    config = _read_json(folder / "config.json")
    return next((config[key] for key in CONTEXT if isinstance(config.get(key), int)), None)


def _require_full_scale(model: ModelConfig) -> None:
    if model.scale != "full":
        raise ModelError(
            f"model.scale={model.scale}: stored weights have one size; set model.weights=random"
        )


def _fetch_from_hub(model: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*_TEXT_FILES, "*.safetensors"]
    patterns += _PICKLES if model.allow_pickle else ()
    patterns += ("*.py",) if model.trust_remote_code else ()

    def snapshot(local_files_only: bool) -> Path:
        folder = Path(
            snapshot_download(
                model.source,
                revision=model.revision,
                allow_patterns=patterns,
                ignore_patterns=[
                    "*/*",
                    "consolidated*",
                ],  # exports and second copies of the weights
                local_files_only=local_files_only,
            )
        )
        _require_usable(folder, model)
        return folder

    try:
        # A commit never changes, so a whole snapshot in the cache needs no network.
        return snapshot(local_files_only=True)
    except (LocalEntryNotFoundError, ModelError):
        pass  # absent or interrupted: the download below completes it
    try:
        return snapshot(local_files_only=False)
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"model.source={model.source} is not in the local cache and the hub cannot be reached:"
            " go online once, or set model.source to a local folder"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"model.source={model.source} revision {model.revision}: {one_line(error)}"
        ) from error


def _require_usable(folder: Path, model: ModelConfig) -> None:
    config = _read_json(folder / "config.json")
    _require_causal_lm(folder, config, model)
    _require_architecture(folder, config, model)
    _require_weights(folder, model)
    fast = (folder / "tokenizer.json").is_file()
    if not fast and not any((folder / name).is_file() for name in _SLOW_TOKENIZERS):
        raise ModelError(
            f"{folder} has no tokenizer: put its tokenizer.json there, or change model.source"
        )


def _require_causal_lm(folder: Path, config: dict[str, Any], model: ModelConfig) -> None:
    own_code = config.get("auto_map") or {}
    classes = [str(name) for name in config.get("architectures") or ()]
    causal = (
        any(name.endswith(_CAUSAL_LM) for name in classes) or "AutoModelForCausalLM" in own_code
    )
    if not causal:
        raise ModelError(
            f"{folder} is not a causal language model: change model.source"
            f" (its architectures: {', '.join(classes) or 'none'})"
        )
    if own_code and not model.trust_remote_code and not _built_in(config, folder):
        raise ModelError(
            f"{folder} needs its own Python code: read it, then set model.trust_remote_code=true"
        )


def _require_architecture(folder: Path, config: dict[str, Any], model: ModelConfig) -> None:
    different = disagreement(model.architecture, config)
    if different is not None:
        key, asked, found = different
        raise ModelError(
            f"model.architecture.{key}={asked}, but {folder} has {found}: change model.source,"
            " or what model.architecture says"
        )


def _built_in(config: dict[str, Any], folder: Path) -> bool:
    if lacking := extras.missing("torch", "transformers"):
        raise ModelError(
            f"{folder} comes with Python code; checking whether it is required needs {lacking}"
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return config.get("model_type") in CONFIG_MAPPING_NAMES


def _require_weights(folder: Path, model: ModelConfig) -> None:
    if _whole(folder, "model.safetensors"):
        return
    pickled = any(path for pattern in _PICKLES for path in folder.glob(pattern))
    if model.allow_pickle and _whole(folder, "pytorch_model.bin"):
        return
    if pickled and not model.allow_pickle:
        raise ModelError(
            f"{folder} has only pickled weights, which can run code when read:"
            " set model.allow_pickle=true if you trust their author"
        )
    raise ModelError(
        f"{folder} has no complete safetensors weights: change model.source,"
        " or set model.allow_pickle=true if its author offers only pickled ones"
    )


def _whole(folder: Path, name: str) -> bool:
    """Tell whether weights are there, in one file or in all parts that their index names."""
    if (folder / name).is_file():
        return True
    index = folder / f"{name}.index.json"
    return index.is_file() and all(
        (folder / part).is_file() for part in set(_read_json(index).get("weight_map", {}).values())
    )


def _converted(folder: Path) -> Tokenizer:
    if lacking := extras.missing("torch", "transformers"):
        raise ModelError(f"there is no tokenizer.json, and converting another needs {lacking}")
    import transformers

    load: Any = transformers.AutoTokenizer.from_pretrained
    tokenizer = load(folder, use_fast=True, local_files_only=True)
    converted: Tokenizer = tokenizer.backend_tokenizer
    return converted


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing: set model.source to a complete model folder"
        ) from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): fetch the model again") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} is not a JSON object: fetch the model again")
    return data
