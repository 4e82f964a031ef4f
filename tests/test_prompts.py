"""What a model is asked, and with which token ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from slm_energy import prompts, tasks, workload
from slm_energy.cell import settings
from slm_energy.config.groups import BUNDLED, FimConfig, ModelConfig, RunConfig, WorkloadConfig
from slm_energy.errors import ModelError, WorkloadError
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.tasks import Message, Task
from tests.asking import CHATML, CHATML_TOKENS, MARKERS, a_model
from tests.test_tasks import HUMAN_EVAL, LIVE_CODE_BENCH, MBPP

COMPLETION = WorkloadConfig(name=BUNDLED, source=BUNDLED)
CHAT = dataclasses.replace(COMPLETION, prompt="chat")
FIM = dataclasses.replace(COMPLETION, fim=True)
TASK = tasks.read(HUMAN_EVAL | {"canonical_solution": "    c = a + b\n    return c\n"})
FIM_TOKENS = FimConfig(prefix=MARKERS[0], suffix=MARKERS[1], middle=MARKERS[2], ends=MARKERS[3:])


def model(source: Path, **changes: Any) -> ModelConfig:
    return ModelConfig(**{"name": "m", "source": str(source), "fim": FIM_TOKENS} | changes)


def asked(folder: Path, config: WorkloadConfig, *given: Task, **changes: Any) -> list[str]:
    made = prompts.rendered(given or (TASK,), model(folder, **changes), folder, config)
    return [task.prompt for task in made]


def test_a_completion_is_asked_for_with_the_prompt_alone(tmp_path: Path) -> None:
    assert asked(tmp_path, COMPLETION) == [TASK.prompt]


def test_a_chat_asks_for_the_whole_function_in_the_models_template(tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", tokens=CHATML_TOKENS, template=CHATML)
    assert asked(folder, CHAT) == [
        "<|im_start|>user\n"
        "Complete this Python function. Answer with the whole function in one Python code block.\n"
        "\n```python\ndef add(a, b):\n```\n"
        "<|im_end|>\n<|im_start|>assistant\n"
    ]


def test_the_messages_of_a_task_go_through_the_models_template_as_they_are(tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", tokens=CHATML_TOKENS, template=CHATML)
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Add."),
    )
    task = Task(task_id="t", prompt="", messages=messages)
    assert asked(folder, CHAT, task) == [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAdd.<|im_end|>\n"
        "<|im_start|>assistant\n"
    ]
    other = dataclasses.replace(task, messages=messages[1:])
    assert prompts.digest([task], CHAT) != prompts.digest([other], CHAT)


def test_an_instruction_fits_the_form_of_its_task() -> None:
    described = prompts.instruction(tasks.read(MBPP))
    assert described.startswith("Write the Python function `shared` that is described here.")
    assert MBPP["test_list"][0] in described
    program = prompts.instruction(tasks.read(LIVE_CODE_BENCH))
    assert "reads from standard input" in program
    assert program.endswith("\n\nPrint the sum of the numbers.\n")
    unknown = prompts.instruction(Task(task_id="t", prompt="Add."))
    assert unknown.startswith("Write the Python function that is described here.")


def test_the_first_token_that_a_template_writes_is_not_added_again(tmp_path: Path) -> None:
    template = "{{ bos_token }}" + CHATML
    names = ("<s>", *CHATML_TOKENS)
    folder = a_model(
        tmp_path / "m", tokens=names, template=template, adds_first="<s>", bos_token="<s>"
    )
    tokenizer = load_tokenizer(folder)
    first = tokenizer.token_to_id("<s>")
    [chat] = asked(folder, CHAT)
    assert prompts.token_ids(tokenizer, chat, CHAT).count(first) == 1
    [text] = asked(folder, COMPLETION)
    assert prompts.token_ids(tokenizer, text, COMPLETION).count(first) == 1


def test_a_middle_is_asked_for_between_the_prompt_and_the_last_line(tmp_path: Path) -> None:
    folder = a_model(tmp_path / "m", tokens=MARKERS)
    [text] = asked(folder, FIM)
    assert text == "<fim_prefix>def add(a, b):\n<fim_suffix>\n    return c\n<fim_middle>"
    tokenizer = load_tokenizer(folder)
    ids = prompts.token_ids(tokenizer, text, FIM)
    assert [ids.count(tokenizer.token_to_id(marker)) for marker in MARKERS] == [1, 1, 1, 0]
    assert ids[-1] == tokenizer.token_to_id("<fim_middle>")


def test_nothing_follows_the_middle_of_a_solution_of_one_line() -> None:
    assert tasks.read(HUMAN_EVAL).suffix == "\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fim": None}, r"model.fim is null: m has no markers .* set workload.fim=false"),
        (
            {"fim": dataclasses.replace(FIM_TOKENS, suffix="<fim-suffix>")},
            r"model.fim.suffix: '<fim-suffix>' is \d tokens of the tokenizer",
        ),
        ({"fim": dataclasses.replace(FIM_TOKENS, ends=("<eom>",))}, r"model.fim.ends: '<eom>'"),
    ],
)
def test_a_model_that_cannot_fill_in_the_middle_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = a_model(tmp_path / "m", tokens=MARKERS)
    with pytest.raises(ModelError, match=message) as raised:
        asked(folder, FIM, **changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canonical_solution": " \n"}, "task HumanEval/0 has no canonical_solution"),
        ({"prompt": "def add(a, b):  # <fim_suffix>\n"}, "HumanEval/0 contains a marker"),
    ],
)
def test_a_task_without_a_middle_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = a_model(tmp_path / "m", tokens=MARKERS)
    with pytest.raises(WorkloadError, match=message):
        asked(folder, FIM, dataclasses.replace(TASK, **changes))


def test_a_middle_ends_with_the_end_of_text_or_with_what_the_model_writes_next(
    tmp_path: Path, config: RunConfig
) -> None:
    folder = a_model(tmp_path / "m", tokens=MARKERS)
    own = dataclasses.replace(settings(config), model=model(folder))
    filling = dataclasses.replace(own, workload=FIM)
    number = load_tokenizer(folder).token_to_id
    assert prompts.end_ids(folder, own) == (0,)
    assert prompts.end_ids(folder, filling) == (0, *map(number, MARKERS))


def test_random_models_have_the_texts_of_the_bundled_one(tmp_path: Path) -> None:
    """Which has no template; the folder need not exist yet."""
    with pytest.raises(ModelError, match="has no chat template: set workload"):
        asked(tmp_path / "none", CHAT, weights="random")


def test_what_is_asked_is_part_of_what_identifies_a_workload() -> None:
    other_end = dataclasses.replace(TASK, canonical_solution="    c = a + b\n    return  c\n")
    other_name = dataclasses.replace(TASK, entry_point="sum")
    assert prompts.digest([TASK], COMPLETION) == workload.digest([TASK])
    assert len({prompts.digest([TASK], config) for config in (COMPLETION, CHAT, FIM)}) == 3
    for config, same, changed in ((FIM, other_name, other_end), (CHAT, other_end, other_name)):
        assert prompts.digest([same], config) == prompts.digest([TASK], config)
        assert prompts.digest([changed], config) != prompts.digest([TASK], config)


def test_a_workload_that_changed_since_the_sweep_began_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text('{"task_id": "a", "prompt": "def f():"}\n')
    config = WorkloadConfig(name="own", source=str(file))
    known = prompts.digest(workload.load(config), config)
    assert [task.prompt for task in prompts.load_unchanged(config, known)] == ["def f():"]
    file.write_text('{"task_id": "a", "prompt": "def g():"}\n')
    with pytest.raises(WorkloadError, match=r"has changed since the sweep began: run it again"):
        prompts.load_unchanged(config, known)
