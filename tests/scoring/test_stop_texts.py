"""Stopping at a stop text saves tokens and changes no program."""

from __future__ import annotations

import dataclasses
import random

import pytest

from slm_energy.config.groups import WorkloadConfig
from slm_energy.engines.ends import cut
from slm_energy.errors import WorkloadError
from slm_energy.scoring import answer
from slm_energy.scoring.stop_texts import stop_texts
from slm_energy.tasks import Case, Task, TaskTests

CODE = WorkloadConfig(name="w", source="s", stop="code")
TESTED = TaskTests(kind="assertions", program="assert f(1)")
BEGUN = Task(task_id="t", prompt="def f(x):\n", entry_point="f", tests=TESTED)
ASKED = Task(task_id="t", prompt='"""Add one."""\n', entry_point="f", tests=TESTED)
PROGRAM = Task(
    task_id="t",
    prompt="Print 3.",
    tests=TaskTests(kind="cases", cases=(Case(given="", expected="3"),)),
)
LINES = (
    "    return x\n", "    y = [\n", "]\n", ")\n", "\n", "  \n", "\t# tab\n", "# comment\n",
    "def g(x):\n", "class A:\n", "@cache\n", "if x:\n", "print(f(1))\n", "assert f(1)\n",
    'if __name__ == "__main__":\n', "import os\n", "```\n", "```python\n", '"""\n', '"text"\n',
    "The end.\n", "Z = 1\n", "    '''\n", "'''\n", "x = 1\n", "é = 2\n", "1 + 1\n", "\\\n", "\r\n",
)  # fmt: skip


def stops(task: Task, **changes: object) -> tuple[str, ...]:
    return stop_texts(task, dataclasses.replace(CODE, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [BEGUN, ASKED], ids=["continued", "defined"])
def test_the_program_of_an_answer_whose_body_has_begun_is_the_same(task: Task) -> None:
    rng = random.Random(1)
    stopped = 0
    first = "    y = x\n" if task.continues else "def f(x):\n    y = x\n"
    for _ in range(3000):
        text = first + "".join(rng.choices(LINES, k=rng.randint(0, 8)))
        text = text[: len(text) - rng.randint(0, 3)]
        shorter = cut(text, stops(task))
        if shorter is not None:
            stopped += 1
            assert (
                answer.program(task, shorter, CODE).rstrip()
                == answer.program(task, text, CODE).rstrip()
            )
    assert stopped > 1000


@pytest.mark.parametrize("task", [BEGUN, PROGRAM], ids=["function", "program"])
def test_a_block_of_an_answer_in_prose_is_the_same(task: Task) -> None:
    """A block that begins without a language is not taken for the end of one."""
    chat = stops(task, prompt="chat")
    for before in ("", "Here it is:\n", "Sure!\n\n"):
        for fence in ("```python\n", "```\n"):
            text = f"{before}{fence}def f(x):\n    return x\n```\nThis adds one.\n"
            assert cut(text, chat) == text[: text.index("\n```\nThis")]
            ended = text.replace("This adds one.", "\nIt adds one.")
            assert cut(ended, chat) == ended[: ended.index("\n```\n\n")]
            assert answer.from_chat(cut(text, chat) or "").rstrip() == "def f(x):\n    return x"


def test_a_program_ends_with_its_block_in_either_prompt() -> None:
    assert stops(PROGRAM) == stops(PROGRAM, prompt="chat") == stops(BEGUN, prompt="chat")


def test_what_is_filled_in_has_no_stop_texts() -> None:
    assert stops(BEGUN, fim=True) == ()


def test_a_task_that_names_no_function_is_refused_by_name() -> None:
    with pytest.raises(WorkloadError, match=r"t of .*source=s has no entry_point.*stop=eos"):
        stops(Task(task_id="t", prompt="Once upon a time"))
