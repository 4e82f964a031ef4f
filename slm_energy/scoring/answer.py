"""Where an answer ends, and the program that it makes with its prompt. Pure.

completion  the prompt, and the answer up to where the function is complete
chat        the code block of the answer, after what precedes the function in the prompt
fim         the prompt, the answer, and what followed the middle
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings

from slm_energy.config.groups import WorkloadConfig
from slm_energy.tasks import Task

_FENCE = re.compile(
    r"```[^`\n]*```|"  # within a line
    r"(?:^([ \t]*))?(`{3,}|~{3,})[ \t]*\{?\.?([\w+-]*)[^\n`]*\n(.*?)(?:\2[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""A fenced block: margin, fence, language, code. It ends with its fence at the end of a line, or
with the answer."""
_PYTHON = ("python", "py", "python3", "py3")
_CONTINUES = (")", "]", "}", "'''", '"""')
"""A line that begins so at the left margin still belongs to the statement before it."""
_FUTURE = re.compile(r"^from __future__ import .*\n", re.MULTILINE)
"""These must come first in a program."""
_INDENT = "    "


def program(task: Task, text: str, asked: WorkloadConfig) -> str:
    """The program that is tested.

    Args:
        task: with its prompt.
        text: what a model generated after the prompt.
        asked: how the model was asked.
    """
    if asked.fim:
        return task.prompt + text + task.suffix
    if asked.prompt == "chat":
        return _with_function(task, from_chat(without_thoughts(text), task.entry_point))
    if task.tests is not None and task.tests.kind == "cases":
        return from_chat(text)
    answer = text[: end(task, text)]
    if not task.continues:
        return answer
    # A model that repeats the signature begins the function anew.
    return (_before(task) if _defines(answer, task.entry_point) else task.prompt) + answer


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


def without_thoughts(text: str) -> str:
    """The answer without what a model thought before it, between `<think>` and `</think>`.

    Some templates write the first of the two themselves. Thoughts that do not end leave no answer.
    """
    _, ended, answer = text.rpartition("</think>")
    unended = not ended and text.lstrip().startswith("<think>")
    return "" if unended else answer


def from_chat(text: str, name: str = "") -> str:
    """The code of an answer in prose.

    The first Python block that defines the function, else the first Python block, else the first
    block, else the whole text. A block that an answer was cut in counts.

    Args:
        text: the answer.
        name: of the function; empty if unknown.
    """
    text = text.replace("\r\n", "\n")
    blocks = [
        (language.lower(), textwrap.dedent(code) if margin else code)
        for margin, fence, language, code in _FENCE.findall(text)
        if fence
    ]
    python = [code for language, code in blocks if language in _PYTHON]
    defining = [code for code in python if name and _defines(code, name)]
    return next(iter([*defining, *python, *(code for _, code in blocks)]), text)


def _with_function(task: Task, code: str) -> str:
    """The program of a code block: the function with what precedes it, or its body only.

    A body may have lost its indent: of several readings the first that is Python counts.
    """
    if not task.continues:
        return code
    if _defines(code, task.entry_point):
        first = "".join(_FUTURE.findall(code))
        return first + _before(task) + _FUTURE.sub("", code)
    begun = task.prompt.rstrip() + "\n"
    body = textwrap.indent(textwrap.dedent(code), _INDENT)
    readings = [begun + body, begun + _INDENT + code.lstrip()]
    if code.strip("\n")[:1].isspace():
        readings = [begun + code, begun + code.expandtabs(4), *readings]
    return next((reading for reading in readings if _parses(reading)), readings[0])


def _before(task: Task) -> str:
    """What precedes the function in the prompt: imports, other functions."""
    start = _definition(task.entry_point).search(task.prompt)
    return task.prompt[: start.start()] if start else ""


def _defines(code: str, name: str) -> bool:
    return _definition(name).search(code) is not None


def _definition(name: str) -> re.Pattern[str]:
    """The start of a function's definition at the left margin, with its decorators."""
    name = re.escape(name)
    function = rf"(?:^@[^\n]*\n)*^(?:async[ \t]+)?def[ \t]+{name}\b"
    return re.compile(rf"{function}|^{name}[ \t]*=(?!=)", re.MULTILINE)


def _parses(code: str) -> bool:
    """Whether this is Python; nothing is executed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in strings, such as "\d"
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: too deep
        return False
    return True
