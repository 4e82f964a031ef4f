"""A model folder with all its files and nothing in them, and a hub that cannot be reached."""

from __future__ import annotations

import hashlib
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


def as_fetched(snapshot: Path) -> Path:
    """Make links to blobs of a snapshot's files, as the hub's own cache has them."""
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for file in snapshot.iterdir():
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            name = hashlib.sha256(content).hexdigest()
        else:  # what `git hash-object` prints
            name = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        file.rename(blobs / name)
        file.symlink_to(Path("..", "..", "blobs", name))
    return snapshot


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an unreachable hub's local cache has, or lacks, COMMIT of org/model."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
