"""A model folder with all its files and nothing in them, and a hub that cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_weights(file: Path, dtype: str = "F32", name: str = "weight", size: int = 8) -> None:
    """A safetensors file of one tensor, without a library that knows all types."""
    tensor = {"dtype": dtype, "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({name: tensor}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))


def write_model(folder: Path, **entries) -> Path:
    """A folder that has all the files of a causal language model, and nothing in them.

    Args:
        folder: is made if it does not exist.
        entries: of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | entries
    (folder / "config.json").write_text(json.dumps(entries))
    write_weights(folder / "model.safetensors")
    tokenizer = Tokenizer(tokenizer_models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an unreachable hub's local cache has, or lacks, COMMIT of org/model."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
