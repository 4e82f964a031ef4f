"""What a model is asked: the text of each prompt, its token ids, and where the answer ends.

    completion  the task's prompt as it is, to be continued
    chat        an instruction with the task's prompt, or the task's own messages as they are, in
                the model's chat template
    fim         the task's prompt and the last line of its solution, between the model's markers

The text is made once for each trial, in the sweep's environment, and sent to the worker; the token
ids are made from it before any window. So every engine gets the same ids. Servers get them through
`/v1/completions` too: behind `/v1/chat/completions` each would render a template of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slm_energy import workload
from slm_energy.cell import Settings
from slm_energy.config.groups import FimConfig, ModelConfig, WorkloadConfig
from slm_energy.errors import ModelError, WorkloadError
from slm_energy.models import chat_template
from slm_energy.models.folder import BUNDLED_MODEL, eos_ids
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.tasks import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPECIAL_TOKENS = 16
"""More than any tokenizer adds to a text."""

_CONTINUE = (
    "Complete this Python function. Answer with the whole function in one Python code block."
)
_WRITE = (
    "Write the Python function {name}that is described here. Answer with the whole function in one"
    " Python code block."
)
_PROGRAM = (
    "Write a Python program that solves this problem. It reads from standard input and prints to"
    " standard output. Answer with the whole program in one Python code block."
)


def instruction(task: Task) -> str:
    """The user's message in a chat: the same for every model."""
    if task.tests is not None and task.tests.kind == "cases":
        return f"{_PROGRAM}\n\n{task.prompt.strip()}\n"
    name = f"`{task.entry_point}` " if task.entry_point else ""
    words = _CONTINUE if task.continues else _WRITE.format(name=name)
    return f"{words}\n\n```python\n{task.prompt.strip()}\n```\n"


def _messages(task: Task) -> list[dict[str, str]]:
    """What a chat sends: the task's own messages, or one with its instruction."""
    if task.messages:
        return [{"role": each.role, "content": each.content} for each in task.messages]
    return [{"role": "user", "content": instruction(task)}]


def digest(tasks: Sequence[Task], config: WorkloadConfig) -> str:
    """Hash of ids and of what is asked, in order, whichever model is asked: 16 hex digits.

    Raises:
        WorkloadError: the middle is to be filled in, and a task has no canonical solution.
    """
    if config.prompt == "chat":
        texts = [
            json.dumps(_messages(task)) if task.messages else instruction(task) for task in tasks
        ]
    elif config.fim:
        _require_solutions(tasks)
        texts = [f"{task.prompt}\0{task.suffix}" for task in tasks]
    else:
        texts = [task.prompt for task in tasks]
    return workload.digest(_with_prompts(tasks, texts))


def load_unchanged(config: WorkloadConfig, known: str) -> tuple[Task, ...]:
    """Read a workload that must have this `digest`, that of when the grid was resolved.

    Raises:
        WorkloadError: it has changed since, or cannot be read any more.
    """
    tasks = workload.load(config)
    if digest(tasks, config) != known:
        raise WorkloadError(
            f"workload.source={config.source} has changed since the sweep began: run it again, the"
            " changed workload is another cell"
        )
    return tasks


def rendered(
    tasks: Sequence[Task], model: ModelConfig, folder: Path, config: WorkloadConfig
) -> tuple[Task, ...]:
    """The tasks with the text that this model gets as their prompt.

    Args:
        tasks: as the workload has them.
        model: its configuration.
        folder: its folder; random weights need not exist yet.
        config: how the model is asked.

    Raises:
        ModelError: the model has no chat template or no markers, or they are not as they should be.
        WorkloadError: a task has no canonical solution, or contains a marker.
    """
    # Random models have the tokenizer of the bundled one, and may not be built yet.
    with_texts = folder if model.weights == "stored" else BUNDLED_MODEL
    if config.prompt == "chat":
        return _with_prompts(
            tasks, [chat_template.render(with_texts, _messages(task)) for task in tasks]
        )
    if config.fim:
        return _with_prompts(tasks, _between_markers(tasks, model, with_texts))
    return tuple(tasks)


def markers(model: ModelConfig) -> FimConfig:
    """The tokens with which the model was trained to fill in the middle.

    Raises:
        ModelError: its configuration has none.
    """
    if model.fim is None:
        raise ModelError(
            f"model.fim is null: {model.name} has no markers to fill in the middle; set"
            " workload.fim=false, or model.fim={prefix: ..., suffix: ..., middle: ...} if it was"
            " trained for that"
        )
    return model.fim


def token_ids(tokenizer: Tokenizer, text: str, config: WorkloadConfig) -> tuple[int, ...]:
    """Token ids of a rendered prompt.

    A chat template writes the special tokens itself: adding them again would give two at the start.
    """
    return tuple(tokenizer.encode(text, add_special_tokens=config.prompt != "chat").ids)


def may_exceed(tasks: Sequence[Task], new_tokens: int, context: int | None) -> list[Task]:
    """The tasks that may be too long for a context; none if that is not known.

    A token has at least one byte, and a tokenizer adds a few special ones.
    """
    if context is None:
        return []
    room = context - new_tokens - _SPECIAL_TOKENS
    return [task for task in tasks if len(task.prompt.encode("utf-8", "surrogatepass")) > room]


def require_room(
    tasks: Sequence[Task], folder: Path, config: WorkloadConfig, context: int | None
) -> None:
    """Check, before anything is loaded, that each prompt and its answer fit a model's context.

    Args:
        tasks: with the text that the model gets.
        folder: with its tokenizer, which is loaded only for texts that may not fit.
        config: how the model is asked.
        context: its longest sequence in tokens; None if it is not known.

    Raises:
        WorkloadError: one does not fit.
    """
    long = may_exceed(tasks, config.new_tokens, context)
    if long and context is not None:
        tokenizer = load_tokenizer(folder)
        ids = [token_ids(tokenizer, task.prompt, config) for task in long]
        require_fit(long, ids, config.new_tokens, context)


def require_fit(
    tasks: Sequence[Task],
    ids: Sequence[tuple[int, ...]],
    new_tokens: int,
    context: int,
    of: str = "the model",
) -> None:
    """Check that each prompt and its answer fit a model's context.

    Args:
        tasks: n tasks.
        ids: n sequences of token ids, one per task.
        new_tokens: that are generated for each.
        context: longest sequence in tokens.
        of: what has this context, in the message.

    Raises:
        WorkloadError: one does not fit.
    """
    for task, prompt in zip(tasks, ids, strict=True):
        room = context - len(prompt)
        if new_tokens > room:
            remedy = f"at most {room} fit" if room > 0 else "take a model with a longer context"
            raise WorkloadError(
                f"prompt {task.task_id} has {len(prompt)} tokens; with workload.new_tokens="
                f"{new_tokens} it exceeds {of}'s context of {context}: {remedy}"
            )


def end_ids(folder: Path, settings: Settings) -> tuple[int, ...]:
    """Ids of the tokens that end an answer: end of text, and what else ends a middle.

    Models that fill in the middle go on with another file, or with a marker, where the middle ends.

    Raises:
        ModelError: a file cannot be read.
    """
    ends, fim = eos_ids(folder), settings.model.fim
    if not settings.workload.fim or fim is None:
        return ends
    tokenizer = load_tokenizer(folder)
    ids = (tokenizer.token_to_id(token) for token in (*_tokens(fim).values(), *fim.ends))
    return tuple(dict.fromkeys([*ends, *(number for number in ids if number is not None)]))


def _between_markers(tasks: Sequence[Task], model: ModelConfig, folder: Path) -> list[str]:
    """Prompts in the order prefix, suffix, middle (PSM of Bavarian et al. 2022)."""
    fim = markers(model)
    _require_solutions(tasks)
    _require_single_tokens(fim, load_tokenizer(folder), folder)
    for task in tasks:
        if any(marker in task.prompt + task.suffix for marker in _tokens(fim).values()):
            raise WorkloadError(
                f"task {task.task_id} contains a marker of model.fim: set workload.fim=false"
            )
    return [f"{fim.prefix}{task.prompt}{fim.suffix}{task.suffix}{fim.middle}" for task in tasks]


def _require_solutions(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if not task.canonical_solution.strip():
            raise WorkloadError(
                f"task {task.task_id} has no canonical_solution, and workload.fim=true takes from"
                " it what follows the middle: set workload.fim=false"
            )


def _tokens(fim: FimConfig) -> dict[str, str]:
    return {"prefix": fim.prefix, "suffix": fim.suffix, "middle": fim.middle}


def _require_single_tokens(fim: FimConfig, tokenizer: Tokenizer, folder: Path) -> None:
    keys = [*_tokens(fim).items(), *(("ends", token) for token in fim.ends)]
    for key, token in keys:
        count = len(tokenizer.encode(token, add_special_tokens=False).ids)
        if count != 1 or tokenizer.token_to_id(token) is None:
            raise ModelError(
                f"model.fim.{key}: {token!r} is {count} tokens of the tokenizer in {folder}, and a"
                " marker is one: set model.fim to this model's own, or workload.fim=false"
            )


def _with_prompts(tasks: Sequence[Task], texts: Sequence[str]) -> tuple[Task, ...]:
    return tuple(
        dataclasses.replace(task, prompt=text) for task, text in zip(tasks, texts, strict=True)
    )
