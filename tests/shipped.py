"""The models that conf/model/ ships, as configurations."""

import dataclasses

import yaml

from slm_energy.config.compose import CONF
from slm_energy.config.groups import ModelConfig
from slm_energy.models import source
from slm_energy.serialization import from_plain

MODELS = tuple(sorted(p.stem for p in (CONF / "model").glob("*.yaml") if p.stem != "bundled"))
"""All but the bundled one, whose weights come with the package."""


def shipped(name: str, **changes) -> ModelConfig:
    text = (CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    return dataclasses.replace(from_plain(ModelConfig, yaml.safe_load(text)), **changes)


def tiny(name: str) -> ModelConfig:
    """Two narrow layers of that architecture, with random weights."""
    return shipped(name, weights="random", scale="tiny")


TWINS = tuple({source.identity(tiny(name)): name for name in reversed(MODELS)}.values())
"""One model for each distinct tiny twin: sizes of one family have the same."""

KINDS = (
    "codeparrot-small",  # transposed weights, attention scaled by layer
    "tiny_starcoder_py",  # one key-value head, learned positions
    "bloomz-560m",  # ALiBi
    "pythia-410m",  # parallel residual, partial rotary positions
    "tinyllama-1.1b",  # grouped key-value heads
    "starcoder2-3b",  # sliding window
)
"""One model for each way of attention; `benchmarks/engine_matrix.py` compares all of them.

llama_cpp and torchscript serve each: the weights' format and the forward pass are this package's.
"""

FEW = ("bloomz-560m", "tinyllama-1.1b", "starcoder2-3b")
"""No positions in the input, rotary ones, a window: for onnx and openvino, whose graphs the library
exports that has the model."""
