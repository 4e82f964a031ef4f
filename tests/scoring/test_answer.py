"""Where an answer ends."""

from __future__ import annotations

import pytest

from slm_energy.scoring import answer
from slm_energy.tasks import Case, Task, TaskTests

BEGUN = Task(task_id="t", prompt="def f(x):\n", entry_point="f")
ASKED = Task(task_id="t", prompt='"""Add one."""\n', entry_point="f")


@pytest.mark.parametrize(
    "after",
    ["def g():\n    pass\n", "print(f(1))\n", "# another\n", "class A:\n", "@cache\n", "```\n"],
)
def test_a_function_ends_before_the_next_line_at_the_left_margin(after: str) -> None:
    assert answer.program(BEGUN, f"    return x + 1\n\n{after}") == (
        "def f(x):\n    return x + 1\n\n"
    )


def test_a_bracket_or_string_that_closes_at_the_left_margin_belongs_to_the_function() -> None:
    text = "    return [\n        x,\n]\n"
    assert answer.program(BEGUN, text + "print()\n") == BEGUN.prompt + text


def test_an_answer_that_is_cut_stays_as_it_is() -> None:
    assert answer.program(BEGUN, "    return (x +") == "def f(x):\n    return (x +"


def test_a_prompt_that_ends_within_a_line_is_continued() -> None:
    task = Task(task_id="t", prompt="def f(x):\n    return", entry_point="f")
    assert answer.program(task, " x\nprint()\n") == "def f(x):\n    return x\n"


def test_an_answer_to_a_question_may_import_and_help_itself_before_the_function() -> None:
    text = "import math\n\ndef g(x):\n    return 1\n\ndef f(x):\n    return x + g(x)\n"
    assert answer.program(ASKED, text + "\nprint(f(1))\n") == text + "\n"


def test_the_program_of_an_answer_in_prose_is_its_first_python_block() -> None:
    tests = TaskTests(kind="cases", cases=(Case(given="", expected=""),))
    task = Task(task_id="t", prompt="Print 3.", tests=tests)
    text = "Run it:\n```sh\npython a.py\n```\nThe code:\n```python\nprint(3)\n```\nDone."
    assert answer.program(task, text) == "print(3)\n"
    assert answer.program(task, "```\nprint(4)\n") == "print(4)\n"
    assert answer.program(task, "print(5)") == "print(5)"
