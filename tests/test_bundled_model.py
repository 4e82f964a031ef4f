"""What the bundled model promises."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from safetensors import safe_open

from slm_energy import workload
from slm_energy.config.groups import BUNDLED, EngineConfig, ModelConfig, RunConfig, WorkloadConfig
from slm_energy.engines.base import Batch, find, load_request_of
from slm_energy.models import source
from slm_energy.models.tokenizer import load_tokenizer
from tests.conftest import a_cell, a_trial

TOOLS = Path(__file__).parent.parent / "tools"
FOLDER = source.fetch(ModelConfig(name=BUNDLED, source=BUNDLED), Path())


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The training script, for its definition of what tokenizes."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("train_bundled_model")


def test_it_is_a_small_llama_in_safetensors_with_its_card_and_its_making() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (FOLDER / "model.safetensors").stat().st_size <= 16e6
    with safe_open(FOLDER / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
    training = json.loads((FOLDER / "training.json").read_text())
    assert sum(sizes) == training["parameters"] <= 8_000_000
    assert training["held_out_loss_nats_per_token"] < 3
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in (FOLDER / "README.md").read_text()


def test_it_writes_recognisable_python(tool: ModuleType, config: RunConfig) -> None:
    tokenizer = load_tokenizer(FOLDER)
    tasks = workload.load(WorkloadConfig(name=BUNDLED, source=BUNDLED))[::4]
    engine = find("torch").create()
    cell = a_cell(config, engine=EngineConfig(name="torch", threads=1))
    engine.load(load_request_of(a_trial(config, cell=cell, model_path=str(FOLDER))))
    prompts = tuple(tuple(tokenizer.encode(task.prompt).ids) for task in tasks)
    answers = engine.generate(Batch(prompts=prompts, new_tokens=96, stop="eos"))
    engine.close()
    texts = [tokenizer.decode(list(answer.output_ids)) for answer in answers]
    verdicts = [
        tool.tokenize_verdict(task.prompt + text) for task, text in zip(tasks, texts, strict=True)
    ]
    assert verdicts.count("ok") >= 0.6 * len(verdicts), verdicts
