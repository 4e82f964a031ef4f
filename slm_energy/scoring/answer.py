"""Where an answer ends, and the program that it makes with its prompt. Pure."""

from __future__ import annotations

import re

from slm_energy.tasks import Task

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_CONTINUES = (")", "]", "}", "'''", '"""')
"""A line that begins so at the left margin still belongs to the statement before it."""


def program(task: Task, text: str) -> str:
    """The program that is tested.

    Args:
        task: with its prompt.
        text: what a model generated after the prompt.
    """
    if task.tests is not None and task.tests.kind == "cases":
        return from_chat(text)
    answer = text[: end(task, text)]
    return task.prompt + answer if task.continues else answer


def end(task: Task, text: str) -> int:
    """Index at which the function that was asked for is complete; the length if it is not yet.

    It ends before the first line at the left margin after its body has begun: another function, a
    call, a comment. Whatever a model writes after that is not part of the answer (Chen et al. 2021
    stop at such lines).
    """
    inside = task.continues
    begun = False
    at = 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        first_of_prompt_line = number == 0 and not task.prompt.endswith("\n")
        margin = not line[:1].isspace() and not first_of_prompt_line
        if inside and margin and line.strip() and not line.startswith(_CONTINUES):
            if begun:
                return at
        elif inside and line.strip():
            begun = True
        if not inside and line.startswith(
            (f"def {task.entry_point}(", f"def {task.entry_point} (")
        ):
            inside = True
        at += len(line)
    return len(text)


def from_chat(text: str) -> str:
    """The code of an answer in prose: the first Python block, else the first block, else all."""
    blocks = _FENCE.findall(text)
    python = [code for name, code in blocks if name.lower() in ("python", "py", "python3")]
    return next(iter([*python, *(code for _, code in blocks)]), text)
