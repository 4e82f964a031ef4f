"""The bundled model, a copy of it to be changed, and what a GGUF file holds."""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from slm_energy.config.groups import BUNDLED, ModelConfig
from slm_energy.models.source import fetch

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def bundled() -> Path:
    return fetch(ModelConfig(name="m", source=BUNDLED), Path())


@pytest.fixture
def copy(bundled, tmp_path) -> Path:
    """The bundled model in a folder of its own, to be changed."""
    return Path(shutil.copytree(bundled, tmp_path / "model"))


def configure(folder: Path, **changes) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def kinds(file: Path) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}


def values(file: Path, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == name)
    return gguf.dequantize(tensor.data, tensor.tensor_type)
