"""Which tasks each cell solved, from the scores that are stored with its trials.

Rounds with equal verdicts have equal hashes (the column `verdicts`), so that a study decoded
greedily costs one file per cell, not one per trial.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from slm_energy.analysis.result.solved import AnswerCounts
from slm_energy.analysis.stats.effect_size import Floats
from slm_energy.analysis.trials.frame import Study
from slm_energy.errors import TrackingError, one_line
from slm_energy.record import TaskScore
from slm_energy.serialization import from_plain
from slm_energy.store.artifacts import SCORES, TABLE

ReadArtifact = Callable[[str, str], str]
"""Run id and name of an artifact to its text, such as `tracking.Store.attached`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialAnswers:
    """The scores of one trial, or of all trials of a cell with the same verdicts.

    Attributes:
        scores: one per task that has tests.
        digest: of what was generated for every task; empty where that is not known.
    """

    scores: tuple[TaskScore, ...]
    digest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CellAnswers:
    """The scores of one cell.

    Attributes:
        tasks: n tasks that were scored in each of these rounds, in the workload's order.
        refused: tasks that each round served, with tests that could not be scored.
        unserved: tasks that only some rounds served: under load, what arrives in time is served.
        solved: rounds x n, 1 where the answer passed, else 0.
        rounds: the number of each of these rounds, from 1.
        shares: (n,) energy of each task relative to the mean task, by the time that it took; None
            where that is not known.
        digests: of the answers, each distinct one once; empty where one is not known.
    """

    tasks: tuple[str, ...]
    refused: int
    unserved: int
    solved: Floats
    rounds: tuple[int, ...]
    shares: Floats | None
    digests: tuple[str, ...]


def read_answers(
    raw: pd.DataFrame, read: ReadArtifact
) -> tuple[dict[str, TrialAnswers], tuple[str, ...]]:
    """Read the scores of a study.

    Args:
        raw: what `tracking.Store.frame` returns.
        read: gives the artifacts of runs.

    Returns:
        Run id to scores, for the valid trials that have any, and one line about those that could
        not be read, if any.
    """
    if "scored" not in raw:
        return {}, ()
    rows = raw[(raw["outcome"] == "valid") & (raw["scored"].fillna("") != "")]
    known = dict[tuple[str, str], TrialAnswers]()
    answers, errors = dict[str, TrialAnswers](), list[str]()
    for run, cell, verdicts in zip(rows["run_id"], rows["cell"], rows["verdicts"], strict=True):
        key = (str(cell), str(verdicts or run))
        try:
            answers[run] = known[key] = known.get(key) or _trial(str(run), read)
        except (TrackingError, ValueError) as error:  # the files were lost or damaged
            errors.append(one_line(str(error)))
    if not errors:
        return answers, ()
    lost = f"scores of {len(errors)} of {len(rows)} scored trials cannot be read: {errors[0]}"
    return answers, (lost,)


def _trial(run: str, read: ReadArtifact) -> TrialAnswers:
    scores = json.loads(read(run, SCORES))["scores"]
    return TrialAnswers(
        scores=tuple(from_plain(TaskScore, score) for score in scores), digest=_digest(run, read)
    )


def _digest(run: str, read: ReadArtifact) -> str:
    """Of what was generated; empty where the table of generations was lost."""
    try:
        table = json.loads(read(run, TABLE))
    except TrackingError:
        return ""
    task, text = (table["columns"].index(name) for name in ("task_id", "completion"))
    answers = sorted((row[task], row[text]) for row in table["data"])
    return hashlib.sha256(json.dumps(answers).encode()).hexdigest()


def by_cell(study: Study, answers: Mapping[str, TrialAnswers]) -> dict[str, CellAnswers]:
    """The scores of each cell that has any.

    Args:
        study: whose trials count.
        answers: from `read_answers`.
    """
    trials: dict[str, dict[int, TrialAnswers]] = {}
    for cell, number, own in _scored(study, answers):
        trials.setdefault(cell, {})[number] = own
    return {cell: _cell(trials[cell]) for cell in study.cells if cell in trials}


def _scored(
    study: Study, answers: Mapping[str, TrialAnswers]
) -> Iterator[tuple[str, int, TrialAnswers]]:
    """Cell, round and scores of the valid trials whose scores count (`one_tests`)."""
    valid = study.valid
    if "scored" in valid:
        valid = valid[valid["scored"].fillna("") != ""]
    for run, cell, number in zip(valid["run_id"], valid["cell"], valid["round"], strict=True):
        if run in answers:
            yield str(cell), int(number), answers[run]


def _cell(trials: Mapping[int, TrialAnswers]) -> CellAnswers:
    rows = [{score.task_id: score for score in each.scores} for each in trials.values()]
    every = tuple(dict.fromkeys(task for row in rows for task in row))
    served = [task for task in every if all(task in row for row in rows)]
    tasks = tuple(task for task in served if all(row[task].verdict != "refused" for row in rows))
    digests = sorted({each.digest for each in trials.values()})
    return CellAnswers(
        tasks=tasks,
        refused=len(served) - len(tasks),
        unserved=len(every) - len(served),
        solved=np.array([[float(row[task].solved) for task in tasks] for row in rows]),
        rounds=tuple(trials),
        shares=_shares([[row[task].time_share for task in tasks] for row in rows]),
        digests=() if "" in digests else tuple(digests),
    )


def _shares(rows: Sequence[Sequence[float | None]]) -> Floats | None:
    """Mean over rounds, relative to the mean task; None where one is unknown or all are 0."""
    known = np.array([[np.nan if share is None else share for share in row] for row in rows])
    if not known.size or np.isnan(known).any() or not (known.sum(axis=1) > 0).all():
        return None
    relative = known / known.mean(axis=1, keepdims=True)
    return np.asarray(relative.mean(axis=0))


def answer_counts(study: Study, answers: Mapping[str, TrialAnswers]) -> tuple[AnswerCounts, ...]:
    """How many answers of each cell passed or failed in which way; cells without any are absent.

    Args:
        study: whose valid trials count.
        answers: from `read_answers`.
    """
    trials: dict[str, list[TrialAnswers]] = {}
    for cell, _, own in _scored(study, answers):
        trials.setdefault(cell, []).append(own)
    return tuple(
        AnswerCounts(
            cell=cell,
            trials=len(trials[cell]),
            counts=dict(Counter(s.verdict for each in trials[cell] for s in each.scores)),
        )
        for cell in study.cells
        if cell in trials
    )
