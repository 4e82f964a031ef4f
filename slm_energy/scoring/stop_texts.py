"""Texts at which generation ends with `workload.stop=code`. Pure.

They are plain strings, because servers accept nothing else, and the same ones decide in every
engine. Each is a place where `answer.end`, or the end of a code block, cuts an answer whose code
has begun: stopping there leaves its program as it was.
"""

from __future__ import annotations

import string

from slm_energy.config.groups import WorkloadConfig
from slm_energy.errors import WorkloadError
from slm_energy.tasks import Task

_MARGIN = tuple("\n" + first for first in string.ascii_letters + "_@#`")
"""A line at the left margin, by its first character. It follows the body of a function (another
function, a call, a comment), so that the body is complete. Chen et al. 2021 (Evaluating Large
Language Models Trained on Code) stop at five such lines. Quotes and brackets are left out: a line
that begins with one may end the statement before it."""

_FENCE = tuple("\n```\n" + first for first in "\n" + string.ascii_uppercase)
"""The end of a code block, told from the beginning of one without a language by what follows it: an
empty line, or a sentence."""

_AFTER_DEFINITION = ("\nassert ", "\nprint(", "\nif __name__", *_FENCE)
"""What follows a function that the answer defines, and does not precede it as imports, comments and
helper functions do."""


def stop_texts(task: Task, workload: WorkloadConfig) -> tuple[str, ...]:
    """The texts at which an answer to a task is complete; none with `workload.fim`.

    Raises:
        WorkloadError: the task names no function and has no tests, so nothing says what is asked.
    """
    if workload.fim:
        return ()  # the model marks the end of what it fills in with an end-of-text token
    if workload.prompt == "chat" or (task.tests is not None and task.tests.kind == "cases"):
        return _FENCE
    if not task.entry_point and task.tests is None:
        raise WorkloadError(
            f"workload.stop=code: {task.task_id} of workload.source={workload.source} has no"
            " entry_point, so nothing says where its code ends: set workload.stop=eos"
        )
    return _MARGIN if task.continues else _AFTER_DEFINITION
