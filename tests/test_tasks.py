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


def test_tests_that_call_a_method_of_a_class_are_refused_by_name() -> None:
    case = [{"input": "1", "output": "2", "testtype": "functional"}]
    task = tasks.read(LIVE_CODE_BENCH | {"public_test_cases": case})
    assert task.tests is not None
    assert "functional" in task.tests.refused


def test_a_prompt_alone_has_no_tests() -> None:
    assert tasks.read({"task_id": "a", "prompt": "x"}).tests is None


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (HUMAN_EVAL | {"prompt": ["a"]}, "prompt is list"),
        (EVALPLUS | {"base_input": {}}, "base_input is dict"),
        (MBPP | {"test_list": "assert True"}, "test_list is str"),
    ],
)
def test_a_value_of_another_type_is_named(row: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        tasks.read(row)
