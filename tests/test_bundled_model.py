"""What the bundled model promises."""

from __future__ import annotations

import ast
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
from slm_energy.scoring import answer
from slm_energy.tasks import Task
from tests.conftest import a_cell, a_trial

TOOLS = Path(__file__).parent.parent / "tools"
ASKED = WorkloadConfig(name=BUNDLED, source=BUNDLED)
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
    assert training["first_stage"]["held_out_loss_nats_per_token"] < 3
    # Learning to answer tasks costs some of what the first stage knew of the standard library.
    assert training["held_out_loss_nats_per_token"] < 3.5
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in (FOLDER / "README.md").read_text()


def body(task: Task, text: str) -> str:
    """The syntax tree of an answer's program; an answer equal to the solution needs no sandbox."""
    try:
        return ast.dump(ast.parse(answer.program(task, text, ASKED)))
    except SyntaxError:
        return "not Python"


@pytest.fixture
def answered(config: RunConfig) -> dict[Task, str]:
    """The greedy answers of the bundled tasks, as a trial with stop=eos gives them."""
    tokenizer = load_tokenizer(FOLDER)
    tasks = workload.load(ASKED)
    engine = find("torch").create()
    cell = a_cell(config, engine=EngineConfig(name="torch", threads=1))
    engine.load(load_request_of(a_trial(config, cell=cell, model_path=str(FOLDER))))
    prompts = [tuple(tokenizer.encode(task.prompt).ids) for task in tasks]
    answers = [
        engine.generate(Batch(prompts=(prompt,), new_tokens=64, stop="eos"))[0]
        for prompt in prompts
    ]
    engine.close()
    texts = [tokenizer.decode(list(generated.output_ids)) for generated in answers]
    return dict(zip(tasks, texts, strict=True))


def test_it_writes_python_that_solves_simple_tasks(
    tool: ModuleType, answered: dict[Task, str]
) -> None:
    solved = [
        task.task_id
        for task, text in answered.items()
        if body(task, text) == body(task, task.canonical_solution)
    ]
    assert len(solved) >= 5, solved
    verdicts = [tool.tokenize_verdict(task.prompt + text) for task, text in answered.items()]
    assert verdicts.count("ok") >= 0.6 * len(verdicts), verdicts
