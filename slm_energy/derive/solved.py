"""How many tasks were solved, and what a solved task cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_energy.metric_catalog.catalog import listed
from slm_energy.metric_catalog.definition import SUMS, bounds, bounds_with_gain
from slm_energy.record import TaskScore


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
