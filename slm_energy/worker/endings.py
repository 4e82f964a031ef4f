"""The text of each answer and what ended it, determined after the windows."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections.abc import Sequence
from pathlib import Path

from slm_energy.cell import Trial
from slm_energy.config.groups import WorkloadConfig
from slm_energy.engines.base import Batch
from slm_energy.engines.ends import cut
from slm_energy.models.token_texts import TokenTexts
from slm_energy.prompts import end_ids
from slm_energy.tasks import Task
from slm_energy.worker.served import LoadedRequest, Request, Served, Stop, answers
from slm_energy.workload import token_digest


def served_of(
    file: Path, tasks: Sequence[Task], batches: Sequence[Batch], trial: Trial, texts: TokenTexts
) -> Served:
    """What was served, besides the file of the answers.

    Args:
        file: the answers, one to each request of each pass.
        tasks: the workload's prompts.
        batches: the same, as the engine got them.
        trial: what was run.
        texts: the texts of the model's tokens.
    """
    workload = trial.cell.settings.workload
    ends = end_ids(Path(trial.model_path), trial.cell.settings)
    asked = [batch.request(row) for batch in batches for row in range(len(batch.prompts))]
    first: list[array[int]] = []
    requests, stops, number = list[Request](), dict[str, Stop](), -1
    for number, answer in enumerate(answers(file)):
        ids = answer.output_ids
        position = number % len(asked)
        if number >= len(asked) and ids == first[position]:
            continue
        text, stop = _ending(ids, asked[position], ends, texts, workload)
        if number >= len(asked):
            stops[str(number)] = stop
            continue
        first.append(ids)
        prompt = asked[position].prompts[0]
        requests.append(
            Request(
                task_id=tasks[position].task_id,
                prompt_digest=token_digest(prompt),
                input_tokens=len(prompt),
                stop=stop,
                text=text,
            )
        )
    passes = (number + 1) // len(asked)
    return Served(requests=tuple(requests), batches=len(batches), passes=passes, stops=stops)


def loaded_of(
    file: Path,
    tasks: Sequence[Task],
    batches: Sequence[Batch],
    trial: Trial,
    texts: TokenTexts,
    loaded: Sequence[LoadedRequest],
) -> Served:
    """The same for requests under load, each answered alone.

    Args:
        file: the answers, one to each of `loaded`.
        tasks: the workload's prompts.
        batches: the same, each alone, as the engine got them.
        trial: what was run.
        texts: the texts of the model's tokens.
        loaded: what was sent, in the order of the file.
    """
    workload = trial.cell.settings.workload
    ends = end_ids(Path(trial.model_path), trial.cell.settings)
    first: dict[int, tuple[array[int], str, Stop]] = {}
    stops = dict[str, Stop]()
    for number, (each, answer) in enumerate(zip(loaded, answers(file), strict=True)):
        ids = answer.output_ids
        if each.ended != "complete" or (each.position in first and ids == first[each.position][0]):
            continue
        request = dataclasses.replace(batches[each.position], new_tokens=len(ids))
        text, stop = _ending(ids, request, ends, texts, workload)
        if each.position in first:
            stops[str(number)] = stop
        else:
            first[each.position] = (ids, text, stop)
    requests = [
        Request(
            task_id=task.task_id,
            prompt_digest=token_digest(batch.prompts[0]),
            input_tokens=len(batch.prompts[0]),
            stop=first[position][2] if position in first else "length",
            text=first[position][1] if position in first else "",
        )
        for position, (task, batch) in enumerate(zip(tasks, batches, strict=True))
    ]
    return Served(
        requests=tuple(requests),
        batches=len(batches),
        passes=0,
        stops=stops,
        loaded=tuple(loaded),
    )


def _ending(
    ids: Sequence[int],
    request: Batch,
    ends: Sequence[int],
    texts: TokenTexts,
    workload: WorkloadConfig,
) -> tuple[str, Stop]:
    """The text of an answer up to where it ends, and what ended it.

    A chat's reply or a middle ends with its first end token, and `stop=fixed` generates on. A
    completion is kept whole: it ends with a line of text (`scoring.answer.end`).
    """
    kept = ids
    if workload.prompt == "chat" or workload.fim:
        kept = list(itertools.takewhile(lambda token: token not in ends, ids))
    text = texts.text(kept)
    ended = request.stop != "fixed" and bool(ids) and ids[-1] in ends
    if request.stop == "code" and not ended:
        code = cut(text, request.stop_texts[0])
        return (text, "length") if code is None else (code, "code")
    full = len(ids) == request.new_tokens
    return text, "length" if full and not ended else "eos"
