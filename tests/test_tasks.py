"""Forms of data sets: each is recognised by its keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slm_energy import tasks
from slm_energy.tasks import Case

HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
EVALPLUS = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "base_input": [[1, 2]],
    "plus_input": [[0.5, 0.25]],
    "atol": 0,
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to find the shared elements of two lists.",
    "code": "def shared(a, b):\n    return tuple(set(a) & set(b))",
    "test_list": ["assert set(shared((3, 4), (4, 5))) == set((4,))"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
LIVE_CODE_BENCH: dict[str, Any] = {
    "question_id": "abc_a",
    "question_content": "Print the sum of the numbers.",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
}

USER, ASSISTANT = ({"role": role, "content": "Add."} for role in ("user", "assistant"))


def test_human_eval_has_a_check_of_the_candidate() -> None:
    task = tasks.read(HUMAN_EVAL)
    assert task.tests is not None
    assert (task.tests.kind, task.tests.check) == ("assertions", True)
    assert task.continues


def test_evalplus_has_the_inputs_of_both_lists() -> None:
    task = tasks.read(EVALPLUS)
    assert task.tests is not None
    assert task.tests.kind == "inputs"
    assert task.tests.inputs == ([1, 2], [0.5, 0.25])


def test_mbpp_is_prompted_with_its_text_and_first_assertion() -> None:
    task = tasks.read(MBPP)
    assert task.task_id == "2"
    assert task.entry_point == "shared"
    assert task.prompt.startswith('"""\nWrite a function')
    assert MBPP["test_list"][0] in task.prompt
    assert not task.continues


def test_live_code_bench_has_runs_of_a_program() -> None:
    task = tasks.read(LIVE_CODE_BENCH)
    assert task.tests is not None
    assert task.tests.cases == (Case(given="1 2\n", expected="3\n"),)


def test_pickled_tests_are_refused_by_name() -> None:
    task = tasks.read(LIVE_CODE_BENCH | {"private_test_cases": "eJxrYJmq"})
    assert task.tests is not None
    assert "pickle" in task.tests.refused


def test_functional_cases_call_the_method_that_their_metadata_names() -> None:
    case = [{"input": "[1, 2]\n3", "output": "[0]", "testtype": "functional"}]
    row = LIVE_CODE_BENCH | {"public_test_cases": case, "starter_code": "class Solution:"}
    task = tasks.read(row | {"metadata": json.dumps({"func_name": "find"})})
    assert task.tests is not None
    assert task.tests.method == "find"
    assert task.tests.inputs == ([[[1, 2], 3], [0]],)
    assert "class Solution:" in task.prompt
    unnamed = tasks.read(row)
    assert unnamed.tests is not None
    assert "func_name" in unnamed.tests.refused


@pytest.mark.parametrize(
    "row",
    [
        EVALPLUS | {"base_input": [], "plus_input": []},
        MBPP | {"test_list": []},
        LIVE_CODE_BENCH | {"public_test_cases": []},
        HUMAN_EVAL | {"test": " "},
        HUMAN_EVAL | {"test": None},
    ],
)
def test_a_row_without_any_test_is_a_task_without_tests(row: dict[str, Any]) -> None:
    assert tasks.read(row).tests is None


def test_mbpp_plus_of_the_hub_is_tested_by_all_of_its_inputs() -> None:
    task = tasks.read(MBPP | {"test": "assert shared((1,), (1,)) == (1,)", "test_imports": []})
    assert task.tests is not None
    assert task.tests.program.endswith("assert shared((1,), (1,)) == (1,)")


@pytest.mark.parametrize(
    ("row", "missing"),
    [(MBPP | {"text": None}, "text or prompt"), ({"task_id": "a"}, "task_id and prompt")],
)
def test_a_missing_value_is_named(row: dict[str, Any], missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        tasks.read(row)


def test_a_prompt_may_be_the_messages_of_a_chat() -> None:
    task = tasks.read({"task_id": "a", "prompt": [USER, ASSISTANT, USER]})
    assert [message.role for message in task.messages] == ["user", "assistant", "user"]
    assert not task.prompt


def test_a_prompt_alone_has_no_tests() -> None:
    assert tasks.read({"task_id": "a", "prompt": "x"}).tests is None


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (HUMAN_EVAL | {"prompt": ["a"]}, r"prompt\[0\] is str, expected an object"),
        (EVALPLUS | {"base_input": {}}, "base_input is dict"),
        (MBPP | {"test_list": "assert True"}, "test_list is str"),
        (MBPP | {"test_list": ["assert 1", None]}, r"test_list\[1\] is NoneType, expected text"),
        (MBPP | {"test_list": ["\ud83d"]}, r"test_list\[0\] has a lone surrogate"),
        (EVALPLUS | {"plus_input": [[1], 2]}, r"plus_input\[1\] is int, expected a list of arg"),
        (MBPP | {"test_imports": "import re"}, "test_imports is str"),
        (HUMAN_EVAL | {"test": True}, "test is bool"),
        (EVALPLUS | {"atol": "small"}, "atol is str, expected a number"),
        (LIVE_CODE_BENCH | {"public_test_cases": "no JSON"}, "public_test_cases is not JSON"),
        (LIVE_CODE_BENCH | {"public_test_cases": [1]}, r"public_test_cases\[0\] is int"),
        (
            LIVE_CODE_BENCH | {"public_test_cases": [{"input": "1"}]},
            r"public_test_cases\[0\].output is NoneType",
        ),
        (HUMAN_EVAL | {"prompt": [{"role": "user", "content": 1}]}, r"prompt\[0\].content is int"),
        (HUMAN_EVAL | {"prompt": [{"role": "bot", "content": "a"}]}, r"\[0\].role is 'bot'"),
        (HUMAN_EVAL | {"prompt": [USER, {"role": "system", "content": ""}]}, r"\[1\].role is 'sys"),
        (HUMAN_EVAL | {"prompt": [USER | {"name": "n"}]}, r"\[0\] has role, content, name"),
        (HUMAN_EVAL | {"prompt": [USER, ASSISTANT]}, r"\[1\].role is 'assistant', but user comes"),
    ],
)
def test_a_value_of_another_type_is_named(row: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        tasks.read(row)
