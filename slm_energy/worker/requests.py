"""The requests that tasks make: what a trial and its reference both send to an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slm_energy.config.groups import WorkloadConfig
from slm_energy.engines.base import Batch
from slm_energy.models.token_texts import TokenTexts
from slm_energy.scoring.stop_texts import stop_texts
from slm_energy.tasks import Task


def batches(
    tasks: Sequence[Task],
    prompts: Sequence[tuple[int, ...]],
    workload: WorkloadConfig,
    texts: TokenTexts,
    size: int,
) -> Iterator[Batch]:
    """Divide the workload into batches, in its order.

    Args:
        tasks: n tasks.
        prompts: n sequences of token ids, one per task.
        workload: how many tokens are generated, and where a request ends.
        texts: the texts of the model's tokens.
        size: requests served together.

    Raises:
        WorkloadError: `workload.stop=code` with a task that asks for no function.
    """
    code = workload.stop == "code"
    ends = tuple(stop_texts(task, workload) for task in tasks) if code else ()
    for start in range(0, len(prompts), size):
        yield Batch(
            prompts=tuple(prompts[start : start + size]),
            new_tokens=workload.new_tokens,
            stop=workload.stop,
            stop_texts=ends[start : start + size],
            token_texts=texts if code else {},
        )
