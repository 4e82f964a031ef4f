"""How many tasks were solved, and what a solved task cost. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from slm_energy.metric_catalog.catalog import listed
from slm_energy.metric_catalog.definition import SUMS, bounds, bounds_with_gain
from slm_energy.record import Generation, TaskScore


def metrics(scores: Sequence[TaskScore], values: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a trial's scores.

    Energy per solved task is that of all attempts over the number solved: each pass answers the
    same prompts with the same tokens, so it is energy per request x tasks / solved tasks. It is
    absent where none is solved, and where a task could not be scored: how many of its attempts
    would count is unknown.

    Args:
        scores: of the first pass.
        values: the trial's other metrics.
    """
    scored = [score for score in scores if score.verdict != "refused"]
    if not scored:
        return {}
    solved = sum(score.solved for score in scored)
    result = {
        "quality/solved_count": float(solved),
        "quality/scored_count": float(len(scored)),
        "quality/pass_at_1": solved / len(scored),
    }
    if solved and len(scored) == len(scores):
        for group in SUMS:
            figure = f"{group}/per_request_j"
            for name in (figure, *bounds(figure), *bounds_with_gain(figure)):
                if name in values:
                    new = name.replace("per_request", "per_solved")
                    result[new] = values[name] * len(scores) / solved
    return listed(result)


def is_of_scores(name: str) -> bool:
    """Whether a metric is one of `metrics`."""
    counts = ("quality/solved_count", "quality/scored_count", "quality/pass_at_1")
    return name in counts or name.split("/")[-1].startswith("per_solved")


def with_time_shares(
    scores: Sequence[TaskScore], generations: Iterable[Generation]
) -> list[TaskScore]:
    """The scores with each task's share in the time of the serve window (`time_shares`)."""
    shares = time_shares(generations)
    return [dataclasses.replace(s, time_share=shares.get(s.task_id)) for s in scores]


def time_shares(generations: Iterable[Generation]) -> dict[str, float]:
    """Share of each task in the time that the serve window spent on requests, over all passes.

    A request is in progress from its start to its last token. At each moment the time is divided
    equally among the requests in progress: those of a batch, or those that a server serves at once.
    Time in which none is in progress belongs to no task.

    Args:
        generations: every request of the window.

    Returns:
        Task id to its share; they sum to 1. Empty where no request took any time.
    """
    spans = [(g.task_id, g.start_ns, max((g.start_ns, *g.token_ns))) for g in generations]
    changes = Counter[int]()
    for _, start_ns, end_ns in spans:
        changes[start_ns] += 1
        changes[end_ns] -= 1
    # What a request that is in progress all the time would have got, up to each moment.
    portion_ns, total_ns, active, before_ns = dict[int, float](), 0.0, 0, 0
    for at_ns, change in sorted(changes.items()):
        if active:
            total_ns += (at_ns - before_ns) / active
        portion_ns[at_ns] = total_ns
        active, before_ns = active + change, at_ns
    by_task = defaultdict[str, list[float]](list)
    for task_id, start_ns, end_ns in spans:
        by_task[task_id].append(portion_ns[end_ns] - portion_ns[start_ns])
    all_ns = math.fsum(part for parts in by_task.values() for part in parts)
    return {task: math.fsum(parts) / all_ns for task, parts in by_task.items()} if all_ns else {}
