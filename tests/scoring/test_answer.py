"""Where an answer ends, and the program that it makes."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.config.groups import WorkloadConfig
from slm_energy.scoring import answer
from slm_energy.tasks import Case, Task, TaskTests

BEGUN = Task(task_id="t", prompt="def f(x):\n", entry_point="f")
ASKED = Task(task_id="t", prompt='"""Add one."""\n', entry_point="f")
HELPED = Task(
    task_id="t",
    prompt='import math\n\ndef g(x):\n    return x\n\n\ndef f(x):\n    """Round g up."""\n',
    entry_point="f",
)
COMPLETION = WorkloadConfig(name="w", source="s")
CHAT = dataclasses.replace(COMPLETION, prompt="chat")
FIM = dataclasses.replace(COMPLETION, fim=True)
WHOLE = "def f(x):\n    return math.ceil(g(x))\n"


def completed(task: Task, text: str) -> str:
    return answer.program(task, text, COMPLETION)


def chatted(task: Task, text: str) -> str:
    return answer.program(task, text, CHAT)


def fenced(code: str, language: str = "python") -> str:
    return f"Here it is:\n\n```{language}\n{code}```\n\nIt works.\n"


@pytest.mark.parametrize(
    "after",
    ["def g():\n    pass\n", "print(f(1))\n", "# another\n", "class A:\n", "@cache\n", "```\n"],
)
def test_a_function_ends_before_the_next_line_at_the_left_margin(after: str) -> None:
    assert completed(BEGUN, f"    return x + 1\n\n{after}") == "def f(x):\n    return x + 1\n\n"


def test_a_bracket_or_string_that_closes_at_the_left_margin_belongs_to_the_function() -> None:
    text = "    return [\n        x,\n]\n"
    assert completed(BEGUN, text + "print()\n") == BEGUN.prompt + text


def test_an_answer_that_is_cut_stays_as_it_is() -> None:
    assert completed(BEGUN, "    return (x +") == "def f(x):\n    return (x +"


def test_a_prompt_that_ends_within_a_line_is_continued() -> None:
    task = Task(task_id="t", prompt="def f(x):\n    return", entry_point="f")
    assert completed(task, " x\nprint()\n") == "def f(x):\n    return x\n"


def test_an_answer_to_a_question_may_import_and_help_itself_before_the_function() -> None:
    text = "import math\n\ndef g(x):\n    return 1\n\ndef f(x):\n    return x + g(x)\n"
    assert completed(ASKED, text + "\nprint(f(1))\n") == text + "\n"


def test_a_completion_that_repeats_the_signature_begins_the_function_anew() -> None:
    before = HELPED.prompt[: HELPED.prompt.index("def f")]
    assert completed(HELPED, WHOLE + "print(f(1))\n") == before + WHOLE
    assert completed(BEGUN, "def f(x):\n    return 1\n") == "def f(x):\n    return 1\n"


def test_the_program_of_an_answer_in_prose_is_its_first_python_block() -> None:
    tests = TaskTests(kind="cases", cases=(Case(given="", expected=""),))
    task = Task(task_id="t", prompt="Print 3.", tests=tests)
    text = "Run it:\n```sh\npython a.py\n```\nThe code:\n```python\nprint(3)\n```\nDone."
    for asked in (COMPLETION, CHAT):
        assert answer.program(task, text, asked) == "print(3)\n"
        assert answer.program(task, "```\nprint(4)\n", asked) == "print(4)\n"
        assert answer.program(task, "print(5)", asked) == "print(5)"


def test_a_block_with_the_function_replaces_the_prompts_and_keeps_what_precedes_it() -> None:
    before = HELPED.prompt[: HELPED.prompt.index("def f")]
    assert chatted(HELPED, fenced(WHOLE)) == before + WHOLE
    repeated = HELPED.prompt + WHOLE[WHOLE.index("    ") :]
    assert chatted(HELPED, fenced(repeated)) == before + repeated


def test_decorators_in_the_prompt_do_not_stay_without_their_function() -> None:
    task = Task(task_id="t", prompt="import a\n\n@a.b\n@c\ndef f(x):\n", entry_point="f")
    assert chatted(task, fenced("x = 1\ndef f(x):\n    return 1\n")).startswith("import a\n\nx = 1")


def test_a_block_that_must_come_first_comes_first() -> None:
    future = "from __future__ import annotations\n"
    made = chatted(HELPED, fenced("import os\n" + future + WHOLE))
    assert made == future + chatted(HELPED, fenced("import os\n" + WHOLE))


@pytest.mark.parametrize(
    "body",
    [
        "    y = g(x)\n    return y\n",
        "y = g(x)\nreturn y\n",
        "y = g(x)\n    return y\n",  # the first line lost its indent
        "\ty = g(x)\n\treturn y\n",
    ],
)
def test_a_block_with_the_body_only_continues_the_prompt(body: str) -> None:
    made = chatted(HELPED, fenced(body))
    assert made == HELPED.prompt + "    y = g(x)\n    return y\n"


def test_the_block_with_the_function_is_chosen_among_several() -> None:
    text = fenced("assert f(1) == 2\n") + fenced(WHOLE) + fenced("def f(x):\n    return 0\n")
    assert chatted(HELPED, text).endswith(WHOLE)
    assert chatted(ASKED, fenced("f(1)\n", "") + fenced("f(2)\n")) == "f(2)\n"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{WHOLE}```",
        f"Sure:```py\n{WHOLE}```\n",
        f"``` Python3 title='a.py'\r\n{WHOLE}```\r\n",
        f"~~~python\n{WHOLE}~~~\n",
        f"````python\n{WHOLE}````\n",
        f"```{{.python}}\n{WHOLE}```\n",
        f"```\n{WHOLE}```\n",
        f"Use `f`, or ```f```:\n```python\n{WHOLE}```\n",
        f"```python\n{WHOLE}",  # cut
        "1. This:\n\n   ```python\n   def f(x):\n       return math.ceil(g(x))\n   ```\n",
        f"```python\n{WHOLE}```\n```python\nprint(f(1.5))\n```\n",
        f"<think>\nMaybe\n```python\ndef f(x): pass\n```\n</think>\n```python\n{WHOLE}```\n",
        f"Maybe\n```python\ndef f(x): pass\n```\n</think>\n```python\n{WHOLE}```\n",
        WHOLE,
    ],
)
def test_a_block_is_found_however_it_is_written(text: str) -> None:
    assert chatted(ASKED, text).strip() == WHOLE.strip()


def test_an_answer_with_windows_line_ends_is_the_same_program() -> None:
    text = fenced(WHOLE)
    assert chatted(HELPED, text.replace("\n", "\r\n")) == chatted(HELPED, text)


def test_a_fence_may_close_at_the_end_of_a_line() -> None:
    assert chatted(ASKED, "```python\nx = 1```\nThat is it.") == "x = 1"


@pytest.mark.parametrize("text", ["", "<think>\nLet me see", "```python\n", "\n \n"])
def test_no_answer_leaves_the_function_without_a_body(text: str) -> None:
    assert chatted(BEGUN, text).strip() == "def f(x):"


@pytest.mark.parametrize(
    "text", ["\0", "\ud800", "(" * 100_000, "-" * 100_000, "\\", "if 1:\n" * 99]
)
def test_what_is_not_python_is_a_program_that_does_not_parse(text: str) -> None:
    assert chatted(BEGUN, fenced(text + "\n")).startswith("def f(x):\n")
    assert chatted(ASKED, fenced(text + "\n")) == text + "\n"


def test_a_middle_stands_between_the_prompt_and_the_last_line() -> None:
    task = dataclasses.replace(BEGUN, canonical_solution="    y = x\n    return y\n")
    for middle in ("    y = x", "    y = x\n"):
        made = answer.program(task, middle, FIM)
        assert [line for line in made.splitlines() if line] == [
            "def f(x):",
            "    y = x",
            "    return y",
        ]
