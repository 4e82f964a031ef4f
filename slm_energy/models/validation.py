"""Check whether a folder holds a model that may be loaded.

It must be a complete causal language model of the configured architecture, and must not need trust
that the configuration does not grant: for its own code, or for pickled weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_energy import extras
from slm_energy.config.groups import ModelConfig
from slm_energy.errors import ModelError
from slm_energy.models import quantization, tokenizer, weights
from slm_energy.models.architecture import disagreement
from slm_energy.models.folder import read_json

PICKLES = ("pytorch_model*.bin",)
"""Weight files that can run code when they are read."""
_CAUSAL_LM = ("ForCausalLM", "LMHeadModel")


def validate(folder: Path, model: ModelConfig) -> None:
    """Check a model folder before anything is loaded from it.

    Raises:
        ModelError: files are missing or broken, it is not a causal language model, its architecture
            differs, or it needs trust that the configuration does not grant.
    """
    _refuse_other_kinds(folder)
    config = read_json(folder / "config.json")
    _require_causal_lm(folder, config, model)
    _refuse_kernels(folder, config)
    _require_architecture(folder, config, model)
    quantization.refuse_undeclared(folder, config)
    files = _weights(folder, model)
    for file in files:
        weights.require_content(file)
    quantization.refuse_small_floats(folder, config, [f for f in files if f.suffix != ".bin"])
    texts = [folder / name for name in (tokenizer.FAST, *tokenizer.SLOW)]
    texts = [file for file in texts if file.is_file()]
    for file in texts:
        weights.require_content(file)
    if not texts:
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


def _refuse_kernels(folder: Path, config: object) -> None:
    """Refuse an attention that names a repository of code, at any depth of the configuration.

    transformers below 5.3 runs it without `trust_remote_code`: CVE-2026-4372.
    """
    if isinstance(config, list):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if "attn_implementation" in str(key) and "/" in str(value):
            raise ModelError(
                f"{folder}/config.json names code to download ({key}={value}):"
                f" remove {key} there, or change model.source"
            )
        _refuse_kernels(folder, value)


def _built_in(config: dict[str, Any], folder: Path) -> bool:
    """Whether transformers itself has the family's class."""
    if lacking := extras.missing("torch", "transformers"):
        raise ModelError(
            f"{folder} comes with Python code; checking whether it is required needs {lacking}"
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return config.get("model_type") in CONFIG_MAPPING_NAMES


def _require_architecture(folder: Path, config: dict[str, Any], model: ModelConfig) -> None:
    difference = disagreement(model.architecture, config)
    if difference is not None:
        key, configured, stored = difference
        raise ModelError(
            f"model.architecture.{key}={configured}, but {folder} has {stored}: change"
            " model.source or model.architecture"
        )


def _refuse_other_kinds(folder: Path) -> None:
    """Refuse a folder that holds no model in the Hugging Face layout, but another kind of file."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter (adapter_config.json), not a model: merge it into its base"
            " model, and set model.source to the result"
        )
    if any(folder.glob("*.gguf")) and not _has(folder, "*.safetensors", *PICKLES):
        raise ModelError(
            f"{folder} holds GGUF files only: set model.source to one of them, and"
            " engine.dtype=stored; or give the folder of the model that they were made from"
        )


def _weights(folder: Path, model: ModelConfig) -> list[Path]:
    if files := weights.stored(folder, pickled=model.allow_pickle):
        return files
    if not model.allow_pickle and _has(folder, *PICKLES):
        raise ModelError(
            f"{folder} has only pickled weights, which can run code when read:"
            " set model.allow_pickle=true if you trust their author"
        )
    if model.allow_pickle:
        raise ModelError(f"{folder} has no complete weights: change model.source")
    raise ModelError(
        f"{folder} has no complete safetensors weights: change model.source,"
        " or set model.allow_pickle=true if its author offers only pickled ones"
    )


def _has(folder: Path, *patterns: str) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)
